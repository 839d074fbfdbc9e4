"""Options of all tests, and the signals that they begin with."""

from __future__ import annotations

import signal

import pytest

# A shell starts what it runs in the background with SIGINT ignored, and Python leaves it so, in children, too. Tests
# that stop a process as Ctrl-C does must not depend on how they were started.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--long", action="store_true", help="also what takes minutes, and many more inputs of fuzz tests")

"""Fuzz tests: a few inputs in each run of the tests, many with `--long`. No input may take long, wherever it fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

CPU_SECONDS_MAX = 2.0
"""Most processor time of one input. Not time on the clock, which depends on what else the machine does."""


def fuzz(
    request: pytest.FixtureRequest, check: Callable[[Any], None], inputs: SearchStrategy[Any], *, short: int, long: int
) -> None:
    """Call `check` with `short` inputs, or with `long` ones if the tests run with `--long`."""

    def timed(value: Any) -> None:
        began = time.process_time()
        check(value)
        assert time.process_time() - began < CPU_SECONDS_MAX

    count = long if request.config.getoption("--long") else short
    settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
        given(inputs)(timed)
    )()


def fuzz_by_seeds(
    request: pytest.FixtureRequest,
    check: Callable[[Any], None],
    make: Callable[[random.Random], Any],
    *,
    short: int,
    long: int,
) -> None:
    """As `fuzz`, by inputs that `make` draws from a generator of random numbers: five times as many in the same time,
    which are not made smaller when one fails."""
    count = long if request.config.getoption("--long") else short
    first = random.SystemRandom().randrange(2**32)
    for seed in range(first, first + count):
        value = make(random.Random(seed))
        began = time.process_time()
        try:
            check(value)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {value!r:.2000}") from error
        assert time.process_time() - began < CPU_SECONDS_MAX, f"seed {seed}: {value!r:.2000}"

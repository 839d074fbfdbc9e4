"""Who commands, as events tell."""

from __future__ import annotations

import getpass
import socket


def actor() -> str:
    """user@host."""
    return f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return "unknown"

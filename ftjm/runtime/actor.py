"""The actor of a command: the user who sent it, as commands and events name them."""

from __future__ import annotations

import getpass
import socket


def actor() -> str:
    """The user of this process and its host, as `user@host`."""
    name = f"{_user()}@{socket.gethostname()}"
    return name.encode(errors="replace").decode()  # a user's name comes from the environment, in any bytes


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return "unknown"

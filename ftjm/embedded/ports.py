"""Ports for a Kafka that somebody starts for a while: free ones, below those that the kernel gives to clients."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

from ftjm.embedded import broker
from ftjm.errors import FtjmError

FIRST, END, STEP = 21_000, 32_000, 20
BROKERS_MAX = 3


def free_base_port(further: int = 0) -> int:
    """The first of free ports for up to three brokers, their quorum, and so many `further` ones from the 20th on.

    No other caller is given any of them before this process has ended. Raises FtjmError if none are found.
    """
    for _ in range(100):
        base = random.randrange(FIRST, END - further, STEP)  # noqa: S311  (spreads, and hides nothing)
        wanted = (*range(BROKERS_MAX), *range(10, 10 + BROKERS_MAX), *range(STEP, STEP + further))
        if _free(base + port for port in wanted) and _claim(range(base, base + STEP + further, STEP)):
            return base
    raise FtjmError(f"free ports between {FIRST} and {END}", "none", "stop what holds them")


def _free(ports: Iterable[int]) -> bool:
    try:
        for port in ports:
            broker.require_free_port(port, patience_seconds=0)
    except FtjmError:
        return False
    return True


def _claim(bases: Iterable[int]) -> bool:
    """Make all of these this process's until it ends; False, and none is, where some are somebody's.

    Ports look free until Java holds them a second later, and while a broker that was killed is down.
    """
    claims: list[socket.socket] = []
    for base in bases:
        claims.append(socket.socket(socket.AF_UNIX))
        try:
            # A name that is no file, known where the ports are (in this network namespace), and gone with its process.
            claims[-1].bind(f"\0ftjm-ports-{base}")
        except OSError:
            for claim in claims:
                claim.close()
            return False
    for claim in claims:
        claim.detach()
    return True

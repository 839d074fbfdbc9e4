"""Ports for a Kafka that somebody starts for a while: free ones, below those that the kernel gives to clients."""

from __future__ import annotations

import random

from ftjm.embedded import broker
from ftjm.errors import FtjmError

FIRST, END, STEP = 21_000, 32_000, 20
BROKERS_MAX = 3


def free_base_port(further: int = 0) -> int:
    """The first of free ports for up to three brokers, their quorum, and so many `further` ones from the 20th on.

    Raises FtjmError if none are found.
    """
    for _ in range(100):
        base = random.randrange(FIRST, END - further, STEP)  # noqa: S311  (spreads, and hides nothing)
        wanted = (*range(BROKERS_MAX), *range(10, 10 + BROKERS_MAX), *range(STEP, STEP + further))
        try:
            for port in wanted:
                broker.require_free_port(base + port, patience_seconds=0)
        except FtjmError:
            continue
        return base
    raise FtjmError(f"free ports between {FIRST} and {END}", "none", "stop what holds them")

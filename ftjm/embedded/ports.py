"""Ports for a Kafka that somebody starts for a while: free ones, below those that the kernel gives to clients."""

from __future__ import annotations

import random

from ftjm.embedded import broker
from ftjm.errors import FtjmError

FIRST, END, STEP = 21_000, 32_000, 20
BROKERS_MAX = 3


def free_base_port() -> int:
    """The first of free ports for up to three brokers and their quorum. Raises FtjmError if none are found."""
    for _ in range(100):
        base = random.randrange(FIRST, END, STEP)  # noqa: S311  (spreads, and hides nothing)
        try:
            for port in (*range(base, base + BROKERS_MAX), *range(base + 10, base + 10 + BROKERS_MAX)):
                broker.require_free_port(port, patience_seconds=0)
        except FtjmError:
            continue
        return base
    raise FtjmError(f"free ports between {FIRST} and {END}", "none", "stop what holds them")

"""Free ports for a Kafka that runs for a while, as tests and benchmarks start it.

They lie below the range from which the kernel gives ports to clients.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

from ftjm.local import broker
from ftjm.runtime.errors import FtjmError

FIRST, END, STEP = 21_000, 32_000, 20
BROKERS_MAX = 3


def free_base_port(further: int = 0) -> int:
    """The first of a range of free ports. No other caller gets any of them before this process has ended.

    The range has ports for up to three brokers (from 0), for their quorum (from 10), and `further` ones (from 20).

    Args:
        further: How many ports are needed beside those of the brokers.

    Raises:
        FtjmError: No free range was found.
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
    """Reserve these ranges for this process until it ends. Returns False, and reserves none, if one is taken.

    A free port is not enough: ports look free until Java binds them a second later, and while a killed broker is down.
    """
    claims: list[socket.socket] = []
    for base in bases:
        claims.append(socket.socket(socket.AF_UNIX))
        try:
            # An abstract socket: no file, visible in this network namespace as ports are, and gone with its process.
            claims[-1].bind(f"\0ftjm-ports-{base}")
        except OSError:
            for claim in claims:
                claim.close()
            return False
    for claim in claims:
        claim.detach()
    return True

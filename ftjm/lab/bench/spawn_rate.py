"""How fast this machine starts processes (`true`, one after another, from Python). Commands are compared with it."""

from __future__ import annotations

import os
import shutil
import time

COUNT = 500
"""Processes of one measurement: about a second."""


def measure(count: int = COUNT) -> float:
    """Start `true` and wait for its end, `count` times. Return how many that were per second.

    `posix_spawn` is the cheapest way that the system has, and costs the same from a large process as from a small one.
    """
    program = shutil.which("true")
    assert program is not None, "POSIX has it"
    began = time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(program, ["true"], os.environ), 0)
    return count / (time.perf_counter() - began)

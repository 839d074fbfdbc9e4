"""Tasks that the tests run on real workers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import ftjm

HERE = os.getpid()


@ftjm.task
def nothing() -> None:
    """Do nothing: shows what a task costs by itself."""


@ftjm.task(isolated=True)
def nothing_alone() -> None:
    """Do nothing, in a process of its own."""


@ftjm.task(backoff={"initial": "10ms"})
def waits_for(mark: str, goes_on: str) -> list[object]:
    """Wait for a file. Return the pid, the attempt's number and the restored checkpoint."""
    begun = ftjm.attempt().checkpoint
    ftjm.checkpoint({"pid": os.getpid()})
    Path(mark).write_text(f"{os.getpid()}\n")
    while not Path(goes_on).exists():
        time.sleep(0.01)
    return [os.getpid(), ftjm.attempt().attempt, begun]


@ftjm.task(timeout="2m")
def resize(path: str, width: int) -> dict[str, object]:
    return {"path": path, "width": width}


@ftjm.task
def who() -> list[int]:
    return [HERE, os.getpid()]


@ftjm.task(backoff={"initial": "10ms"})
def fails_until(attempt: int) -> int:
    print("attempt", ftjm.attempt().attempt)
    if ftjm.attempt().attempt < attempt:
        raise ValueError(f"not before attempt {attempt}")
    return ftjm.attempt().attempt


@ftjm.task(max_attempts=1)
def large(size: int) -> str:
    return "x" * size


@ftjm.task(cancel_grace="1s")
def sleeps(mark: str) -> None:
    Path(mark).write_text(f"{os.getpid()}\n")
    time.sleep(600)


@ftjm.task
def rests(seconds: float) -> None:
    time.sleep(seconds)


@ftjm.task
def counts(mark: str, to: int) -> list[int]:
    """Count on from the checkpoint of an earlier attempt. The first attempt waits to be killed."""
    begun = ftjm.attempt().checkpoint or {"done": 0}
    for number in range(begun["done"], to):
        ftjm.checkpoint({"done": number + 1})
        ftjm.progress((number + 1) / to, f"{number + 1} of {to}")
        if number == to // 2 and begun["done"] == 0:
            Path(mark).write_text(f"{os.getpid()}\n")
            time.sleep(600)
    return [begun["done"], to]

"""The app of the workers of a run: Python tasks that record when they run, as commands do (`recorder.py`).

They run in kept processes, one after the other, but for `record_alone`. Some end their process, some leave a process
behind that goes on recording, and some do not stop when they are told to.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ftjm
from ftjm.lab.chaos.recorder import RunRecord

CLEANING_SECONDS = 0.1
LEFT_SECONDS = 60.0
"""How long a process that was left behind records, if it is not killed. Another attempt of the job then overlaps it."""


class WrongCheckpointError(Exception):
    """An attempt was given a checkpoint that no earlier attempt of its run has left."""


@contextmanager
def _recording(marks: str) -> Iterator[RunRecord]:
    record = RunRecord(marks)
    try:
        yield record
    except ftjm.Stopped:
        record.run(CLEANING_SECONDS)
        raise
    finally:
        record.close()


def _end(status: int, failures: int) -> str:
    attempt = ftjm.attempt()
    if attempt.attempt <= failures:
        raise RuntimeError(f"attempt {attempt.attempt} was told to fail")
    if status:
        sys.exit(status)
    return f"{attempt.run_key}/{attempt.attempt}"


@ftjm.task
def record(marks: str, seconds: float, status: int, failures: int) -> str:
    """Record for some seconds. The first `failures` attempts raise, later ones end with `status`."""
    with _recording(marks) as recorded:
        recorded.run(seconds)
        recorded.finish()
    return _end(status, failures)


@ftjm.task(isolated=True)
def record_alone(marks: str, seconds: float, status: int, failures: int) -> str:
    """Do the same in a process of its own."""
    return record.run(marks, seconds, status, failures)


@ftjm.task
def crash(marks: str, seconds: float, status: int, failures: int) -> str:
    """End the process in the first `failures` attempts: by SIGKILL, or with `status` if that is not 0."""
    with _recording(marks) as recorded:
        recorded.run(seconds)
        if ftjm.attempt().attempt <= failures:
            if status:
                os._exit(status)
            os.kill(os.getpid(), signal.SIGKILL)
        recorded.finish()
    return _end(0, 0)


@ftjm.task
def leave(marks: str, seconds: float, status: int, failures: int) -> str:
    """Leave a process behind, in a session of its own, that records on in the attempt's file."""
    with _recording(marks) as recorded:
        recorded.run(seconds)
        recorded.finish()
        if os.fork() == 0:
            try:
                os.setsid()
                recorded.run(LEFT_SECONDS)
            finally:
                os._exit(0)
    return _end(status, failures)


@ftjm.task
def resume(marks: str, seconds: float, status: int, failures: int) -> str:
    """Leave a checkpoint after each tenth of the time, and go on where an earlier attempt of the run has stopped."""
    attempt = ftjm.attempt()
    before = attempt.checkpoint or {"run_key": attempt.run_key, "attempt": 0, "done": 0}
    if before["run_key"] != attempt.run_key or before["attempt"] >= attempt.attempt:
        raise WrongCheckpointError(f"found {before} in attempt {attempt.attempt} of {attempt.run_key}")
    with _recording(marks) as recorded:
        for done in range(before["done"], 10):
            recorded.run(seconds / 10)
            ftjm.checkpoint({"run_key": attempt.run_key, "attempt": attempt.attempt, "done": done + 1})
        recorded.run(0)
        recorded.finish()
    return _end(status, failures)


@ftjm.task
def ignore_stop(marks: str, seconds: float, status: int, failures: int) -> str:
    """Go on when it is told to stop, until the process is killed."""
    record = RunRecord(marks)
    while True:
        try:
            record.run(seconds)
            record.finish()
        except ftjm.Stopped:
            continue
        break
    record.close()
    return _end(status, failures)

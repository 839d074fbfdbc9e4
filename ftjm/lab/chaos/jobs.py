"""The jobs of a run, commands and Python tasks: a pure function of the seed.

Each kind of job has a weight and its fields. Half of the jobs of most kinds are commands, the others Python tasks that
do the same (`tasks.py`); some kinds are what only a task can do. Every few seconds, a crowd of very short tasks is
submitted at once, so that workers hold work at hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from ftjm.core.state.model import JobState
from ftjm.lab.chaos import recorder
from ftjm.lab.checker import JobName

APP = "ftjm.lab.chaos.tasks"
PER_SECOND = 12.0
CROWD_SECONDS = 6.0
"""Mean time between two crowds."""
CROWD = (20, 40)
"""Least and largest number of jobs of a crowd. A worker asks for work at hand once its newest attempts were short."""
LOSSES_MAX = 10_000
"""No job may fail because of lost workers, since the run loses workers on purpose."""
ATTEMPTS_MAX = 10_000
"""No task that shall succeed may fail because its process was killed, which counts as a failure of the task."""
PYTHON_BACKOFF = {"initial": "200ms", "max": "1s"}
AS_TASK = 0.5
KEYED, SHARED = 0.2, 0.3

S, F, C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED


class PlannedJob(msgspec.Struct, frozen=True):
    """One job, and the requests of its user."""

    at_seconds: float
    fields: dict[str, Any]
    """The fields of the job, as in a file for `ftjm submit -f`."""
    ends: frozenset[JobState]
    """States in which the job may end."""
    cancel_after: float = -1.0
    """Time of the request in seconds after the submission; negative for none. The same for the next two."""
    release_after: float = -1.0
    rerun_after: float = -1.0
    """A rerun is sent twice with the same command id."""
    submit_twice: bool = False
    by_http: bool = False

    @property
    def name(self) -> JobName:
        """Queue and id of the job."""
        return self.fields["queue"], self.fields["job_id"]

    @property
    def is_task(self) -> bool:
        """Whether it is a Python task."""
        return "task" in self.fields


def jobs(seed: int, duration_seconds: float, queues: Sequence[str], marks: Path) -> list[PlannedJob]:
    """Return all jobs of a run, in the order in which they are submitted.

    Args:
        marks: directory in which the jobs record when they run.
    """
    draw = Random(f"load {seed}")  # noqa: S311  (a seed is meant to be repeated)
    found: list[PlannedJob] = []
    at = 0.0
    while (at := at + draw.expovariate(PER_SECOND)) < duration_seconds:
        kind = draw.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
        found.append(_planned(draw, kind, len(found), at, draw.choice(queues), marks))
    crowds = Random(f"crowds {seed}")  # noqa: S311
    found += _crowds(crowds, duration_seconds, queues, marks)
    return sorted(found, key=lambda job: job.at_seconds)


def _crowds(draw: Random, duration_seconds: float, queues: Sequence[str], marks: Path) -> Iterator[PlannedJob]:
    at, number = 0.0, 0
    while (at := at + draw.expovariate(1 / CROWD_SECONDS)) < duration_seconds:
        queue = draw.choice(queues)
        for _ in range(draw.randint(*CROWD)):
            number += 1
            fields = {"queue": queue, "job_id": f"crowd-{number}", **_task("record", marks, 0.0, 0, 0), **_survives()}
            yield PlannedJob(round(at, 3), fields, frozenset({S}))


def _planned(draw: Random, kind: str, number: int, at: float, queue: str, marks: Path) -> PlannedJob:
    name = {"queue": queue, "job_id": f"{kind}-{number}", "priority": draw.choice((20, 50, 50, 80))}
    options = _KINDS[kind][1](draw)
    user = ("ends", "cancel_after", "release_after", "rerun_after")
    planned = {key: options.pop(key) for key in user if key in options}
    arguments = options.pop("seconds"), options.pop("status", 0), options.pop("failures", 0)
    task = options.pop("task", "")
    if task or draw.random() < AS_TASK:
        runs = _task(task or "record", marks, *arguments)
        options |= {} if F in planned["ends"] else _survives()
    else:
        # This interpreter, without the site module, which takes time at each start.
        program = [sys.executable, "-I", "-S", recorder.__file__]
        runs = {"command": [*program, str(marks), *map(str, arguments)]}
    fields = name | runs | {"worker_losses_max": LOSSES_MAX} | options | _shares_and_keys(draw)
    twice, by_http = draw.random() < 0.05, draw.random() < 0.2
    # Later requests for a job must arrive after its submission, so both go through the Python client.
    by_http = by_http and planned.keys() == {"ends"}
    return PlannedJob(round(at, 3), fields, **planned, submit_twice=twice, by_http=by_http)


def _shares_and_keys(draw: Random) -> dict[str, Any]:
    """Some jobs share a concurrency key with others, and some are of a share of their queue."""
    found: dict[str, Any] = {"concurrency_key": f"key-{draw.randint(1, 5)}"} if draw.random() < KEYED else {}
    return found | ({"share_identifier": draw.choice(("a", "b"))} if draw.random() < SHARED else {})


def _task(name: str, marks: Path, seconds: float, status: int, failures: int) -> dict[str, Any]:
    return {"task": f"{APP}.{name}", "args": [str(marks), seconds, status, failures]}


def _survives() -> dict[str, Any]:
    """Return the fields of a task that ends only by its success."""
    return {"worker_losses_max": LOSSES_MAX, "max_attempts": ATTEMPTS_MAX, "backoff": PYTHON_BACKOFF}


def _seconds(draw: Random, shortest: float, longest: float) -> float:
    return round(draw.uniform(shortest, longest), 3)


Kind = Callable[[Random], dict[str, Any]]
_KINDS: dict[str, tuple[int, Kind]] = {
    "quick": (10, lambda draw: {"seconds": _seconds(draw, 0, 0.2), "ends": {S}}),
    "long": (4, lambda draw: {"seconds": _seconds(draw, 0.3, 2), "ends": {S}}),
    "patient": (
        2,
        lambda draw: {"seconds": _seconds(draw, 0.3, 2), "disconnect": {"continue_for": "10s"}, "ends": {S}},
    ),
    "flaky": (
        3,
        lambda draw: {
            "seconds": _seconds(draw, 0, 0.2),
            "failures": draw.randint(1, 2),
            "max_attempts": 4,
            "backoff": {"initial": "200ms"},
            "ends": {S},
        },
    ),
    "failing": (
        1,
        lambda _: {"seconds": 0.05, "status": 3, "max_attempts": 2, "backoff": {"initial": "200ms"}, "ends": {F}},
    ),
    "hanging": (
        1,
        lambda _: {"seconds": 60, "timeout": "400ms", "cancel_grace": "1s", "max_attempts": 1, "ends": {F}},
    ),
    "late": (1, lambda _: {"seconds": 60, "deadline": "2s", "cancel_grace": "1s", "ends": {F}}),
    "delayed": (2, lambda draw: {"seconds": 0.05, "delay": f"{draw.randint(200, 3_000)}ms", "ends": {S}}),
    "cancelled": (
        2,
        lambda draw: {"seconds": _seconds(draw, 0.5, 3), "cancel_after": _seconds(draw, 0, 2), "ends": {S, C}},
    ),
    "rerun": (1, lambda draw: {"seconds": 0.05, "rerun_after": _seconds(draw, 1, 6), "ends": {S}}),
    # When its worker is lost, a strict job fails, and a watched job is held until it is cancelled.
    "strict": (1, lambda draw: {"seconds": _seconds(draw, 0.3, 2), "on_worker_loss": "fail", "ends": {S, F}}),
    "watched": (
        1,
        lambda draw: {
            "seconds": _seconds(draw, 0.3, 2),
            "on_worker_loss": "hold",
            "cancel_after": _seconds(draw, 6, 9),
            "ends": {S, C},
        },
    ),
    "held": (1, lambda draw: {"seconds": 0.05, "hold": True, "release_after": _seconds(draw, 0.1, 2), "ends": {S}}),
    # Python tasks only.
    "crashing": (
        1,
        lambda draw: {
            "task": "crash",
            "seconds": _seconds(draw, 0, 0.2),
            "status": draw.choice((0, 7)),
            "failures": draw.randint(1, 2),
            "ends": {S},
        },
    ),
    "leaving": (
        1,
        lambda draw: {
            "task": "leave",
            "seconds": _seconds(draw, 0, 0.2),
            "failures": draw.randint(0, 1),
            "ends": {S},
        },
    ),
    "resuming": (1, lambda draw: {"task": "resume", "seconds": _seconds(draw, 1, 3), "ends": {S}}),
    "stubborn": (
        1,
        lambda _: {
            "task": "ignore_stop",
            "seconds": 60,
            "timeout": "400ms",
            "cancel_grace": "300ms",
            "max_attempts": 1,
            "ends": {F},
        },
    ),
    "isolated": (1, lambda draw: {"task": "record_alone", "seconds": _seconds(draw, 0, 0.2), "ends": {S}}),
}
"""Kinds of jobs: how often each is drawn, and its fields."""

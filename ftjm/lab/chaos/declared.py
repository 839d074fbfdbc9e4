"""What the users of a run declare: queues with limits, and schedules. A pure function of the seed.

Every second queue is declared, and declared anew with other limits in the middle of the run. Each queue has a schedule,
and one of them a window, which are deleted at the end, so that all jobs end. A worker is cordoned for a while.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from ftjm.core.records.commands import (
    ApplyQueue,
    ApplyResource,
    ApplySchedule,
    BulkJobs,
    Command,
    DeleteResource,
    DeleteSchedule,
    PauseQueue,
    ResumeQueue,
)
from ftjm.core.state.model import JobSpec
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.core.state.queues import QueueSpec, Share
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.core.state.schedules import CatchUp, Overlap, ScheduleSpec
from ftjm.core.state.windows import OnClose, WindowEffect, WindowSpec
from ftjm.lab.chaos import recorder
from ftjm.lab.chaos.jobs import LOSSES_MAX

SCHEDULE = "ticks"
CORDONED = "worker-0"
PAUSE_SECONDS = 2.0
HOLD_SECONDS = 1.0

Timed = tuple[float, Command]
"""A command, and when it is sent, seconds after the begin of the run."""


def declarations(seed: int, duration_seconds: float, queues: Sequence[str], marks: Path) -> list[Timed]:
    """Return all commands of a run that are not about single jobs, in the order in which they are sent.

    Args:
        marks: directory in which the jobs record when they run.
    """
    draw = Random(f"declared {seed}")  # noqa: S311  (a seed is meant to be repeated)
    found = [one for number, queue in enumerate(queues) for one in _of(draw, queue, number, duration_seconds, marks)]
    found += _of_all(draw, queues, duration_seconds)
    return sorted(found, key=lambda one: one[0])


def _of(draw: Random, queue: str, number: int, seconds: float, marks: Path) -> Iterator[Timed]:
    if number % 2 == 0:
        yield 0.0, ApplyQueue(queue=queue, spec=_limits(draw))
        yield seconds / 2, ApplyQueue(queue=queue, spec=_limits(draw))
    yield 0.0, ApplySchedule(queue=queue, name=SCHEDULE, spec=_schedule(draw, marks))
    yield seconds, DeleteSchedule(queue=queue, name=SCHEDULE)
    pause = draw.uniform(0, max(0.0, seconds - PAUSE_SECONDS))
    yield pause, PauseQueue(queue=queue, reason="chaos")
    yield pause + PAUSE_SECONDS, ResumeQueue(queue=queue)
    hold = draw.uniform(0, max(0.0, seconds - HOLD_SECONDS))
    for at, action in ((hold, BulkAction.HOLD), (hold + HOLD_SECONDS, BulkAction.RELEASE)):
        yield at, BulkJobs(queue=queue, command_id=f"chaos-{action}", action=action, filter=JobFilter())


def _of_all(draw: Random, queues: Sequence[str], seconds: float) -> Iterator[Timed]:
    """A window in which one queue starts nothing for some seconds of each minute, and perhaps stops what runs; and a
    worker that is cordoned for a while."""
    window = WindowSpec(
        cron="* * * * *",
        duration_ms=5_000,
        effect=WindowEffect.DENY,
        queues=[draw.choice(queues)],
        on_close=draw.choice(list(OnClose)),
    )
    yield 0.0, ApplyResource(kind=ResourceKind.WINDOW, name="quiet", spec=ResourceSpec(window=[window]))
    yield seconds, DeleteResource(kind=ResourceKind.WINDOW, name="quiet")
    cordon = draw.uniform(0, max(0.0, seconds - PAUSE_SECONDS))
    yield (
        cordon,
        ApplyResource(kind=ResourceKind.CORDON, name=CORDONED, spec=ResourceSpec(cordon=[CordonSpec("chaos")])),
    )
    yield cordon + PAUSE_SECONDS, DeleteResource(kind=ResourceKind.CORDON, name=CORDONED)


def _limits(draw: Random) -> QueueSpec:
    per_s = draw.randint(10, 40)
    return QueueSpec(
        concurrency=draw.randint(3, 8),
        rate_limit=per_s,
        rate_per_ms=1_000,
        rate_burst=draw.randint(2, 10),
        ageing_ms=draw.choice((200, 1_000, 60_000)),
        weight=draw.randint(1, 4),
        key_concurrency=draw.randint(1, 2),
        shares=[Share("a", 1), Share("b", 3)],
        half_life_ms=10_000,
    )


def _schedule(draw: Random, marks: Path) -> ScheduleSpec:
    # This interpreter, without the site module, which takes time at each start.
    program = [sys.executable, "-I", "-S", recorder.__file__, str(marks), str(draw.choice((0.0, 0.1, 1.5))), "0", "0"]
    return ScheduleSpec(
        job=JobSpec(command=program, worker_losses_max=LOSSES_MAX),
        every_ms=draw.choice((1_000, 2_000)),
        overlap=draw.choice((Overlap.ALLOW, Overlap.FORBID, Overlap.QUEUE)),
        catch_up=draw.choice((CatchUp.LATEST, CatchUp.ALL)),
        starting_deadline_ms=draw.choice((1_000, 300_000)),
        jitter_ms=draw.choice((0, 300)),
    )

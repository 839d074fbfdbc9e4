"""The jobs that a schedule makes: their ids, what they find in their environment, and when they start."""

from hashlib import blake2b

import msgspec

from ftjm.core.state.model import TERMINAL, JobSpec, job_key
from ftjm.core.state.schedules import Schedule, ScheduleSpec
from ftjm.core.state.view import StateView
from ftjm.core.utc import compact_time, iso_time

VARIABLES = ("FTJM_SCHEDULE", "FTJM_SCHEDULED_AT", "FTJM_INTERVAL_START", "FTJM_INTERVAL_END")
"""Variables that a firing adds to its job's environment: the schedule's name, the instant, and begin and end of the
data interval, in UTC."""


def firing_id(name: str, instant: int) -> str:
    """Id of the job of an instant: `nightly.20261129T013000Z`. Jitter does not change it."""
    return f"{name}.{compact_time(instant)}"


def request_id(name: str, command_id: str) -> str:
    """Id of the job of a request: `nightly.now.COMMAND_ID`."""
    return f"{name}.now.{command_id}"


def job_spec(spec: ScheduleSpec, name: str, instant: int, start: int, jitter_ms: int = 0) -> JobSpec:
    """The template as it is submitted for an instant.

    Args:
        start: begin of the data interval; the instant is its end.
        jitter_ms: how much later the job starts.
    """
    values = (name, iso_time(instant), iso_time(start), iso_time(instant))
    return msgspec.structs.replace(
        spec.job,
        environment=spec.job.environment | dict(zip(VARIABLES, values, strict=True)),
        start_at=instant + jitter_ms if jitter_ms else 0,
    )


def jitter(spec: ScheduleSpec, key: str, instant: int) -> int:
    """How much later than its instant a job starts, ms: drawn evenly from 0 to `jitter_ms`.

    The draw is a hash of the schedule's key and the instant, so that every process draws the same.
    """
    draw = blake2b(f"{key}/{instant}".encode(), digest_size=8).digest()
    return int.from_bytes(draw) % (spec.jitter_ms + 1)


def is_under_way(state: StateView, queue: str, name: str, schedule: Schedule) -> bool:
    """Whether the job of the last firing has not ended. (One that was submitted under its id later is another job.)"""
    job = state.job(job_key(queue, schedule.last_job)) if schedule.last_job else None
    return job is not None and job.schedule == name and job.state not in TERMINAL

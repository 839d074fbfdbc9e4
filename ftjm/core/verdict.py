"""What a decision is made by, and what it may be."""

from typing import Any

import msgspec

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.model import Job


class Policy(msgspec.Struct, frozen=True):
    """The settings of the cluster that decisions depend on."""

    partition: int
    partitions: int
    retention_ms: int = 7 * 86_400_000
    """How long ended jobs are kept if they do not say."""
    inline_bytes_max: int = 256 * 1024
    """For a payload, a result, and each output."""
    overload: str = ""
    """Why no new job is taken just now."""


class Rejected(msgspec.Struct, frozen=True):
    """A refusal: `code` for programs, `text` for people ("expected …, but …")."""

    code: str
    text: str


Events = list[e.Event]


def named(command: c.Command | e.Event) -> dict[str, Any]:
    """The envelope's fields that name the job of a command."""
    return {"queue": command.queue, "job_id": command.job_id, "shard_key": command.shard_key}


def about(key: str, job: Job) -> dict[str, Any]:
    """The envelope's fields that name a job that exists."""
    queue, _, job_id = key.partition("/")
    return {"queue": queue, "job_id": job_id, "run": job.run, "shard_key": job.shard_key}


def unknown(command: c.Command) -> Rejected:
    """The refusal of a command whose job does not exist."""
    return Rejected(
        "UNKNOWN_JOB",
        f"expected a job {command.queue}/{command.job_id}, but there is none; it was never submitted, or its "
        f"retention is over",
    )


def wrong_state(command: c.Command, job: Job, expected: str) -> Rejected:
    """The refusal of a command that its job's state does not allow."""
    return Rejected(
        "WRONG_STATE", f"expected {command.queue}/{command.job_id} to be {expected}, but it is {job.state.name}"
    )

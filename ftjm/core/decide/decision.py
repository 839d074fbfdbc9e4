"""The inputs of decisions beside the state, and the two forms of a decision: events, or a refusal."""

from typing import Any

import msgspec

from ftjm.core.calendar import Calendar
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import UNANNOUNCED
from ftjm.core.state.model import Job


class Members(msgspec.Struct, frozen=True):
    """The versions that every recently seen member (scheduler, worker, API) supports."""

    level: int = UNANNOUNCED
    """The lowest record level."""
    state_version: int = 0
    """The lowest version of rows among the members that read rows."""
    oldest: str = "no member that has announced its version yet"
    """The member that has the lowest level, or else the lowest version of rows: its name and its build."""


class Policy(msgspec.Struct, frozen=True):
    """The inputs of decisions beside the state: settings of the cluster, overload, members and requests."""

    partition: int
    partitions: int
    retention_ms: int = 7 * 86_400_000
    """How long an ended job is kept if its spec gives no retention, ms."""
    inline_bytes_max: int = 256 * 1024
    """Limit of a payload, of a result, and of each output, in bytes."""
    overload: str = ""
    """The reason why no new job is accepted now; empty if new jobs are accepted."""
    members: Members = Members()
    finalize: str | None = None
    """The person who requests that the upgrade to this build is final; None where there is no request."""
    served: frozenset[str] | None = None
    """Names of the queues that workers serve which take jobs; None where that is not known."""
    calendar: Calendar | None = None
    """Time zones and cron expressions. Who only folds a log needs none."""


def calendar_of(policy: Policy) -> Calendar:
    """The calendar of a process that decides."""
    assert policy.calendar is not None, "who decides needs a calendar"
    return policy.calendar


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


def conflict(kind: str, expected: int, found: int, actor: str) -> Rejected | None:
    """The refusal of a change of a declaration that was changed meanwhile; None if it was not.

    Args:
        kind: what is declared, a queue or a schedule.
        expected: the revision that the sender has seen.
        found: the revision that there is; 0 if there is none.
        actor: the person or program that made it.
    """
    if expected in (c.ANY_REVISION, found):
        return None
    there = f"revision {found}, by {actor or 'an unnamed sender'}" if found else "none"
    return Rejected(
        "CONFLICT",
        f"expected the declaration of the {kind} to be {f'revision {expected}' if expected else 'none'}, but found "
        f"{there}; it was changed meanwhile: compare again with `ftjm plan`",
    )


def wrong_state(command: c.Command, job: Job, expected: str) -> Rejected:
    """The refusal of a command that its job's state does not allow."""
    return Rejected(
        "WRONG_STATE", f"expected {command.queue}/{command.job_id} to be {expected}, but it is {job.state.name}"
    )

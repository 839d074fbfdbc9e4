"""What a history is made of, and what is said of it."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

import msgspec

from ftjm.core import events as e

Name = tuple[str, str]
"""Queue and job id."""

VIOLATIONS_KEPT_MAX = 1_000
"""Texts of a report; all are counted."""


class Entry(NamedTuple):
    """A committed record of `events`, decoded, with its place in the log."""

    partition: int
    offset: int
    event: e.Event | e.BatchClosed
    time_ms: int
    """When the log took it, by the brokers' clock."""


class Kind(StrEnum):
    """What a violation is one of."""

    LOST = "lost"
    """A job without a trace, a job that never ends, a command that nobody answered."""
    DOUBLED = "doubled"
    """Two outcomes of an attempt, two successes of a run, two births of a job, an attempt that was started twice."""
    OVERLAPPED = "overlapped"
    """Two attempts of a job that executed at the same time."""
    UNDISPATCHED = "undispatched"
    """Something of an attempt that nobody dispatched, or that another session had."""
    TRANSITION = "transition"
    """What the table of transitions lacks."""
    END = "end"
    """A job that ended, or was tried again, as it must not."""
    ORDER = "order"
    """A dispatch out of its queue's order."""
    LIMIT = "limit"
    """More attempts than there are slots, or work for a session that was given up."""
    TIMER = "timer"
    """A timer that came too early, too late or never, or what only a timer may do and none did."""
    CAUSE = "cause"
    """What nobody wished for, and no offer or silence led to."""
    ANSWER = "answer"
    """Answers to commands that were not consumed, or do not exist; two to one, and others than were asked for."""
    CHAIN = "chain"
    """Batches, forwarded commands or numbers that do not follow one another."""


class Found(NamedTuple):
    """One violation, without its place."""

    kind: Kind
    text: str


class Report(msgspec.Struct):
    """What a history holds, and what is wrong with it."""

    jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    attempts_failed: int = 0
    attempts_lost: int = 0
    attempts_declined: int = 0
    submissions_repeated: int = 0
    commands_refused: int = 0
    batches: int = 0
    events: int = 0
    timers_judged: int = 0
    """That were asked to be in time, and that no pause would have excused."""
    violations: list[str] = []
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    """How many violations there are, by `Kind`."""

    @property
    def passed(self) -> bool:
        return not self.violations

    def blame(self, where: str, found: Found) -> None:
        """Note a violation."""
        self.kinds[found.kind] += 1
        if len(self.violations) < VIOLATIONS_KEPT_MAX:
            self.violations.append(f"{where}: {found.text}")


COUNTED: dict[type[e.Event], str] = {
    e.JobSubmitted: "jobs",
    e.AttemptSucceeded: "succeeded",
    e.JobFailed: "failed",
    e.JobCancelled: "cancelled",
    e.AttemptDispatched: "attempts",
    e.AttemptFailed: "attempts_failed",
    e.AttemptLost: "attempts_lost",
    e.AttemptDeclined: "attempts_declined",
    e.SubmissionRepeated: "submissions_repeated",
    e.CommandRejected: "commands_refused",
}
"""Which events a report counts, and as what."""

"""The records that a history consists of, and the verdict on it: counts and violations."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

import msgspec

from ftjm.core.records import events as e

JobName = tuple[str, str]
"""Queue and job id."""

VIOLATIONS_KEPT_MAX = 1_000
"""Violations that a verdict keeps as text; all are counted."""


class LogEntry(NamedTuple):
    """A committed record of the topic `events`, decoded, with its place in the log."""

    partition: int
    offset: int
    event: e.Event | e.BatchClosed
    time_ms: int
    """Time at which the brokers appended the record, by their clock."""


class ViolationKind(StrEnum):
    """Kinds of violations."""

    LOST = "lost"
    """A job without a trace, a job that never ends, or a command without an answer."""
    DOUBLED = "doubled"
    """Two outcomes of an attempt, two successes of a run, two submissions of a job, or an attempt that ran twice."""
    OVERLAPPED = "overlapped"
    """Two attempts of a job that executed at the same time."""
    UNDISPATCHED = "undispatched"
    """A report of an attempt that was never dispatched, or that was dispatched to another session."""
    TRANSITION = "transition"
    """An event that the table of transitions does not allow in the state of the job."""
    END = "end"
    """A job that ended in a way that its specification excludes, or a retry that it does not allow."""
    ORDER = "order"
    """A dispatch out of the order of its queue."""
    LIMIT = "limit"
    """More attempts than a session or a queue allows, or a dispatch to a lost session or of a paused queue."""
    TIMER = "timer"
    """A timer that fired too early, too late or never, or an event that only a timer may cause, without one."""
    CAUSE = "cause"
    """An event whose cause it must not have: no command, offer or lapsed session led to it."""
    ANSWER = "answer"
    """An answer to a command that was not consumed or does not exist, a second answer, or one that does not fit."""
    CHAIN = "chain"
    """Batches, forwarded commands or numbers that do not follow one another."""


class Violation(NamedTuple):
    """One violation, without its place in the log."""

    kind: ViolationKind
    text: str


class Verdict(msgspec.Struct):
    """Counts of what a history holds, and its violations."""

    jobs: int = 0
    fired: int = 0
    """Jobs that schedules have made."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    attempts_failed: int = 0
    attempts_lost: int = 0
    attempts_declined: int = 0
    attempts_stopped: int = 0
    """Attempts that windows have stopped."""
    submissions_repeated: int = 0
    commands_refused: int = 0
    batches: int = 0
    events: int = 0
    timers_judged: int = 0
    """Timers whose lateness was judged, and that no pause of the cluster would have excused."""
    violations: list[str] = []
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    """Number of violations of each `ViolationKind`."""

    @property
    def passed(self) -> bool:
        """Whether there are no violations."""
        return not self.violations

    def add(self, where: str, violation: Violation) -> None:
        """Count a violation, and keep its text with its place `where`."""
        self.kinds[violation.kind] += 1
        if len(self.violations) < VIOLATIONS_KEPT_MAX:
            self.violations.append(f"{where}: {violation.text}")


COUNTED: dict[type[e.Event], str] = {
    e.JobSubmitted: "jobs",
    e.ScheduleFired: "fired",
    e.AttemptSucceeded: "succeeded",
    e.JobFailed: "failed",
    e.JobCancelled: "cancelled",
    e.AttemptDispatched: "attempts",
    e.AttemptFailed: "attempts_failed",
    e.AttemptLost: "attempts_lost",
    e.AttemptDeclined: "attempts_declined",
    e.AttemptStopped: "attempts_stopped",
    e.SubmissionRepeated: "submissions_repeated",
    e.CommandRejected: "commands_refused",
}
"""The events that a verdict counts, and the field of each count."""

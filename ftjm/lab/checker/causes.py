"""The causes that each type of event may have: a command, a due timer, an offer of slots, or a lapsed session.

Some causes depend on the job's earlier events; `outcomes.py` and `partition_rules.py` judge those.
"""

from __future__ import annotations

from collections.abc import Iterator

from ftjm.core.records import events as e
from ftjm.core.state.model import StopReason
from ftjm.core.state.queues import WaitingAction
from ftjm.lab.checker.verdict import Violation, ViolationKind

COMMAND, TIMER = frozenset({e.Cause.COMMAND}), frozenset({e.Cause.TIMER})
LOSS = frozenset({e.Cause.COMMAND, e.Cause.LAPSE})
"""A worker reports the loss (command), or its session falls silent (lapse). No timer ends an attempt."""

CONTINUATION = frozenset({e.Cause.CONTINUATION})
"""A slice of a process; `bulk_requests.py`, `backfills.py` and `closures.py` judge which."""

ANOTHER_JOB = COMMAND | TIMER | CONTINUATION | LOSS
"""Whatever happens to another job of the same concurrency key."""
REPLACED = "replaced at its concurrency key by "
"""How the reason of a job begins that a newer job of its key has replaced. The newer one's key follows."""

WAITING_LIMIT = "WAITING_LIMIT"
"""The reason of a job that has waited for longer than its queue allows, or how that begins."""

CAUSES: dict[type[e.Event], frozenset[e.Cause]] = {
    **dict.fromkeys(e.EVENTS, COMMAND),
    **dict.fromkeys((e.ScheduleDelayed, e.ScheduleSkipped), TIMER),
    e.ScheduleReckoned: TIMER | CONTINUATION,
    e.SchedulesReckoned: CONTINUATION,
    **dict.fromkeys((e.JobQueued, e.JobParked, e.JobSkipped), ANOTHER_JOB),
    **dict.fromkeys((e.JobStuck, e.JobReviewed, e.WorkerForgotten, e.CommandIdForgotten), TIMER),
    e.SchedulePaused: COMMAND | TIMER | CONTINUATION,
    **dict.fromkeys((e.JobSubmitted, e.ScheduleFired), COMMAND | TIMER | CONTINUATION),
    **dict.fromkeys((e.JobReleased, e.JobRerun, e.JobPrioritized), COMMAND | CONTINUATION),
    **dict.fromkeys((e.QueueReordered, e.KeysSettled, e.BulkAdvanced, e.BackfillAdvanced), CONTINUATION),
    e.WindowStopsAdvanced: CONTINUATION,
    e.BackfillStopped: COMMAND | CONTINUATION,
    **dict.fromkeys((e.WindowTurned, e.ResourcesAsked), COMMAND | TIMER),
    e.ResourceToldAgain: TIMER | CONTINUATION,
    e.ResourcesTold: CONTINUATION,
    e.AttemptLost: LOSS,
    e.JobHeld: LOSS | CONTINUATION | TIMER,
    e.JobCancelled: LOSS | TIMER | CONTINUATION,
    e.JobFailed: LOSS | TIMER,
    e.JobForgotten: TIMER | CONTINUATION,
    e.JobStopRequested: COMMAND | TIMER | CONTINUATION,
    e.AttemptDispatched: frozenset({e.Cause.OFFER}),
    e.WorkerLost: frozenset({e.Cause.LAPSE}),
    e.UpgradeFinalized: frozenset({e.Cause.UPGRADE}),
}
"""The causes that each type of event may have."""


def check_cause(event: e.Event) -> Iterator[Violation]:
    """Judge whether the event has a cause that its type may have."""
    wanted = ANOTHER_JOB if is_replacement(event) else CONTINUATION if is_window_stop(event) else CAUSES[type(event)]
    if event.cause not in wanted:
        kind = ViolationKind.TIMER if wanted is TIMER else ViolationKind.CAUSE
        yield Violation(kind, f"expected the cause {' or '.join(sorted(wanted))}, but found {event.cause}")


def is_replacement(event: e.Event) -> bool:
    """Whether a newer job of its concurrency key ends the job."""
    if isinstance(event, e.JobStopRequested):
        return event.text.startswith(REPLACED)
    return isinstance(event, e.JobCancelled) and event.reason.startswith(REPLACED)


def is_window_stop(event: e.Event) -> bool:
    """Whether an attempt is stopped because windows say so. `closures.py` judges it."""
    return isinstance(event, e.JobStopRequested) and event.reason == StopReason.WINDOW


def follows_from_key(event: e.Event) -> bool:
    """Whether the event tells what becomes of a job at its concurrency key. `concurrency_keys.py` judges it."""
    return isinstance(event, e.JobQueued | e.JobParked | e.JobSkipped) or is_replacement(event)


def action_of(event: e.Event) -> WaitingAction | None:
    """The action of the limit that has led to the event; None if none has."""
    match event:
        case e.JobStuck():
            return WaitingAction.NOTIFY
        case e.JobFailed(reason=reason) if reason == WAITING_LIMIT:
            return WaitingAction.FAIL
        case e.JobHeld(reason=reason) if event.cause is e.Cause.TIMER and reason.startswith(WAITING_LIMIT):
            return WaitingAction.HOLD
        case _:
            return None

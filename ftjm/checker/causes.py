"""What may lead to what: a wish, a time that has come, an offer, a silence."""

from __future__ import annotations

from collections.abc import Iterator

from ftjm.checker.report import Found, Kind
from ftjm.core import events as e

COMMAND, TIMER = frozenset({e.Cause.COMMAND}), frozenset({e.Cause.TIMER})
LOSS = frozenset({e.Cause.COMMAND, e.Cause.LAPSE, e.Cause.TIMER})
"""A worker reports it, falls silent, or has been silent for so long that its session is forgotten."""

CAUSES: dict[type[e.Event], frozenset[e.Cause]] = {
    **dict.fromkeys(e.EVENTS, COMMAND),
    **dict.fromkeys((e.JobQueued, e.JobForgotten, e.WorkerForgotten, e.CommandIdForgotten), TIMER),
    **dict.fromkeys((e.AttemptLost, e.JobHeld, e.JobCancelled, e.JobFailed), LOSS),
    e.JobStopRequested: COMMAND | TIMER,
    e.AttemptDispatched: frozenset({e.Cause.OFFER}),
    e.WorkerLost: frozenset({e.Cause.LAPSE}),
}
"""Which causes an event may have. Some depend on what the job went through: those a `Life` judges."""


def caused(event: e.Event) -> Iterator[Found]:
    """Whether what happened may have had its cause."""
    wanted = CAUSES[type(event)]
    if event.cause not in wanted:
        kind = Kind.TIMER if wanted is TIMER else Kind.CAUSE
        yield Found(kind, f"expected the cause {' or '.join(sorted(wanted))}, but found {event.cause}")

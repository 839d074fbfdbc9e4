"""Limits of waiting: what happens to a job that has waited for one reason for too long.

A queue may be declared with limits, each a reason, a time and an action. A job that waits in it, READY or PENDING, is
looked at when it has waited for the time of a limit, and again whenever it has waited that long once more. If it
waits for the limit's reason then, the limit acts; if it waits for another one, nothing follows until the next look.

    since                after               2 * after
    |--------------------|-------------------|-------
    READY or PENDING     a look              a look

So a job has one timer however many limits its queue has, and is looked at once per `after` of each. A job's waiting
begins anew when it changes between PENDING and READY, since its reason changes then.

The reasons are those that `explain` gives and that the owner of the queue's partition can tell by itself (`REASONS`). A
limit without a reason acts whichever it is.
"""

from collections.abc import Iterable, Sequence

from ftjm.core.queue_gates import GATES
from ftjm.core.state.model import Job
from ftjm.core.state.queues import QueueDeclaration, WaitingLimit

CONCURRENCY_LIMIT, NO_WORKER, PRIORITY, RESOURCES = "ConcurrencyLimit", "NoWorker", "Priority", "Resources"
REASONS = (CONCURRENCY_LIMIT, *GATES, NO_WORKER, PRIORITY, RESOURCES)
"""Reasons that a limit may name."""


def limits_of(declaration: QueueDeclaration | None) -> Sequence[WaitingLimit]:
    """The limits of a queue."""
    return () if declaration is None else declaration.spec.waiting_limits


def waits_since(job: Job) -> int:
    """Since when a READY or PENDING job waits, ms."""
    return job.pending_at or job.ready_at


def next_look(limits: Iterable[WaitingLimit], since: int, now: int) -> int:
    """When a job that waits since then is looked at next, after `now`, ms; 0 if its queue has no limits."""
    looks = [since + ((now - since) // limit.after_ms + 1) * limit.after_ms for limit in limits]
    return min(looks, default=0)


def acting_limit(limits: Iterable[WaitingLimit], since: int, due_at: int, now: int, reason: str) -> WaitingLimit | None:
    """The first limit that acts on a job that waits for this reason.

    Args:
        since: since when it waits, ms.
        due_at: when it was to be looked at, ms. The look may come late: every limit that was to be looked at since is.
    """
    for limit in limits:
        is_due = (now - since) // limit.after_ms > (due_at - since - 1) // limit.after_ms
        if is_due and limit.reason in ("", reason):
            return limit
    return None


def reason_fault(limits: Iterable[WaitingLimit]) -> str:
    """The first limit whose reason no owner can tell, as text; empty if there is none."""
    for limit in limits:
        if limit.reason and limit.reason not in REASONS:
            return f"expected one of {', '.join(REASONS)}, but found {limit.reason!r}"
    return ""

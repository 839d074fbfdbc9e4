"""Whether a job may be tried again, must end, and as what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftjm.checker.report import Found, Kind
from ftjm.core import events as e
from ftjm.core.model import OnWorkerLoss, StopReason

if TYPE_CHECKING:
    from ftjm.checker.life import Life


def retried(life: Life, event: e.AttemptFailed) -> Iterator[Found]:
    """A failure, which the job's own count already has."""
    terms = life.terms
    counted = f"{life.failures} of {terms.max_attempts} attempts failed"
    yield from _once_more(event.retry_at, life.failures < terms.max_attempts, counted, life.stopping)
    if event.retry_at and not 0 <= event.retry_at - event.at <= terms.backoff(life.failures):
        text = f"expected a retry within {terms.backoff(life.failures):g} ms"
        yield Found(Kind.TIMER, f"{text}, but found it {event.retry_at - event.at} ms later")


def requeued(life: Life, event: e.AttemptLost) -> Iterator[Found]:
    """A loss, which the job's own count already has."""
    terms = life.terms
    wanted = terms.on_worker_loss == OnWorkerLoss.REQUEUE and life.losses <= terms.worker_losses_max
    counted = f"{life.losses} of {terms.worker_losses_max} losses, and then {terms.on_worker_loss}"
    yield from _once_more(event.retry_at, wanted, counted, life.stopping)
    if event.retry_at and event.retry_at - event.at != (delay := terms.loss_backoff(life.losses)):
        text = f"expected a retry {delay} ms after loss {life.losses}"
        yield Found(Kind.TIMER, f"{text}, but found it {event.retry_at - event.at} ms later")


def _once_more(retry_at: int, allowed: bool, counted: str, stopping: str) -> Iterator[Found]:
    wanted = allowed and not stopping
    why = f"{counted}{f', and a stop was asked for ({stopping})' if stopping else ''}"
    if wanted and not retry_at:
        yield Found(Kind.END, f"expected a further attempt ({why}), but found none")
    if retry_at and not wanted:
        yield Found(Kind.END, f"expected no further attempt ({why}), but found one")


def end_after(life: Life, event: e.Event) -> type[e.Event]:
    """What must follow an attempt that was the last one."""
    if life.stopping == StopReason.CANCELLED:
        return e.JobCancelled
    held = isinstance(event, e.AttemptLost) and life.terms.on_worker_loss == OnWorkerLoss.HOLD
    return e.JobHeld if held and not life.stopping else e.JobFailed


def followed(life: Life, event: e.Event) -> Iterator[Found]:
    """The event behind the last attempt's."""
    assert life.unsettled is not None
    why, wanted, cause = life.unsettled
    if type(event) is not wanted:
        yield Found(Kind.END, f"expected {wanted.__name__} to follow {why}, but found something else")
    elif (event.cause, event.cause_ref) != cause:
        text = f"expected the cause of the last attempt's end, {' '.join(cause)}"
        yield Found(Kind.CAUSE, f"{text}, but found {event.cause} {event.cause_ref}")


def by_itself(event: e.Event) -> Iterator[Found]:
    """An event that follows no attempt's end: who may have wished for it."""
    match event:
        case e.JobFailed() if event.cause is not e.Cause.TIMER:  # deadlines are judged as timers
            yield Found(Kind.END, f"expected a last attempt before it failed, but found none ({event.reason})")
        case e.JobCancelled() if event.cause is not e.Cause.COMMAND:
            yield Found(Kind.END, f"expected somebody's wish to cancel it, but found the cause {event.cause}")
        case e.JobHeld() if event.cause is not e.Cause.COMMAND:
            yield Found(Kind.CAUSE, f"expected somebody's wish to hold it, but found the cause {event.cause}")
        case e.JobStopRequested():
            if event.reason == StopReason.CANCELLED and event.cause is not e.Cause.COMMAND:
                yield Found(Kind.CAUSE, f"expected somebody's wish to stop it, but found the cause {event.cause}")
            elif event.reason == StopReason.DEADLINE and event.cause is not e.Cause.TIMER:
                yield Found(Kind.TIMER, f"expected a deadline to stop it, but found the cause {event.cause}")
        case _:
            pass

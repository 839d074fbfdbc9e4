"""Rules for the end of an attempt: whether the job is tried again, and which event must follow a last attempt.

An event that ends a last attempt (a failure without retry, a loss without retry, a decline of an attempt that was asked
to stop) leaves the job in a state that no batch may close with. The event that settles it must follow in the same
batch, with the same cause: `Unsettled` names that event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason, OnWorkerLoss, StopReason
from ftjm.lab.checker.causes import action_of, is_replacement
from ftjm.lab.checker.job_terms import JobTerms
from ftjm.lab.checker.verdict import Violation, ViolationKind


class Unsettled(NamedTuple):
    """The last attempt of a job ended; another event has to end the job in the same batch."""

    reason: str
    ends_as: type[e.Event]
    """The event that has to follow."""
    cause: tuple[e.Cause, str]
    """The cause, and its reference, that the event must name."""


def is_ending(stopping: str) -> bool:
    """Whether a job whose attempt was asked to stop for this reason gets no other attempt. Empty: it was not asked."""
    return stopping not in ("", StopReason.WINDOW)


def check_stop(stopping: str) -> Iterator[Violation]:
    """Judge whether an attempt that goes back uncharged was stopped because of windows.

    Args:
        stopping: as in `check_retry`.
    """
    if stopping != StopReason.WINDOW:
        text = "expected windows to stop an attempt before it goes back uncharged"
        yield Violation(ViolationKind.END, f"{text}, but found {stopping or 'no such request'}")


def check_retry(terms: JobTerms, failures: int, stopping: str, event: e.AttemptFailed) -> Iterator[Violation]:
    """Judge whether a failed attempt counts as a failure, whether another one follows it, and when.

    Args:
        failures: number of failed attempts of the run, this one included.
        stopping: reason of the last stop that was requested before; empty if none was.
    """
    if stopping == StopReason.WINDOW and event.reason == FailureReason.STOPPED:
        text = "expected an attempt that windows have stopped to go back uncharged"
        yield Violation(ViolationKind.END, f"{text}, but found it charged as a failure")
    counted = f"{failures} of {terms.max_attempts} attempts failed"
    allowed = failures < terms.max_attempts and event.reason != FailureReason.RESULT_REFUSED
    yield from _check_further_attempt(event.retry_at, allowed, counted, stopping)
    if event.retry_at and not 0 <= event.retry_at - event.at <= terms.backoff(failures):
        text = f"expected a retry within {terms.backoff(failures):g} ms"
        yield Violation(ViolationKind.TIMER, f"{text}, but found it {event.retry_at - event.at} ms later")


def check_requeue(terms: JobTerms, losses: int, stopping: str, event: e.AttemptLost) -> Iterator[Violation]:
    """Judge whether a lost attempt is followed by another one, and when.

    Args:
        losses: number of lost attempts of the run that count, this one included.
        stopping: as in `check_retry`.
    """
    wanted = terms.on_worker_loss == OnWorkerLoss.REQUEUE and losses <= terms.worker_losses_max
    counted = f"{losses} of {terms.worker_losses_max} losses, and then {terms.on_worker_loss}"
    yield from _check_further_attempt(event.retry_at, wanted, counted, stopping)
    if event.retry_at and event.retry_at - event.at != (delay := terms.loss_backoff(losses)):
        text = f"expected a retry {delay} ms after loss {losses}"
        yield Violation(ViolationKind.TIMER, f"{text}, but found it {event.retry_at - event.at} ms later")


def _check_further_attempt(retry_at: int, allowed: bool, counted: str, stopping: str) -> Iterator[Violation]:
    wanted = allowed and not is_ending(stopping)
    reason = f"{counted}{f', and a stop was requested ({stopping})' if stopping else ''}"
    if wanted and not retry_at:
        yield Violation(ViolationKind.END, f"expected a further attempt ({reason}), but found none")
    if retry_at and not wanted:
        yield Violation(ViolationKind.END, f"expected no further attempt ({reason}), but found one")


def event_after_last_attempt(terms: JobTerms, stopping: str, event: e.Event) -> type[e.Event]:
    """Return the event that must follow `event`, which ended the last attempt of a job."""
    if stopping == StopReason.CANCELLED:
        return e.JobCancelled
    held = isinstance(event, e.AttemptLost) and terms.on_worker_loss == OnWorkerLoss.HOLD
    return e.JobHeld if held and not is_ending(stopping) else e.JobFailed


def check_settling(unsettled: Unsettled, event: e.Event) -> Iterator[Violation]:
    """Judge the event that follows the end of a last attempt."""
    reason, wanted, cause = unsettled
    if type(event) is not wanted:
        yield Violation(ViolationKind.END, f"expected {wanted.__name__} to follow {reason}, but found something else")
    elif (event.cause, event.cause_ref) != cause:
        text = f"expected the cause of the last attempt's end, {' '.join(cause)}"
        yield Violation(ViolationKind.CAUSE, f"{text}, but found {event.cause} {event.cause_ref}")


PERSONS = frozenset({e.Cause.COMMAND, e.Cause.CONTINUATION})
"""What a person asks for: by a command about this job, or by a bulk request."""


def check_unprompted(event: e.Event) -> Iterator[Violation]:
    """Judge an event that follows no end of an attempt: only some causes may lead to it."""
    if is_replacement(event):
        return  # `concurrency_keys.py` judges it
    match event:
        case e.JobFailed() if event.cause is not e.Cause.TIMER:  # deadlines are judged as timers
            yield Violation(
                ViolationKind.END, f"expected a last attempt before it failed, but found none ({event.reason})"
            )
        case e.JobCancelled() if event.cause not in (*PERSONS, e.Cause.TIMER):  # `schedules.py` judges timers
            yield Violation(ViolationKind.END, f"expected a command to cancel it, but found the cause {event.cause}")
        case e.JobHeld() if event.cause not in PERSONS and action_of(event) is None:
            yield Violation(ViolationKind.CAUSE, f"expected a command to hold it, but found the cause {event.cause}")
        case e.JobStopRequested():
            if event.reason == StopReason.CANCELLED and event.cause not in (*PERSONS, e.Cause.TIMER):
                yield Violation(
                    ViolationKind.CAUSE, f"expected a command to stop it, but found the cause {event.cause}"
                )
            elif event.reason == StopReason.DEADLINE and event.cause is not e.Cause.TIMER:
                yield Violation(
                    ViolationKind.TIMER, f"expected a deadline to stop it, but found the cause {event.cause}"
                )
        case _:
            pass

"""A submitted job in the hands of whoever waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from ftjm.core import events as e
from ftjm.core.commands import CancelJob, SubmitJob
from ftjm.core.messages import JobOutcome
from ftjm.core.model import TERMINAL, JobState
from ftjm.jobhistory import JobView, view
from ftjm.sdk import plain
from ftjm.sdk.errors import JobCancelled, JobFailed
from ftjm.sdk.transport import Transport
from ftjm.tickets import Refused, Ticket

R = TypeVar("R")
ASK_AGAIN_SECONDS = 10.0
ASK_AGAIN_SECONDS_MAX = 600.0
DECISION_SECONDS = 30.0


class Status(msgspec.Struct, frozen=True):
    """A job as the log has it."""

    job: str
    state: str
    """A name of `JobState`, such as READY, RUNNING or SUCCEEDED."""
    run: int
    attempt: int
    reason: str
    error: str
    progress: float | None
    """0 to 1, as the job says by `ftjm.progress`."""
    text: str
    checkpoint: Any

    @property
    def ended(self) -> bool:
        return JobState[self.state] in TERMINAL


class Handle(Generic[R]):
    """One job. All of it may be called from any thread."""

    def __init__(self, transport: Transport, queue: str, job_id: str, ticket: Ticket | None = None) -> None:
        self.queue = queue
        self.job_id = job_id
        self._transport = transport
        self._ticket = ticket

    @property
    def job(self) -> str:
        """`queue/job_id`"""
        return f"{self.queue}/{self.job_id}"

    def __repr__(self) -> str:
        return f"<handle of {self.job}>"

    def result(self, timeout: float | None = None) -> R:
        """What the job has returned, once it has.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            Refused: other content under the same identity, or a job that cannot be.
            JobFailed, JobCancelled: its outcome is another.
            TimeoutError: it has not ended yet; it goes on.
        """
        outcome = self._outcome(timeout)
        if outcome.state == JobState.SUCCEEDED.name:
            value: R = plain.decode(outcome.result)
            return value
        if outcome.state == JobState.CANCELLED.name:
            raise JobCancelled(self.job, outcome.reason)
        raise JobFailed(self.job, outcome.reason or outcome.state, outcome.error, outcome.exit_code)

    def accepted(self, timeout: float | None = None) -> Handle[R]:
        """Wait for the decision alone; the handle. Raises Refused, TimeoutError."""
        ticket = self._ticket
        if ticket is not None:
            self._wait(ticket, lambda: ticket.reply is not None or ticket.outcome is not None, timeout, "be decided")
            _raise_refused(ticket)
        return self

    def cancel(self, reason: str = "", timeout: float | None = DECISION_SECONDS) -> bool:
        """Ask the job to stop; whether that was still possible: False if it has ended.

        A running one gets SIGTERM, and SIGKILL after its grace; it is cancelled once it has stopped.
        Raises Refused where there is no such job, TimeoutError.
        """
        ticket = self._transport.send(CancelJob(queue=self.queue, job_id=self.job_id, reason=reason))
        self._transport.confirm([ticket])
        if not self._transport.wait(lambda: ticket.reply is not None, timeout):
            raise TimeoutError(f"expected a decision on cancelling {self.job}; it is in the log, and will come")
        if ticket.reply is not None and ticket.reply.code == "WRONG_STATE":
            return False
        _raise_refused(ticket)
        return True

    def status(self) -> Status:
        """The job as the log has it now. Reads the log of its queue since it was submitted.

        Raises LookupError where the log does not know it.
        """
        found = view(next(self._events()))
        if found is None:
            raise LookupError(f"expected {self.job} in the log, but it is not decided yet, or was never submitted")
        return _status(found)

    def state(self) -> str:
        """The name of its state, such as READY, RUNNING or SUCCEEDED; PENDING while nobody has decided on it."""
        try:
            return self.status().state
        except LookupError:
            return JobState.PENDING.name

    def watch(self, timeout: float | None = None) -> Iterator[Status]:
        """Its status now, and whenever it changes, until it has ended. Raises TimeoutError."""
        for found in self._views(timeout):
            yield _status(found)

    def _views(self, timeout: float | None) -> Iterator[JobView]:
        end = None if timeout is None else self._transport.now() + timeout * 1000
        happened: list[e.Event] = []
        for news in self._events():
            happened += news
            found = view(happened) if news else None
            if found is not None:
                yield found
                if found.job.state in TERMINAL:
                    return
            if end is not None and self._transport.now() >= end:
                raise TimeoutError(f"expected {self.job} to end within {timeout:g} s; it goes on")

    def _events(self) -> Iterator[list[e.Event]]:
        since = self._ticket.command.sent_at if self._ticket else 0
        return self._transport.events(self.queue, self.job_id, since)

    def _outcome(self, timeout: float | None) -> JobOutcome:
        ticket = self._ticket
        if ticket is None:
            *_, last = self._views(timeout)
            return _outcome_of(last)
        if isinstance(ticket.command, SubmitJob) and not ticket.command.awaits and ticket.outcome is None:
            ticket.command.awaits = True
            self._transport.again(ticket)
        self._wait(ticket, lambda: ticket.refused or ticket.outcome is not None, timeout, "end")
        _raise_refused(ticket)
        assert ticket.outcome is not None
        return ticket.outcome

    def _wait(self, ticket: Ticket, done: Any, timeout: float | None, what: str) -> None:
        """Wait for an answer, and ask again where one may have been lost. Raises TimeoutError."""
        end = None if timeout is None else self._transport.now() + timeout * 1000
        patience = ASK_AGAIN_SECONDS
        while True:
            left = None if end is None else max(0.0, (end - self._transport.now()) / 1000)
            if self._transport.wait(done, patience if left is None else min(left, patience)):
                return
            if end is not None and self._transport.now() >= end:
                raise TimeoutError(f"expected {self.job} to {what} within {timeout:g} s; it is in the log, and goes on")
            if self._may_ask(ticket):
                self._transport.again(ticket)
            elif (found := view(next(self._events()))) is not None and found.job.state in TERMINAL:
                ticket.outcome = _outcome_of(found)
            patience = min(2 * patience, ASK_AGAIN_SECONDS_MAX)

    def _may_ask(self, ticket: Ticket) -> bool:
        """Submitting again is harmless only while the job is surely remembered: later it would be another one."""
        assert isinstance(ticket.command, SubmitJob)
        kept_ms = ticket.command.spec.retention_ms or self._transport.retention_ms
        return self._transport.now() - ticket.command.sent_at < kept_ms / 2


def _raise_refused(ticket: Ticket) -> None:
    if ticket.refused:
        assert ticket.reply is not None
        raise Refused(ticket.reply)


def _status(found: JobView) -> Status:
    job, said = found.job, found.checkpoint
    return Status(
        f"{found.queue}/{found.job_id}",
        job.state.name,
        job.run,
        job.attempt,
        job.reason,
        found.outcome.error,
        said.progress if said.progress >= 0 else None,
        said.text,
        plain.decode(said.data),
    )


def _outcome_of(found: JobView) -> JobOutcome:
    return JobOutcome(
        session="",
        correlation="",
        queue=found.queue,
        job_id=found.job_id,
        run=found.job.run,
        state=found.job.state.name,
        reason=found.job.reason,
        exit_code=found.outcome.exit_code,
        error=found.outcome.error,
        result=found.outcome.result,
    )

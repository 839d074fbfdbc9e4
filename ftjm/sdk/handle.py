"""Handles: a submitted job for the program that waits for it.

    handle = client.submit(resize("a.png", width=200))
    handle.result(timeout=30)                  # what the task returned
    for status in handle.watch():              # or: each change until the job has ended
        print(status.state)

The partition that owns the job answers the handle: first with its decision about the submission, later with the
outcome. An answer may be lost, since answers are not records of the log. So a handle that has waited for a while asks
again. A question never creates a job. If the partition does not know the job, since it has ended and was forgotten, the
handle reads its end in the log of events. `status` and `watch` always read the log. Where the job's submission was
trimmed from the log, all of them read the newest snapshot as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from ftjm.client.ticket import Refused, Ticket
from ftjm.core import json_values
from ftjm.core.records import events as e
from ftjm.core.records.commands import CancelJob
from ftjm.core.records.messages import JobOutcome
from ftjm.core.state.model import TERMINAL, JobState
from ftjm.history.jobs import JobView, view
from ftjm.readmodel.documents.job import LoggedJobDocument
from ftjm.sdk.errors import JobCancelled, JobFailed
from ftjm.sdk.transport import Transport

R = TypeVar("R")
ASK_AGAIN_SECONDS = 10.0
"""Without an answer for this long, a handle asks again; then after twice as long, and so on up to the maximum."""
ASK_AGAIN_SECONDS_MAX = 600.0
UNKNOWN = "UNKNOWN"
"""What `state` returns for a job that the log does not have."""
DECISION_SECONDS = 30.0
"""How long a decision takes at the most while partitions have owners."""
UNANSWERED = ("UNKNOWN_JOB", "UNKNOWN_FINGERPRINT")
"""Codes by which a question is refused: the partition does not know the job any more, or its owner is of an older build
that does not know questions."""

Status = LoggedJobDocument
"""A job as the log has it: the same document that the command line and HTTP show."""


class Handle(Generic[R]):
    """One job, which this program or another has submitted. All methods may be called from any thread."""

    def __init__(self, transport: Transport, queue: str, job_id: str, ticket: Ticket | None = None) -> None:
        self.queue = queue
        self.job_id = job_id
        self._transport = transport
        self._ticket = ticket

    @property
    def job(self) -> str:
        """The job's identity: `queue/job_id`."""
        return f"{self.queue}/{self.job_id}"

    def __repr__(self) -> str:
        return f"<handle of {self.job}>"

    def result(self, timeout: float | None = None) -> R:
        """Wait for the job to succeed, and return its result.

        Args:
            timeout: Seconds; None waits without a limit.

        Returns:
            What the task returned; what a command wrote as JSON to `FTJM_RESULT_FILE`, or None.

        Raises:
            Refused: The job was not accepted: its content differs from that of an existing job of the same identity, or
                a value is not valid. Or it was forgotten, and the log does not have it any more (`UNKNOWN_JOB`).
            JobFailed: It has failed, and will not be tried again.
            JobCancelled: It was cancelled.
            TimeoutError: The job has not ended yet. It continues.
        """
        outcome = self._outcome(timeout)
        if outcome.state == JobState.SUCCEEDED.name:
            value: R = json_values.decode(outcome.result)
            return value
        if outcome.state == JobState.CANCELLED.name:
            raise JobCancelled(self.job, outcome.reason)
        raise JobFailed(self.job, outcome.reason or outcome.state, outcome.error, outcome.exit_code)

    def accepted(self, timeout: float | None = None) -> Handle[R]:
        """Wait until the job is accepted, and return this handle.

        Args:
            timeout: Seconds; None waits without a limit.

        Raises:
            Refused: It was not accepted.
            TimeoutError: There is no decision yet. The submission is in the log, and the decision will come.
        """
        ticket = self._ticket
        if ticket is not None:
            self._wait(ticket, lambda: ticket.reply is not None or ticket.outcome is not None, timeout, "be decided")
            _raise_refused(ticket)
        return self

    def cancel(self, reason: str = "", timeout: float | None = DECISION_SECONDS) -> bool:
        """Cancel the job. A running attempt gets SIGTERM, and SIGKILL after its grace; then the job is cancelled.

        Args:
            reason: A text for its history.
            timeout: Seconds to wait for the decision; None waits without a limit.

        Returns:
            Whether it could still be cancelled; False if it has ended. A job that succeeds before its attempt has
            stopped is not cancelled.

        Raises:
            Refused: There is no such job.
            TimeoutError: There is no decision yet. The request is in the log, and the decision will come.
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
        """The job as the log has it now. This reads the events of its queue since the submission, so it is not cheap.

        Raises:
            LookupError: The log does not have the job: it is not decided yet, or was never submitted.
        """
        found = self._view(next(self._events()))
        if found is None:
            raise LookupError(f"expected {self.job} in the log, but it is not decided yet, or was never submitted")
        return found.document()

    def state(self) -> str:
        """The name of its state, such as READY, RUNNING or SUCCEEDED.

        PENDING while the submission of this handle is not decided. UNKNOWN if the log has no such job, for a handle
        that has not submitted it.
        """
        try:
            return self.status().state
        except LookupError:
            return UNKNOWN if self._ticket is None else JobState.PENDING.name

    def watch(self, timeout: float | None = None) -> Iterator[Status]:
        """Its status now, and at each change, until it has ended.

        Args:
            timeout: Seconds for all of it; None watches without a limit.

        Raises:
            TimeoutError: The job has not ended yet. It continues.
        """
        for found in self._views(timeout):
            yield found.document()

    def _views(self, timeout: float | None) -> Iterator[JobView]:
        end = None if timeout is None else self._transport.now() + timeout * 1000
        events: list[e.Event] = []
        for count, new_events in enumerate(self._events()):
            events += new_events
            found = self._view(events) if new_events or not count else None
            if found is not None:
                yield found
                if found.job.state in TERMINAL:
                    return
            if end is not None and self._transport.now() >= end:
                raise TimeoutError(f"expected {self.job} to end within {timeout:g} s; it goes on")

    def _view(self, events: list[e.Event]) -> JobView | None:
        return view(events) or self._transport.trimmed_job(self.queue, self.job_id, self._submitted_at)

    def _events(self) -> Iterator[list[e.Event]]:
        return self._transport.events(self.queue, self.job_id, self._submitted_at)

    @property
    def _submitted_at(self) -> int:
        """When this program submitted the job, ms; 0 if another one did."""
        return self._ticket.command.sent_at if self._ticket else 0

    def _outcome(self, timeout: float | None) -> JobOutcome:
        ticket = self._ticket
        if ticket is None:
            *_, last = self._views(timeout)
            return _outcome_of(last)
        if not ticket.awaits:
            self._transport.ask(ticket)
        self._wait(ticket, lambda: ticket.refused or ticket.outcome is not None, timeout, "end")
        _raise_refused(ticket)
        assert ticket.outcome is not None
        return ticket.outcome

    def _wait(self, ticket: Ticket, done: Any, timeout: float | None, what: str) -> None:
        """Wait until `done`, and ask if no answer comes. Raises TimeoutError."""
        end = None if timeout is None else self._transport.now() + timeout * 1000
        pause = ASK_AGAIN_SECONDS
        while True:
            left = pause if end is None else max(0.0, min(pause, (end - self._transport.now()) / 1000))
            if self._transport.wait(done, left):
                if not self._unanswered(ticket):
                    return
                self._transport.wait(lambda: ticket.outcome is not None, left)
            if end is not None and self._transport.now() >= end:
                raise TimeoutError(f"expected {self.job} to {what} within {timeout:g} s; it is in the log, and goes on")
            self._transport.ask(ticket)
            pause = min(2 * pause, ASK_AGAIN_SECONDS_MAX)

    def _unanswered(self, ticket: Ticket) -> bool:
        """Whether a question was refused although the job goes on. If the job has ended, the log has its outcome."""
        if ticket.reply is None or ticket.reply.code not in UNANSWERED:
            return False
        found = self._view(next(self._events()))
        if found is None:
            return False
        ticket.reply = None
        if found.job.state in TERMINAL:
            ticket.outcome = _outcome_of(found)
        return ticket.outcome is None


def _raise_refused(ticket: Ticket) -> None:
    if ticket.refused:
        assert ticket.reply is not None
        raise Refused(ticket.reply)


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

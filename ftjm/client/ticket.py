"""A ticket follows one command: in the log, decided, and the job's run ended."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ftjm.core.records.commands import AwaitJob, BackfillSchedule, BulkJobs, Command, RerunJob, SubmitJob
from ftjm.core.records.messages import CommandReply, JobOutcome
from ftjm.runtime.errors import FtjmError

REQUESTS = (RerunJob, BulkJobs, BackfillSchedule)
"""Commands that are named by their `command_id`."""


class Refused(FtjmError):
    """The owner of the partition has refused a command."""

    def __init__(self, reply: CommandReply) -> None:
        super().__init__(
            f"{reply.queue}/{reply.job_id} to be accepted", f"{reply.code}: {reply.text}", "look at it with `ftjm get`"
        )
        self.reply = reply


class Ticket(msgspec.Struct, eq=False):
    """The state of one command that was sent."""

    command: Command
    acknowledged: bool = False
    """Whether the replicated log has the command."""
    partition: int = -1
    offset: int = -1
    """Offset of the command in `commands`, once it is acknowledged; -1 before."""
    failure: str = ""
    """The reason why the log will never have the command; empty while it may."""
    reply: CommandReply | None = None
    """The decision; None before it is received."""
    outcome: JobOutcome | None = None
    """The outcome of the run, if it is awaited."""
    awaits: bool = False
    """Whether an outcome will come, or a refusal: the submission awaits it, or a question was sent since that does."""
    correlation: str = ""
    """The client's number for the command, which answers repeat; empty if no answer is wanted."""
    changed: Callable[[Ticket], None] | None = None
    """Called after each change, from the thread that receives it."""

    @property
    def refused(self) -> bool:
        """Whether the command was refused. A rerun, a bulk request or a backfill that was accepted before, under the
        same id, is not refused."""
        if self.reply is None or self.reply.accepted:
            return False
        return not (self.reply.code == "REPEATED" and isinstance(self.command, REQUESTS))

    @property
    def has_ended(self) -> bool:
        """Whether the submission is refused, or its run has ended."""
        return self.refused or self.outcome is not None


def question(ticket: Ticket) -> AwaitJob:
    """The command that asks for the outcome of a submission. The ticket awaits an outcome from now on."""
    submission = ticket.command
    assert isinstance(submission, SubmitJob)
    ticket.awaits = True
    return AwaitJob(
        queue=submission.queue,
        job_id=submission.job_id,
        shard_key=submission.shard_key,
        actor=submission.actor,
        sent_at=submission.sent_at,
        spec=submission.spec,
        explicit=submission.explicit,
    )

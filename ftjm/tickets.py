"""A command on its way: in the log, decided, ended."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ftjm.core.commands import Command
from ftjm.core.messages import CommandReply, JobOutcome
from ftjm.errors import FtjmError


class Refused(FtjmError):
    """The partition has refused a command."""

    def __init__(self, reply: CommandReply) -> None:
        super().__init__(
            f"{reply.queue}/{reply.job_id} to be accepted", f"{reply.code}: {reply.text}", "look at it with `ftjm get`"
        )
        self.reply = reply


class Ticket(msgspec.Struct, eq=False):
    """One command on its way: in the log, decided, and (where it was asked for) ended."""

    command: Command
    acknowledged: bool = False
    """The replicated log has it."""
    partition: int = -1
    offset: int = -1
    """Where the log has it, once it is acknowledged."""
    failure: str = ""
    """Why the log does not have it, and will not."""
    reply: CommandReply | None = None
    """The decision."""
    outcome: JobOutcome | None = None
    correlation: str = ""
    changed: Callable[[Ticket], None] | None = None
    """Told of every change above, from the thread that learns of it."""

    @property
    def refused(self) -> bool:
        """Whether the answer is no. A wish that was carried out before, and is repeated, is not refused by it."""
        return self.reply is not None and not self.reply.accepted and self.reply.code != "REPEATED"

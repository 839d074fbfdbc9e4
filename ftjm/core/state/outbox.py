"""The rows of the outbox: what must leave the partition because of a committed event.

`evolve` writes a message into the outbox in the same batch as the event that it follows from. So a message is sent if
and only if its event is committed, also after a crash: the next owner sends what the outbox still holds.

Each kind of message is a struct. A row is a msgpack array that begins with the struct's tag, a number, so that one
decoder reads them all:

    ReplyMessage("3/c1/7", "q", "a", 1)   ->   [5, "3/c1/7", "q", "a", 1, "", "", 0]

Tags are part of the store's format: a tag that was used is never given to another struct.
"""

import msgspec

from ftjm.core.state.model import StopReason
from ftjm.core.state.resources import Told


class SessionMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message to a worker's session.

    It holds no copy of the job. The owner builds the dispatch from the job's row when it sends the message; if the
    attempt has ended by then, it sends `Skipped` instead, so that the session's numbers stay consecutive.
    """

    session: str
    number: int
    """Consecutive from 1 for each session."""
    lane: int
    """Partition of the `dispatch` topic that the session reads."""


class RunMessage(SessionMessage, frozen=True, array_like=True, tag=1):
    """The worker shall run the attempt."""

    queue: str
    job_id: str
    attempt: int


class StopMessage(SessionMessage, frozen=True, array_like=True, tag=2):
    """The worker shall stop the attempt."""

    queue: str
    job_id: str
    attempt: int
    reason: StopReason
    grace_ms: int
    """Time between SIGTERM and SIGKILL, ms."""


class CloseMessage(SessionMessage, frozen=True, array_like=True, tag=3):
    """The partition has given the session up."""


class PartitionMessage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A command for another partition."""

    partition: int
    number: int
    """Consecutive from 1 for each partition."""


class ForwardMessage(PartitionMessage, frozen=True, array_like=True, tag=4):
    """A command is forwarded to the partition that decides about it."""

    body: bytes
    """The command's record, untouched."""
    reply_to: str
    """The address of the answer: `lane/session/correlation`; empty if the sender does not wait."""


class ReplyMessage(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The answer to a command."""

    reply_to: str
    queue: str
    job_id: str
    run: int
    code: str = ""
    """The code of the refusal; empty if the command was accepted."""
    text: str = ""
    state: int = 0
    """The job's `JobState` after the command; 0 if there is no such job."""


class OutcomeMessage(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """The outcome of a run, for a client that waits for it."""

    reply_to: str
    queue: str
    job_id: str
    run: int
    state: int
    reason: str
    exit_code: int
    error: str
    result: bytes


class TellMessage(PartitionMessage, frozen=True, array_like=True, tag=7):
    """A partition tells another something, by a command that only partitions may send.

    It holds no copy of a resource. The owner makes the command from the resource's row when it sends the message, so
    that the newest revision is told.
    """

    told: Told
    resource: str = ""
    """`kind/name`; empty if it is about no single one."""
    revision: int = 0
    """The revision that is confirmed."""


OutboxMessage = RunMessage | StopMessage | CloseMessage | ForwardMessage | ReplyMessage | OutcomeMessage | TellMessage

"""The envelope of an event, and what made the partition decide. The events themselves are in `events.py`."""

from enum import StrEnum

import msgspec


class Cause(StrEnum):
    """The kind of trigger that made the partition decide. `cause_ref` of an event names the single trigger."""

    COMMAND = "COMMAND"
    """`cause_ref` is the command's offset in `commands`."""
    TIMER = "TIMER"
    """`cause_ref` is the time at which the timer was due, ms."""
    CONTINUATION = "CONTINUATION"
    """`cause_ref` is the cursor of a long piece of work."""
    OFFER = "OFFER"
    """`cause_ref` is the session and the number of its slot offer: `session/number`."""
    LAPSE = "LAPSE"
    """`cause_ref` is the session that fell silent or closed."""
    UPGRADE = "UPGRADE"
    """An operator's request to finalise an upgrade, or the first batch of a new log; `cause_ref` is empty."""


class Event(msgspec.Struct, kw_only=True, gc=False):
    """The envelope: fields that every event but `BatchClosed` has."""

    queue: str = ""
    job_id: str = ""
    """The job that the event is about; empty if it is about none."""
    run: int = 0
    """Counts the job's runs from 1."""
    shard_key: str = ""
    """Chooses the partition where the queue does not; empty where the queue does."""
    at: int = 0
    """When the partition decided, ms since the Unix epoch: the time of the batch."""
    cause: Cause = Cause.COMMAND
    cause_ref: str = ""
    """The command, timer, offer or session that caused the event: see `Cause`."""
    actor: str = ""
    """The user or program that sent the command; empty if there was no command."""
    reply: str = ""
    """The address of the answer to the command: `lane/session/correlation`; empty if the sender waits for none."""

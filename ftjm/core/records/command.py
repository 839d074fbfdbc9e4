"""The envelope of commands, and that of commands about a whole queue. `commands.py` lists all commands."""

import msgspec


class Command(msgspec.Struct, kw_only=True, gc=False):
    """The envelope: fields that every command has."""

    queue: str
    job_id: str
    """The job that the command is about."""
    shard_key: str = ""
    """Chooses the partition where the queue does not: a queue's shard, a workflow's run."""
    command_id: str = ""
    """Identifies this one request about the job, for a command that is not idempotent without it. It is remembered for
    24 h. The same id of a command about another job is another request."""
    actor: str = ""
    """The user or program that sends the command."""
    sent_at: int = 0
    """When it was sent, by the sender's clock, ms. For people only: nothing is decided by it."""


class QueueCommand(Command, kw_only=True):
    """The envelope of a command about a whole queue."""

    job_id: str = ""
    """Empty: the command is about no job."""


ANY_REVISION = -1
"""The value of `expected_revision` that any declaration meets, and a queue without one."""

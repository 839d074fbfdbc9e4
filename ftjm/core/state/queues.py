"""The rows of queues: how many jobs they hold, and what people have set for them.

The conventions of `model.py` hold for these rows, too.
"""

import msgspec


class Queue(msgspec.Struct, array_like=True, gc=False):
    """How many jobs a queue holds in each state, indexed by `JobState`. A queue without jobs has no row."""

    counts: list[int]


class QueueStatus(msgspec.Struct, array_like=True, gc=False):
    """What people have set for a queue. A queue for which nothing is set has no row."""

    paused_at: int
    """Since when none of its jobs starts."""
    reason: str = ""
    """Why it is paused, for people."""
    actor: str = ""
    """The person or program that paused the queue; where several did, the last of them."""

"""The rows of queues: how many jobs they hold, and what people have set for them.

The conventions of `model.py` hold for these rows, too.
"""

import msgspec

AGEING_MS = 60_000
"""How long a wait is worth one point of priority, in a queue that does not say."""


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


class QueueSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a queue's declaration says. A queue that is not declared has the defaults."""

    concurrency: int = 0
    """So many of its jobs have a worker at a time, at most; 0 is without limit."""
    rate_limit: int = 0
    """At most so many of its attempts start in each `rate_per_ms`; 0 is without limit."""
    rate_per_ms: int = 1_000
    rate_burst: int = 1
    """So many attempts may start at once after a quiet time."""
    ageing_ms: int = AGEING_MS
    """The time of waiting that is worth one point of priority, ms."""


class QueueDeclaration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A queue as it was declared. A queue that is not declared has no row."""

    revision: int
    """Every change of a declaration has a higher revision than any that the partition gave out before."""
    spec: QueueSpec
    labels: dict[str, str] = {}
    applied_at: int = 0
    actor: str = ""
    """The person or program that made this revision."""


class QueueRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How much of its rate a queue has used. Only a queue with a rate of which a job was started has a row."""

    used_until_ns: int
    """Until when the attempts that were started have used up the rate, nanoseconds since the Unix epoch: the
    theoretical arrival time of `ftjm.core.queue_gates`."""

"""The rows of queues: how many jobs they hold, and what people have set for them.

The conventions of `model.py` hold for these rows, too.
"""

from enum import StrEnum

import msgspec

from ftjm.core.state.model import JobSpec

MEAN_US = 1_000_000
"""The duration that is expected of a share's attempts before the first has ended: one second."""
HALF_LIFE_MS = 600_000
"""The half-life of a share's usage, in a queue that does not say: the shortest window of AWS Batch."""
AGEING_MS = 60_000
"""How long a wait is worth one point of priority, in a queue that does not say."""


class Queue(msgspec.Struct, array_like=True, gc=False):
    """How many jobs a queue holds in each state, indexed by `JobState`. A queue without jobs has no row."""

    counts: list[int]
    shared: bool = False
    """Whether it holds, or held since it last was without jobs, one that belongs to a share with a name. If not, the
    usage of its one share is of no interest."""
    active_shares: int = 0
    """Number of its shares that have attempts with a worker. Counted while it is `shared`."""


class QueueStatus(msgspec.Struct, array_like=True, gc=False):
    """What people have set for a queue. A queue for which nothing is set has no row."""

    paused_at: int
    """Since when none of its jobs starts."""
    reason: str = ""
    """Why it is paused, for people."""
    actor: str = ""
    """The person or program that paused the queue; where several did, the last of them."""


class OnConflict(StrEnum):
    """What becomes of a job whose concurrency key is taken by as many jobs as may have it."""

    WAIT = "wait"
    """It waits for the key."""
    REPLACE = "replace"
    """The jobs of the key that came before it are cancelled, and it waits for the end of those that run."""
    DROP = "drop"
    """It is skipped."""


class WaitingAction(StrEnum):
    """What happens to a job that has waited for one reason for too long."""

    FAIL = "fail"
    HOLD = "hold"
    NOTIFY = "notify"
    """An event tells of it."""


class WaitingLimit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How long a job may wait for one reason."""

    reason: str
    """As `explain` gives it; empty for whichever."""
    after_ms: int
    action: WaitingAction = WaitingAction.NOTIFY


class Share(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A share of a queue."""

    identifier: str
    weight: int = 1
    """Under saturation, shares have slot time in proportion to their weights. A share that is not listed has 1."""


class JobDefaults(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a queue gives to fields that its jobs leave open."""

    fields: list[str]
    """Names of the fields of `JobSpec` that are given."""
    spec: JobSpec
    """Their values. Its other fields mean nothing."""


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
    weight: int = 1
    """Queues that share workers have slots in proportion to their weights."""
    key_concurrency: int = 1
    """So many of its jobs of one concurrency key have a worker at a time, at most."""
    on_conflict: OnConflict = OnConflict.WAIT
    shares: list[Share] = []
    half_life_ms: int = HALF_LIFE_MS
    """The time in which a share's usage counts half."""
    compute_reservation: int = 0
    """Percent of the slots that n shares with jobs leave free for others, to the power of n; 0 is none."""
    waiting_limits: list[WaitingLimit] = []
    dead_letter_ms: int = 0
    """How long jobs that failed for good are kept, if that is longer than their retention."""
    defaults: list[JobDefaults] = []
    """None, or one."""


class ConcurrencyKey(msgspec.Struct, array_like=True, gc=False):
    """How many jobs of a queue have, and wait for, a concurrency key. A key of which there are none has no row."""

    admitted: int = 0
    """Jobs that have the key: they are READY, or have a worker."""
    parked: int = 0
    """Jobs that wait for it: they are PENDING."""
    replaced_by: str = ""
    """The newest job that has replaced the jobs of the key before it, by its id; empty if none has."""


class QueueDeclaration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A queue as it was declared. A queue that is not declared has no row."""

    revision: int
    """Every change of a declaration has a higher revision than any that the partition gave out before."""
    spec: QueueSpec
    labels: dict[str, str] = {}
    applied_at: int = 0
    actor: str = ""
    """The person or program that made this revision."""


class ShareUsage(msgspec.Struct, array_like=True, gc=False):
    """What a share of a queue has used: see `ftjm.core.shares`. A share with a name has a row while it has a job; the
    one without a name once an attempt was charged to it, while its queue has a job."""

    usage: int = 0
    """The slot time that counts, microseconds."""
    at: int = 0
    """The time up to which `usage` is decayed, ms."""
    mean: int = MEAN_US
    """The mean duration of its attempts, microseconds; the newest count more."""
    ended: int = 0
    """How many attempts the mean is of, up to the number at which it moves steadily."""
    live: int = 0
    """Attempts with a worker that were charged to it."""
    jobs: int = 0
    """Jobs of the store that belong to it. Not counted for the share without a name."""


class QueueRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How much of its rate a queue has used. Only a queue with a rate of which a job was started has a row."""

    used_until_ns: int
    """Until when the attempts that were started have used up the rate, nanoseconds since the Unix epoch: the
    theoretical arrival time of `ftjm.core.queue_gates`."""

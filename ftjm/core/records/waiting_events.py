"""Events of jobs that wait for their concurrency key, or for longer than their queue allows. `events.py` lists them."""

from ftjm.core.records.event import Event


class JobParked(Event, kw_only=True):
    """The job waits for its concurrency key, PENDING: it has found the key taken, or, being READY, gives it to a job
    that comes before it.

    In the first case, an event before this one in the same batch has made it PENDING already.
    """


class JobSkipped(Event, kw_only=True):
    """The job is SKIPPED. Its run has ended without an attempt."""

    reason: str = ""
    """`CONCURRENCY_LIMIT`: its concurrency key was taken, and its queue drops such jobs."""


class KeysSettled(Event, kw_only=True):
    """The jobs of some concurrency keys of the queue have what the queue's declaration gives them: one slice of a
    process. Each job that it changes has an event of its own."""

    next_key: str
    """The concurrency key with which the next slice begins; empty after the last slice."""


class JobStuck(Event, kw_only=True):
    """The job has waited for one reason for as long as its queue allows, which tells so. Its state does not change."""

    reason: str
    """What it waits for, as `explain` gives it."""
    waited_ms: int
    """How long it has been READY or PENDING without a pause."""
    after_ms: int
    """The limit."""
    next_at: int
    """When it is looked at next, ms; 0 if it is not."""


class JobReviewed(Event, kw_only=True):
    """The job has waited for as long as a limit of its queue says, but not for that limit's reason. Nothing follows."""

    reason: str
    """What it waits for."""
    waited_ms: int
    next_at: int
    """When it is looked at next, ms; 0 if it is not."""

"""Events of concurrency keys: a job gives its key up, is skipped, a slice of a process. `events.py` lists them."""

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

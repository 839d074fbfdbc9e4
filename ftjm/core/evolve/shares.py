"""The rows of shares, as jobs come and go, and as their attempts are dispatched and end: see `ftjm.core.shares`.

In a queue that never had a job with a share, nothing is read and nothing is written here.
"""

from ftjm.core.records import events as e
from ftjm.core.shares import US_OF_MS, charge, correct, half_life_of, learn
from ftjm.core.state.model import Job
from ftjm.core.state.queues import Queue, ShareUsage
from ftjm.core.state.state import State


def joined(state: State, queue: str, share: str) -> None:
    """A new job belongs to a share with a name. It is counted in its queue's row already."""
    row = state.share(queue, share) or ShareUsage()
    row.jobs += 1
    state.save_share(queue, share, row)
    counts = state.queue(queue)
    assert counts is not None
    if not counts.shared:
        counts.shared = True
        state.save_queue(queue, counts)


def left(state: State, queue: str, share: str) -> None:
    """A job of a share with a name is forgotten. With its last job, a share is forgotten, too."""
    row = _existing(state, queue, share)
    row.jobs -= 1
    if row.jobs:
        state.save_share(queue, share, row)
    else:
        state.drop_share(queue, share)


def emptied(state: State, queue: str) -> None:
    """A queue that is `shared` has no job any more."""
    if state.share(queue, "") is not None:
        state.drop_share(queue, "")


def dispatched(state: State, event: e.AttemptDispatched, counts: Queue, job: Job) -> None:
    """An attempt of a job is charged to its share. The caller saves the job and the queue's row `counts`."""
    row = state.share(event.queue, job.share) or ShareUsage()
    counts.active_shares += not row.live
    job.charged = charge(row, half_life_of(state.declaration(event.queue)), event.at)
    state.save_share(event.queue, job.share, row)


def ended(state: State, event: e.Event, job: Job) -> None:
    """The attempt of a job is over: what it was charged is corrected. The caller saves the job and the queue's row."""
    row = _existing(state, event.queue, job.share)
    took = _took(event, job)
    correct(row, half_life_of(state.declaration(event.queue)), event.at, job.charged, took)
    if isinstance(event, e.AttemptSucceeded | e.AttemptFailed):
        learn(row, took)
    job.charged = 0
    counts = state.queue(event.queue)
    assert counts is not None
    counts.active_shares -= not row.live
    state.save_share(event.queue, job.share, row)


def _took(event: e.Event, job: Job) -> int:
    """How long an attempt has used a slot, microseconds: as its worker says, but never longer than it was dispatched.

    An attempt that came back has used none. One that was lost before its worker has said that it started may have used
    one or not, so its charge stays.
    """
    if isinstance(event, e.AttemptDeclined):
        return 0
    if not job.started_at:
        return job.charged
    until = event.ended_at if isinstance(event, e.OutputEvent) else event.at
    return max(1, min(until - job.started_at, event.at - job.dispatched_at)) * US_OF_MS


def _existing(state: State, queue: str, share: str) -> ShareUsage:
    row = state.share(queue, share)
    assert row is not None, f"{queue} has no share {share}"
    return row

"""Which ready job goes to which free slot: by priority, then age; among workers, to the one with most room."""

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

import msgspec

from ftjm.core import events as e
from ftjm.core.model import job_key
from ftjm.core.state import State


class Offer(msgspec.Struct, frozen=True):
    """What a worker session offers this partition: how many of its attempts it would hold at a time."""

    session: str
    worker: str
    lane: int
    lease_ms: int
    queues: tuple[str, ...]
    number: int
    slots: int


def match(state: State, offers: Sequence[Offer], most: int) -> Iterator[e.AttemptDispatched]:
    """Dispatches for the slots that are free, at most `most`.

    An offer's free slots are what it offers less the attempts that the session holds, so no slot can leak: it is
    free when its attempt is over, and not before.
    """
    room: dict[str, int] = {}
    for offer in offers:
        session = state.session(offer.session)
        if session is None or not session.lost:
            room[offer.session] = max(0, offer.slots - (session.live if session else 0))
    serving: dict[str, list[Offer]] = {}
    for offer in offers:
        if room.get(offer.session):
            for queue in offer.queues:
                serving.setdefault(queue, []).append(offer)
    heads = [
        (-priority, order, queue, job_id, waiting)
        for queue in serving
        for waiting in (state.ready(queue),)
        for priority, order, job_id in _next(waiting)
    ]
    heapify(heads)
    while heads and most > 0:
        _, _, queue, job_id, waiting = heappop(heads)
        # The emptiest worker; equal ones by name, so that the same state and offers match the same way.
        best = max(serving[queue], key=lambda offer: (room[offer.session], offer.session))
        if room[best.session] == 0:
            continue
        room[best.session] -= 1
        most -= 1
        yield _dispatch(state, queue, job_id, best)
        for priority, order, following in _next(waiting):
            heappush(heads, (-priority, order, queue, following, waiting))


def _next(waiting: Iterator[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    found = next(waiting, None)
    return [] if found is None else [found]


def _dispatch(state: State, queue: str, job_id: str, offer: Offer) -> e.AttemptDispatched:
    job = state.job(job_key(queue, job_id))
    assert job is not None
    return e.AttemptDispatched(
        queue=queue,
        job_id=job_id,
        run=job.run,
        shard_key=job.shard_key,
        attempt=job.attempt + 1,
        session=offer.session,
        worker=offer.worker,
        lane=offer.lane,
        lease_ms=offer.lease_ms,
        offer=offer.number,
    )

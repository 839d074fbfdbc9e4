"""A process that submits jobs as fast as it can, and returns when it began and when the log had the last job."""

from __future__ import annotations

import time

import msgspec

from ftjm.client.command_client import Client
from ftjm.client.groups import grouped
from ftjm.core.records.commands import SubmitJob
from ftjm.lab.bench.options import WorkKind, spec
from ftjm.runtime.config import Settings


class ClientLoad(msgspec.Struct, frozen=True):
    """The jobs that one client submits."""

    queues: tuple[str, ...]
    """Queues of the jobs, in turn."""
    prefix: str
    """Beginning of the jobs' ids."""
    count: int
    work: WorkKind


class Elapsed(msgspec.Struct, frozen=True):
    """Begin and end of an interval, wall clock, s."""

    began: float
    ended: float


def run(settings: Settings, load: ClientLoad) -> Elapsed:
    """Submit all jobs without waiting for answers. Return when the replicated log has all of them."""
    with Client(settings, listen=False) as client:
        job = spec(load.work)
        began = time.time()
        jobs = (
            SubmitJob(queue=load.queues[number % len(load.queues)], job_id=f"{load.prefix}-{number}", spec=job)
            for number in range(load.count)
        )
        for group in grouped(jobs):
            client.hand_over([*map(client.ticket, group)])
        client.confirm()
        return Elapsed(began, time.time())

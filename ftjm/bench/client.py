"""A process that submits jobs as fast as it can, and tells when it began and when the log had the last of them."""

from __future__ import annotations

import time

import msgspec

from ftjm.bench.options import Work, spec
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core.commands import SubmitJob


class Load(msgspec.Struct, frozen=True):
    """Which jobs one client submits."""

    queues: tuple[str, ...]
    """In turn."""
    prefix: str
    count: int
    work: Work


class Submitted(msgspec.Struct, frozen=True):
    """When, wall clock, s."""

    began: float
    ended: float


def run(settings: Settings, load: Load) -> Submitted:
    """Submit without waiting for answers; return once the replicated log has all."""
    with Client(settings, listen=False) as client:
        job = spec(load.work)
        began = time.time()
        for number in range(load.count):
            client.send(
                SubmitJob(queue=load.queues[number % len(load.queues)], job_id=f"{load.prefix}-{number}", spec=job)
            )
        client.confirm()
        return Submitted(began, time.time())

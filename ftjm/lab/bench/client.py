"""A process that submits jobs as fast as it can, and returns when it began and when the log had the last job."""

from __future__ import annotations

import time

import msgspec

from ftjm.client.command_client import Client
from ftjm.client.groups import grouped
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
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
    keys: int = 0
    """The jobs have so many concurrency keys, in turn; 0 if they have none."""
    shares: tuple[str, ...] = ()
    """The jobs are of these shares, in turn."""


class Elapsed(msgspec.Struct, frozen=True):
    """Begin and end of an interval, wall clock, s."""

    began: float
    ended: float


def run(settings: Settings, load: ClientLoad) -> Elapsed:
    """Submit all jobs without waiting for answers. Return when the replicated log has all of them."""
    with Client(settings, listen=False) as client:
        specs = _specs(load)
        began = time.time()
        jobs = (
            SubmitJob(
                queue=load.queues[number % len(load.queues)],
                job_id=f"{load.prefix}-{number}",
                spec=specs[number % len(specs)],
            )
            for number in range(load.count)
        )
        for group in grouped(jobs):
            client.hand_over([*map(client.ticket, group)])
        client.confirm()
        return Elapsed(began, time.time())


def _specs(load: ClientLoad) -> list[JobSpec]:
    """The jobs of a load, but for their names."""
    job = spec(load.work)
    keys = [f"key-{number}" for number in range(load.keys)] or [""]
    shares = load.shares or ("",)
    return [
        msgspec.structs.replace(job, concurrency_key=key, share_identifier=share) for key in keys for share in shares
    ]

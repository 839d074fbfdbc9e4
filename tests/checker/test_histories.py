"""Histories that the product's own rules make, under all faults that the simulation knows, pass."""

from __future__ import annotations

import pytest

from ftjm.adapters import codec
from ftjm.checker import Entry, Evidence, Execution, Heard, Report, check
from ftjm.core.commands import Command, SubmitJob
from ftjm.core.errors import UndecodableError
from ftjm.core.messages import WorkerHeartbeat
from tests.simulation.cluster import Cluster, play

SEEDS = 100
AT_ONCE = 20


def asked(value: bytes) -> Command | None:
    try:
        found = codec.decode(value)
    except UndecodableError:
        return None
    return found if isinstance(found, Command) else None


def judged(cluster: Cluster) -> Report:
    log = cluster.broker.log
    heard = Heard()
    for (topic, _), values in cluster.broker.lanes.items():
        if topic == "heartbeats":
            for value in values:
                heartbeat = codec.decode(value) if isinstance(value, bytes) else value
                if isinstance(heartbeat, WorkerHeartbeat):
                    heard.hear(heartbeat)
    ran = [(worker.name, execution) for worker in cluster.workers for execution in worker.kernel.history]
    history = [
        Entry(p, record.offset, codec.decode(record.value), cluster.broker.times[p, record.offset])
        for p in range(log.partitions)
        for record in log.events(p, 0)
    ]
    acknowledged = [
        (request.command.queue, request.command.job_id)
        for client in cluster.clients
        for request in client.requests
        if request.acknowledged and isinstance(request.command, SubmitJob)
    ]
    commands = {p: {r.offset: asked(r.value) for r in log.commands(p, 0)} for p in range(log.partitions)}
    evidence = Evidence(
        partitions=log.partitions,
        commands=None if any(log._leaders) else commands,
        heard=heard,
        executions=[Execution(*one.name, one.spans, one.success, worker) for worker, one in ran],
    )
    return check(history, acknowledged, evidence)


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_simulated_history_passes(first):
    jobs = attempts = lost = 0
    for seed in range(first, first + AT_ONCE):
        report = judged(play(seed))
        assert report.violations == [], f"seed {seed}"
        jobs, attempts, lost = jobs + report.jobs, attempts + report.attempts, lost + report.attempts_lost
    assert jobs > 5 * AT_ONCE
    assert attempts > jobs
    assert lost > AT_ONCE, "histories without faults show nothing"

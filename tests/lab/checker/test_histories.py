"""The checker passes the histories of the simulation: made by the product's own rules, under all simulated faults."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from ftjm.adapters.avro import codec
from ftjm.core.errors import UndecodableError
from ftjm.core.records.commands import Command, SubmitJob
from ftjm.core.records.messages import WorkerHeartbeat
from ftjm.lab.checker import Evidence, Execution, LogEntry, Verdict, WorkerOffers, check, partition_rules
from ftjm.lab.checker.remembered import SESSION_MS
from tests.simulation.cluster import SESSION_MEMORY_MS, Cluster, play

SEEDS = 100
AT_ONCE = 20


def asked(value: bytes) -> Command | None:
    try:
        found = codec.decode(value)
    except UndecodableError:
        return None
    return found if isinstance(found, Command) else None


def judged(cluster: Cluster) -> Verdict:
    log = cluster.broker.log
    offers = WorkerOffers()
    for (topic, _), values in cluster.broker.lanes.items():
        if topic == "heartbeats":
            for value in values:
                heartbeat = codec.decode(value) if isinstance(value, bytes) else value
                if isinstance(heartbeat, WorkerHeartbeat):
                    offers.add(heartbeat)
    ran = [(worker.name, execution) for worker in cluster.workers for execution in worker.kernel.history]
    history = [
        LogEntry(p, record.offset, codec.decode(record.value), cluster.broker.times[p, record.offset])
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
        offers=offers,
        executions=[Execution(*one.name, one.spans, one.success, worker) for worker, one in ran],
    )
    memory_ms = SESSION_MEMORY_MS if cluster.world.endless else SESSION_MS
    with patch.object(partition_rules, "SESSION_MS", memory_ms):
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

"""The checker of histories as the simulation's judge of queues: of limits, of the order of jobs, of bulk requests.

`checker.py` says the rules about attempts once more. These are said once, by `ftjm.lab.checker`, which shares no code
with the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from ftjm.adapters.avro import codec
from ftjm.core.errors import UndecodableError
from ftjm.core.records.commands import Command, SubmitJob
from ftjm.core.records.messages import WorkerHeartbeat
from ftjm.lab.checker import Evidence, Execution, LogEntry, Verdict, WorkerOffers, check, partition_rules
from ftjm.lab.checker.remembered import SESSION_MS

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster


def asked(value: bytes) -> Command | None:
    try:
        found = codec.decode(value)
    except UndecodableError:
        return None
    return found if isinstance(found, Command) else None


def judged(cluster: Cluster, memory_ms: int = SESSION_MS) -> Verdict:
    """The verdict on the history of a cluster that has lived through it.

    Args:
        memory_ms: how long a lost session is remembered in it.
    """
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
    with patch.object(partition_rules, "SESSION_MS", memory_ms):
        return check(history, acknowledged, evidence)

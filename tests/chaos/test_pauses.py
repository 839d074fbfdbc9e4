"""What excuses a timer that comes late: its own partition's owner, or a broker, and nothing else."""

from __future__ import annotations

from ftjm.chaos.breaking import Happened
from ftjm.chaos.pauses import BROKER_MS, COLD_BROKER_MS, OWNER_MS, pauses
from ftjm.chaos.plan import Fault, Kind

OWNERS = {
    0: [(100, "scheduler-0@h:1"), (3_000, "scheduler-1@h:2")],
    1: [(100, "scheduler-1@h:2")],
    2: [(100, "scheduler-1@h:2"), (1_500, "scheduler-0@h:1")],
}


def happened(kind: Kind, member: str) -> Happened:
    return Happened(Fault(1, 0.0, kind, 0, 1.0, 0), member, 1_000, 2_000)


def test_a_scheduler_excuses_what_it_owned_then():
    found = pauses(OWNERS, [happened(Kind.STOP_SCHEDULER, "scheduler-0")])
    assert found == {0: [(1_000, 2_000 + OWNER_MS)], 1: [], 2: [(1_500, 2_000 + OWNER_MS)]}


def test_a_scheduler_excuses_nothing_that_was_taken_over():
    found = pauses(OWNERS, [happened(Kind.KILL_SCHEDULER, "scheduler-1")])
    assert found == {0: [], 1: [(1_000, 2_000 + OWNER_MS)], 2: [(1_000, 1_500 + OWNER_MS)]}


def test_a_broker_excuses_all_and_a_worker_nothing():
    found = pauses(OWNERS, [happened(Kind.STOP_BROKER, "broker-0"), happened(Kind.STOP_GUARD, "worker-0")])
    assert found == {partition: [(1_000, 2_000 + BROKER_MS)] for partition in OWNERS}
    found = pauses(OWNERS, [happened(Kind.KILL_BROKER, "broker-0")])
    assert found == {partition: [(1_000, 2_000 + COLD_BROKER_MS)] for partition in OWNERS}

"""Only faults of the partition's own owner, and of brokers, excuse a late timer."""

from __future__ import annotations

from ftjm.lab.chaos.faults import InjectedFault
from ftjm.lab.chaos.outages import BROKER_MS, COLD_BROKER_MS, OWNER_MS, pauses
from ftjm.lab.chaos.plan import FaultKind, PlannedFault

OWNERS = {
    0: [(100, "scheduler-0@h:1"), (3_000, "scheduler-1@h:2")],
    1: [(100, "scheduler-1@h:2")],
    2: [(100, "scheduler-1@h:2"), (1_500, "scheduler-0@h:1")],
}


def injected(kind: FaultKind, member: str) -> InjectedFault:
    return InjectedFault(PlannedFault(1, 0.0, kind, 0, 1.0, 0), member, 1_000, 2_000)


def test_a_schedulers_fault_excuses_the_partitions_that_it_owned():
    found = pauses(OWNERS, [injected(FaultKind.STOP_SCHEDULER, "scheduler-0")])
    assert found == {0: [(1_000, 2_000 + OWNER_MS)], 1: [], 2: [(1_500, 2_000 + OWNER_MS)]}


def test_a_schedulers_fault_excuses_nothing_after_a_takeover():
    found = pauses(OWNERS, [injected(FaultKind.KILL_SCHEDULER, "scheduler-1")])
    assert found == {0: [], 1: [(1_000, 2_000 + OWNER_MS)], 2: [(1_000, 1_500 + OWNER_MS)]}


def test_a_brokers_fault_excuses_all_partitions_and_a_workers_none():
    found = pauses(OWNERS, [injected(FaultKind.STOP_BROKER, "broker-0"), injected(FaultKind.STOP_GUARD, "worker-0")])
    assert found == {partition: [(1_000, 2_000 + BROKER_MS)] for partition in OWNERS}
    found = pauses(OWNERS, [injected(FaultKind.KILL_BROKER, "broker-0")])
    assert found == {partition: [(1_000, 2_000 + COLD_BROKER_MS)] for partition in OWNERS}

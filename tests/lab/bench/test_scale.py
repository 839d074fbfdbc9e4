"""The curves of the suite `scale`, and the fleet of simulated workers that it uses."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from ftjm.core.identity import partition_for
from ftjm.core.records.commands import AttemptReport, CompleteAttempt
from ftjm.core.records.messages import (
    OfferTaken,
    PartitionReport,
    QueueDemand,
    RunAttempt,
    SchedulerHeartbeat,
    SessionState,
    WorkerHeartbeat,
)
from ftjm.lab.bench.options import CURVES, WorkKind, spec
from ftjm.lab.bench.scale import Point, curve_figures, parse
from ftjm.lab.bench.worker_fleet import Fleet
from ftjm.runtime.errors import UsageError
from ftjm.worker.inbox import HeartbeatAcknowledged, Inbox, LaneOpened, LeaveRequested, ReportConfirmed
from ftjm.worker.rules.actions import Action
from ftjm.worker.rules.session import WorkerIdentity
from ftjm.worker.rules.worker_life import WorkerRules


def test_curves_are_sorted_numbers():
    assert parse(["workers=30,1,30", "partitions=2"]) == {"workers": [1, 30], "partitions": [2]}
    assert list(parse(CURVES)) == ["partitions", "schedulers", "workers"]


@pytest.mark.parametrize("curve", ["workers", "workers=", "workers=0", "clients=1", "workers=1;2", "schedulers=65"])
def test_another_curve_is_refused(curve):
    with pytest.raises(UsageError, match="partitions"):
        parse([curve])


@pytest.mark.parametrize(
    ("costs", "knee"),
    [
        ({1: 100, 2: 90, 4: 120, 8: 200, 16: 400}, 4),
        ({1: 100, 2: 90, 4: 120}, 4),
        ({1: 400, 2: 90, 4: 80}, 4),  # what costs more before the cheapest is no knee
        ({1: 100, 2: 200, 4: 120}, 1),
        ({3: 100}, 3),
    ],
)
def test_a_knee_is_the_last_number_before_a_job_costs_too_much(costs, knee):
    figures = curve_figures("workers", {n: Point(10.0, float(us), 5.0, 1.0, 20.0) for n, us in costs.items()})
    assert figures["workers_knee"] == knee
    assert [figures[f"workers_{n}_us"] for n in costs] == list(costs.values())
    assert len(figures) == 1 + len(costs) * len(Point._fields)


class Link:
    """A log that takes everything at once, when the test says so."""

    fault = ""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.heartbeats: deque[WorkerHeartbeat] = deque()
        self.reports: list[AttemptReport] = []

    def listen(self, session: str, lane: int) -> None:
        self.inbox.put(LaneOpened(session))

    def leave(self, session: str) -> None: ...

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        self.heartbeats.append(heartbeat)
        self.inbox.put(HeartbeatAcknowledged(session, token))

    def report(self, session: str, command: AttemptReport) -> None:
        self.reports.append(command)
        self.inbox.put(ReportConfirmed(session))

    def close(self, limit_seconds: float) -> int:
        return 0


class CountedRules(WorkerRules):
    ticks = 0
    read = 0
    """Offers in the heartbeats of schedulers that it got."""

    def scheduler_heartbeat(self, heartbeat: SchedulerHeartbeat, now: int) -> None:
        self.read += sum(len(report.taken) for report in heartbeat.partitions)
        super().scheduler_heartbeat(heartbeat, now)

    def tick(self, now: int) -> list[Action]:
        self.ticks += 1
        return super().tick(now)


def rules(number: int) -> CountedRules:
    identity: dict[str, Any] = {"host": "h", "pid": 1, "slots": 2, "queues": ("q",), "partitions": 1, "lanes": 8}
    return CountedRules(WorkerIdentity(worker=f"w{number}", lease_ms=5_000, **identity), lambda: f"w{number}.s")


def dispatch(session: str) -> RunAttempt:
    job: dict[str, Any] = {"queue": "q", "job_id": f"j-{session}", "shard_key": "", "spec": spec(WorkKind.NOOP)}
    return RunAttempt(session=session, partition=0, number=1, run=1, attempt=1, deadline_at=0, **job)


def test_every_worker_of_a_fleet_has_a_session_and_ends_its_own_attempts_at_once():
    inbox = Inbox()
    link = Link(inbox)
    fleet = Fleet([rules(n) for n in range(3)], link, inbox)
    for now in range(1_000, 1_005):
        fleet.step(now)
    assert {heartbeat.session for heartbeat in link.heartbeats} == {"w0.s", "w1.s", "w2.s"}
    assert {heartbeat.lane for heartbeat in link.heartbeats} == {partition_for(f"w{n}.s", 8) for n in range(3)}
    assert 1_000 < fleet.next_due() <= 2_010, "heartbeats go on"
    inbox.put(dispatch("w1.s"))
    inbox.put(dispatch("another.s"))
    fleet.step(1_010)
    [report] = link.reports
    assert isinstance(report, CompleteAttempt)
    assert (report.session, report.job_id, report.actor) == ("w1.s", "j-w1.s", "worker/w1")
    inbox.put(LeaveRequested())
    assert not fleet.finished
    for now in range(1_020, 4_000, 20):
        fleet.step(now)
    assert fleet.finished
    assert [beat.state for beat in list(link.heartbeats)[-3:]] == [SessionState.CLOSED] * 3
    inbox.close()


def test_what_has_arrived_for_a_worker_makes_no_later_ticks():
    inbox = Inbox()
    worker = rules(0)
    fleet = Fleet([worker], Link(inbox), inbox)
    for now in range(1_000, 3_000, 10):
        inbox.put(ReportConfirmed("w0.s"))
        fleet.step(now)
    before = worker.ticks
    for now in range(3_000, 13_000, 10):
        fleet.step(now)
    assert worker.ticks - before <= 40, "one for each heartbeat, one for its answer, and a few for what was due before"
    inbox.close()


def test_a_worker_reads_what_was_taken_of_its_own_offers_and_all_demand():
    inbox = Inbox()
    workers = [rules(n) for n in range(3)]
    fleet = Fleet(workers, Link(inbox), inbox)
    fleet.step(1_000)
    taken = [OfferTaken(session=session, number=1) for session in ("w0.s", "w2.s", "another.s")]
    progress: dict[str, Any] = {"owner_epoch": 1, "applied_offset": 1, "next_command": 1}
    demand = [QueueDemand(queue="q", ready=5)]
    report = PartitionReport(partition=0, role="owner", demand=demand, taken=taken, **progress)
    inbox.put(SchedulerHeartbeat(instance="s", host="h", pid=1, port=0, partitions=[report]))
    fleet.step(1_001)
    assert [worker.read for worker in workers] == [1, 0, 1]
    assert all(worker._demand for worker in workers)
    inbox.close()

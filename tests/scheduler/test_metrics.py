"""What a scheduler shows of itself: its metrics, and whether it is ready."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from ftjm.core.records.messages import PartitionReport, SchedulerHeartbeat
from ftjm.core.state.model import JobState
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.partition_report import QueueStatistics
from ftjm.scheduler.status import SchedulerStatus
from ftjm.telemetry.process_metrics import registry
from tests.engine.world import NOW
from tests.telemetry.samples import series, value


def counts(**states: int) -> list[int]:
    numbers = [0] * (max(JobState) + 1)
    for name, count in states.items():
        numbers[JobState[name]] = count
    return numbers


def test_a_scheduler_shows_what_it_owns(monkeypatch):
    monkeypatch.setattr("ftjm.scheduler.metrics.wall_ms", lambda: NOW + 5_000)
    owned = {"q": counts(READY=2, RUNNING=1), "r": counts(SUCCEEDED=4)}
    one = QueueStatistics(owned, {"q": NOW}, waiting_jobs=2)
    other = QueueStatistics({"s": counts(READY=1)}, {"s": NOW + 9_000}, waiting_jobs=1)
    followed = QueueStatistics({"t": counts(READY=9)}, {"t": NOW}, waiting_jobs=9)
    partitions = {
        0: SimpleNamespace(role=Role.OWNER, queues=one),
        1: SimpleNamespace(role=Role.OWNER, queues=other),
        2: SimpleNamespace(role=Role.STANDBY, queues=followed),
    }
    process = SimpleNamespace(
        partitions=partitions,
        rebalances=3,
        workers=Counter(open=2),
        lag_events=7,
        refusing={"disk": True},
        damaged_snapshots=2,
    )
    shown = registry("scheduler")
    SchedulerMetrics(shown, process)
    assert value(shown, "ftjm_jobs", queue="q", state="READY") == 2
    assert value(shown, "ftjm_jobs", queue="r", state="SUCCEEDED") == 4
    assert value(shown, "ftjm_jobs", queue="r", state="FAILED") == 0
    assert not [name for name in series(shown) if "'t'" in name], "another one's jobs"
    assert value(shown, "ftjm_queue_oldest_seconds", queue="q") == 5
    assert value(shown, "ftjm_queue_oldest_seconds", queue="r") == 0
    assert value(shown, "ftjm_queue_oldest_seconds", queue="s") == 0, "a clock that is behind"
    assert [value(shown, "ftjm_partition_role", partition=str(p)) for p in range(3)] == [3, 3, 1]
    assert value(shown, "ftjm_rebalances_total") == 3
    assert value(shown, "ftjm_replay_lag_events") == 7
    assert value(shown, "ftjm_worker_sessions", state="open") == 2
    assert value(shown, "ftjm_jobs_waiting") == 3


def report(partition: int, role: str, applied: int) -> PartitionReport:
    return PartitionReport(
        partition=partition, role=role, owner_epoch=1, applied_offset=applied, next_command=0, demand=[], taken=[]
    )


def test_a_scheduler_is_ready_once_it_has_caught_up_and_while_kafka_answers(monkeypatch):
    status = SchedulerStatus()
    assert status.why_not_ready() == "Kafka has not been reached yet"
    assert (status.rebalances, status.lag_events, dict(status.workers)) == (0, 0, {})
    runners = {p: SimpleNamespace(role=Role.COLD, opening=True, report=report(p, "opening", 40)) for p in range(2)}
    status.partitions = runners  # type: ignore[assignment]  # as much of a runner as is asked for
    assert "what to stand by for" in status.why_not_ready()
    status.placed = True
    assert status.why_not_ready() == "partitions 0, 1 are not caught up"
    runners[0].role, runners[0].opening = Role.STANDBY, False
    assert status.why_not_ready() == "partitions 1 are not caught up"
    runners[1].role, runners[1].opening = Role.OWNER, False
    assert "no heartbeat" in status.why_not_ready()
    status.note_heartbeat()
    assert status.why_not_ready() == ""
    monkeypatch.setattr("ftjm.scheduler.status.SILENT_SECONDS", -1.0)
    assert "no heartbeat" in status.why_not_ready()
    reports = [report(0, "owner", 100), report(1, "owner", 100)]
    status.receive(SchedulerHeartbeat(instance="i", host="h", pid=1, port=0, partitions=reports))
    assert status.lag_events == 60, "of what is followed, not of what is owned"

"""What schedulers and workers show of themselves, read from their state."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from ftjm.core.matching import Offer
from ftjm.core.messages import PartitionReport, SchedulerHeartbeat
from ftjm.core.model import JobState
from ftjm.engine.liveness import Liveness
from ftjm.metrics import worker as shown_by_workers
from ftjm.metrics.process import registry
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.metrics.worker import WorkerMetrics, why_not_ready
from ftjm.scheduler import standing
from ftjm.scheduler.inside import Inside
from ftjm.scheduler.runner import Role
from ftjm.scheduler.standing import Standing, Survey
from tests.engine.world import NOW, QUEUE, World, offer
from tests.metrics.shown import series, value
from tests.worker.lives import LEASE_MS
from tests.worker.lives import World as WorkerWorld


def counts(**states: int) -> list[int]:
    numbers = [0] * (max(JobState) + 1)
    for name, count in states.items():
        numbers[JobState[name]] = count
    return numbers


def test_a_scheduler_shows_what_it_owns(monkeypatch):
    monkeypatch.setattr("ftjm.metrics.scheduler.wall_ms", lambda: NOW + 5_000)
    owned = {"q": counts(READY=2, RUNNING=1), "r": counts(SUCCEEDED=4)}
    partitions = {
        0: SimpleNamespace(role=Role.OWNER, standing=Standing(owned, {"q": NOW})),
        1: SimpleNamespace(role=Role.OWNER, standing=Standing({"s": counts(READY=1)}, {"s": NOW + 9_000})),
        2: SimpleNamespace(role=Role.STANDBY, standing=Standing({"t": counts(READY=9)}, {"t": NOW})),
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


def test_the_oldest_of_all_priorities_is_found():
    world = World()
    world.submit("low", priority=10)
    world.work()
    for number in range(3):
        world.now += 1_000
        world.submit(f"high-{number}", priority=90)
        world.work()
    survey = Survey()
    found = survey.look(world.owner.state, world.now)
    assert found.oldest_at == {QUEUE: NOW}
    assert found.counts[QUEUE][JobState.READY] == 4
    world.work([Offer("s1", "w", 0, 5_000, (QUEUE,), 1, 4)])
    assert survey.look(world.owner.state, world.now + 500).oldest_at == {QUEUE: NOW}, "looked at a moment ago"
    assert survey.look(world.owner.state, world.now + 1_500).oldest_at == {}
    assert list(world.owner.state.ready(QUEUE, first_only=True)) == []


def test_heads_of_priorities_only():
    world = World()
    for number, priority in enumerate((50, 50, 20, 20, 80)):
        world.submit(f"j{number}", priority=priority)
    world.work()
    assert [job for _, _, job in world.owner.state.ready(QUEUE, first_only=True)] == ["j4", "j0", "j2"]
    assert [job for _, _, job in world.owner.state.ready(QUEUE)] == ["j4", "j0", "j1", "j2", "j3"]


def test_a_report_tells_of_all_queues_and_news_only_of_those_that_wait():
    world = World()
    world.submit("a")
    world.submit("held", held=True, queue=QUEUE)
    world.work()
    state, survey = world.owner.state, Survey()

    def tell() -> PartitionReport:
        return standing.report(0, 1, "owner", state, survey.look(state, world.now), Liveness(0), world.now)

    before = tell()
    [demand] = before.demand
    assert (demand.queue, demand.ready, demand.oldest_at, demand.counts[JobState.HELD]) == (QUEUE, 1, NOW, 1)
    assert not standing.news(before, tell())
    world.work([offer()])
    after = tell()
    assert [told.ready for told in after.demand] == [0]
    assert standing.news(before, after)


def report(partition: int, role: str, applied: int) -> PartitionReport:
    return PartitionReport(
        partition=partition, role=role, owner_epoch=1, applied_offset=applied, next_command=0, demand=[], taken=[]
    )


def test_a_scheduler_is_ready_once_it_has_caught_up_and_while_kafka_answers(monkeypatch):
    inside = Inside()
    assert inside.why_not_ready() == "Kafka has not been reached yet"
    assert (inside.rebalances, inside.lag_events, dict(inside.workers)) == (0, 0, {})
    runners = {p: SimpleNamespace(role=Role.COLD, opening=True, report=report(p, "opening", 40)) for p in range(2)}
    inside.partitions = runners  # type: ignore[assignment]  # as much of a runner as is asked for
    assert "what to stand by for" in inside.why_not_ready()
    inside.placed = True
    assert inside.why_not_ready() == "partitions 0, 1 are not caught up"
    runners[0].role, runners[0].opening = Role.STANDBY, False
    assert inside.why_not_ready() == "partitions 1 are not caught up"
    runners[1].role, runners[1].opening = Role.OWNER, False
    assert "no heartbeat" in inside.why_not_ready()
    inside.told()
    assert inside.why_not_ready() == ""
    monkeypatch.setattr("ftjm.scheduler.inside.SILENT_SECONDS", -1.0)
    assert "no heartbeat" in inside.why_not_ready()
    told = [report(0, "owner", 100), report(1, "owner", 100)]
    inside.heard(SchedulerHeartbeat(instance="i", host="h", pid=1, port=0, partitions=told))
    assert inside.lag_events == 60, "of what is followed, not of what is owned"


def test_a_worker_shows_its_slots_and_its_lease(monkeypatch):
    world = WorkerWorld(slots=3, queues=("q", "r"))
    monkeypatch.setattr(shown_by_workers, "boot_ms", lambda: world.now)
    shown = registry("worker")
    shown.register(WorkerMetrics(world.life))
    world.dispatch("a")
    assert value(shown, "ftjm_worker_slots", queue="q", status="busy") == 1
    assert value(shown, "ftjm_worker_slots", queue="r", status="busy") == 0
    assert [value(shown, "ftjm_worker_slots", queue=queue, status="free") for queue in ("q", "r")] == [2, 2]
    assert value(shown, "ftjm_worker_heartbeat_age_seconds") < 1
    assert why_not_ready(world.life) == ""
    world.connected = False
    world.tick(LEASE_MS - 1_000)
    assert value(shown, "ftjm_worker_heartbeat_age_seconds") >= 3
    world.tick(LEASE_MS)
    assert why_not_ready(world.life) != ""
    world.life.drain()
    assert value(shown, "ftjm_worker_draining") == 1
    assert value(shown, "ftjm_worker_slots", queue="r", status="free") == 0
    assert why_not_ready(world.life) == "the worker is leaving"

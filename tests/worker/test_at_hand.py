"""What a worker has at hand beside its slots: when it starts it, and what it sends back."""

from __future__ import annotations

import pytest

from ftjm.core.records.commands import DeclineAttempt
from ftjm.core.records.levels import AHEAD_LEVEL
from ftjm.core.records.messages import (
    MemberVersion,
    OfferTaken,
    PartitionReport,
    PartitionVersion,
    QueueDemand,
    SchedulerHeartbeat,
    SessionClosed,
    StopAttempt,
)
from ftjm.core.state.model import FailureReason, StopReason
from ftjm.worker.rules.prefetch import (
    AHEAD_MAX,
    BURST_PART,
    CHANGE_MS,
    PATIENCE,
    PER_SLOT_MAX,
    ROUND_TRIP_MS,
    ROUND_TRIP_MS_MAX,
    TIMES,
    WAIT_MS_MIN,
    Prefetch,
)
from ftjm.worker.rules.session import SETTLE_MS
from tests.worker.rules_world import HOLDS_MS, Run, SendHeartbeat, World, queues_in


def waiting(world: World, *ready: int) -> None:
    """The owner of each partition publishes how many jobs of its queue wait, and that it has read the newest offer."""
    session = world.rules.current
    assert session
    numbers = {offer.partition: offer.number for offer in session.offers.messages()}
    reports = [
        PartitionReport(
            partition=partition,
            role="owner",
            owner_epoch=1,
            applied_offset=0,
            next_command=0,
            demand=[QueueDemand(queue=queue, ready=jobs)],
            taken=[OfferTaken(session=session.name, number=numbers.get(partition, 0))],
        )
        for partition, (queue, jobs) in enumerate(zip(world.rules.identity.queues, ready, strict=True))
    ]
    world.rules.scheduler_heartbeat(
        SchedulerHeartbeat(instance="s", host="h", pid=1, port=0, partitions=reports), world.now
    )


def final(world: World, level: int = AHEAD_LEVEL, partitions: int = 1) -> None:
    """Owners announce the level that is final in their partitions."""
    found = [PartitionVersion(partition=p, level=level, state_version=6) for p in range(partitions)]
    world.rules.scheduler_version(
        MemberVersion(
            member="s", name="s", role="scheduler", release="1", level=level, state_version=6, partitions=found
        )
    )


def heard(world: World, ready: int = 1, taken: dict[int, int] | None = None, partitions: int = 1) -> None:
    """Owners publish that jobs wait, and which offers they have read."""
    world.rules.scheduler_heartbeat(
        SchedulerHeartbeat(
            instance="s",
            host="h",
            pid=1,
            port=0,
            partitions=[
                PartitionReport(
                    partition=p,
                    role="owner",
                    owner_epoch=1,
                    applied_offset=0,
                    next_command=0,
                    demand=[QueueDemand(queue=queue, ready=ready) for queue in world.rules.identity.queues],
                    taken=[OfferTaken(session="s1", number=(taken or {}).get(p, 0))],
                )
                for p in range(partitions)
            ],
        ),
        world.now,
    )


def started(world: World) -> list[str]:
    return [run.key for run in world.take(Run)]


def declined(world: World) -> list[tuple[str, str]]:
    return [(one.job_id, one.reason) for one in world.commands() if isinstance(one, DeclineAttempt)]


def full(slots: int = 1) -> World:
    """A worker all of whose slots are taken."""
    world = World(slots=slots, ahead=5)
    for number in range(slots):
        world.dispatch(f"first{number}")
    assert len(started(world)) == slots
    return world


# ---- starts


def test_what_has_no_slot_is_at_hand_and_starts_when_one_is_free() -> None:
    world = full()
    world.dispatch("a")
    world.dispatch("b")
    world.tick()
    assert started(world) == []
    world.end("first0")
    world.tick()
    assert started(world) == ["q/a/1"]
    world.end("a")
    world.tick()
    assert started(world) == ["q/b/1"]


def test_the_highest_priority_starts_first_and_then_the_oldest() -> None:
    world = full()
    for job, priority in (("low", 10), ("old", 50), ("new", 50), ("high", 90)):
        world.dispatch(job, priority=priority)
    order = []
    for job in ("first0", "high", "old", "new"):
        world.end(job)
        world.tick()
        order += started(world)
    assert order == ["q/high/1", "q/old/1", "q/new/1", "q/low/1"]


def test_priority_and_age_count_over_all_partitions_that_have_a_free_slot() -> None:
    world = World(slots=2, queues=queues_in(2), partitions=2, ahead=5)
    world.dispatch("a", partition=0)
    world.dispatch("b", partition=1)
    assert started(world) == ["q/a/1", "q/b/1"]
    world.dispatch("low", partition=0, priority=1)
    world.dispatch("high", partition=1, priority=99)
    world.end("a")
    world.tick()
    assert started(world) == ["q/low/1"], "the other partition's only slot is taken"
    world.dispatch("top", partition=0, priority=100)
    world.end("low")
    world.end("b")
    world.tick()
    assert started(world) == ["q/top/1", "q/high/1"]


def test_no_more_run_than_there_are_slots_whatever_owners_send() -> None:
    world = World(slots=2, queues=queues_in(2), partitions=2)
    for number in range(4):
        world.dispatch(f"a{number}", partition=0)
        world.dispatch(f"b{number}", partition=1)
    world.tick()
    assert started(world) == ["q/a0/1", "q/b0/1"]
    assert world.rules.live_attempts == 2


def test_nothing_starts_after_its_deadline() -> None:
    world = full()
    world.booted_at = 1_000_000
    world.tick(1_000)
    world.dispatch("a", deadline_at=world.booted_at + world.now + 20)
    world.tick(21)
    world.end("first0")
    world.tick()
    assert started(world) == []
    assert [job for job, _ in declined(world)] == ["a"]


def test_nothing_starts_beyond_the_lease() -> None:
    world = full()
    world.connected = False
    world.tick(HOLDS_MS - WAIT_MS_MIN + 1)
    world.dispatch("a")
    world.now += WAIT_MS_MIN - 2
    world.end("first0")
    world.now += 2
    world.tick()
    assert started(world) == []


# ---- what goes back


def test_what_waits_too_long_goes_back_and_the_session_goes_on() -> None:
    world = full()
    world.dispatch("a")
    world.tick(WAIT_MS_MIN - 1)
    assert declined(world) == []
    world.tick(1)
    assert declined(world) == [("a", f"it did not start within {WAIT_MS_MIN} ms")]
    assert world.rules.current is not None
    world.end("first0")
    world.tick()
    assert started(world) == [], "it was sent back"
    world.dispatch("b")
    assert started(world) == ["q/b/1"]


EACH_MS = 4


def short_attempts(world: World, first: int, count: int) -> None:
    """The attempts of these numbers run one after the other, each for `EACH_MS`."""
    for number in range(first, first + count):
        world.tick(EACH_MS)
        world.end(f"a{number}")
        world.tick()


def test_what_starts_soon_stays_though_it_is_late() -> None:
    world = World(slots=1, ahead=99)
    for number in range(80):
        world.dispatch(f"a{number}")
    in_time, soon = WAIT_MS_MIN // EACH_MS, WAIT_MS_MIN // EACH_MS
    short_attempts(world, 0, in_time)
    assert declined(world) == []
    short_attempts(world, in_time, 1)
    went_back = in_time + 1 + soon
    assert [job for job, _ in declined(world)] == [f"a{number}" for number in range(went_back, 80)]
    for number in range(in_time + 1, went_back):
        assert world.rules.wake_at(world.now) > world.now, "it looks now and then, not on and on"
        short_attempts(world, number, 1)
    assert declined(world) == []


def test_what_is_overtaken_again_and_again_goes_back() -> None:
    world = World(slots=1, ahead=99)
    world.dispatch("a0")
    world.dispatch("low", priority=1)
    for number in range(1, PATIENCE * WAIT_MS_MIN // EACH_MS):
        world.dispatch(f"a{number}", priority=9)
        short_attempts(world, number - 1, 1)
        assert declined(world) == []
    world.tick(EACH_MS)
    assert [job for job, _ in declined(world)] == ["low"]


@pytest.mark.parametrize("reason", [StopReason.CANCELLED, StopReason.DEADLINE])
def test_a_stop_of_what_is_at_hand_sends_it_back_at_once(reason: StopReason) -> None:
    world = full()
    world.dispatch("a")
    stop = StopAttempt(**world.envelope("s1"), queue="q", job_id="a", attempt=1, reason=reason, grace_ms=7)
    world.receive(stop)
    assert [job for job, _ in declined(world)] == ["a"]
    world.end("first0")
    world.tick()
    assert started(world) == []


def test_a_worker_that_drains_sends_back_what_it_has_not_started() -> None:
    world = full()
    world.dispatch("a")
    world.do(world.rules.drain())
    world.tick(SETTLE_MS)
    assert [job for job, _ in declined(world)] == ["a"]
    world.end("first0")
    world.tick()
    assert started(world) == []


def test_a_session_that_ends_sends_back_what_it_has_not_started() -> None:
    for end in (
        lambda world: world.receive(SessionClosed(**world.envelope("s1"))),
        lambda world: world.do(world.rules.guard_lost({"q/first0/1"}, set(), 0)),
        lambda world: world.do(world.rules.session_unreadable("s1")),
    ):
        world = full()
        world.dispatch("a")
        end(world)
        world.tick(SETTLE_MS)
        assert "a" in [job for job, _ in declined(world)]
        assert started(world) == []


def test_a_session_that_lapses_sends_back_what_it_has_not_started() -> None:
    world = full()
    world.connected = False
    world.tick(HOLDS_MS - 10)
    world.dispatch("a")
    world.tick(20)
    world.connected = True
    world.tick(2_000 + SETTLE_MS)
    assert started(world) == []
    assert [job for job, _ in declined(world)] == ["a"]


# ---- offers


def test_nothing_is_offered_ahead_before_the_owner_knows_what_that_is() -> None:
    world = World(slots=2, ahead=3)
    world.tick(CHANGE_MS)
    assert world.offers()[0].ahead == 0
    final(world, AHEAD_LEVEL - 1)
    world.tick(1_000)
    assert world.offers()[0].ahead == 0
    final(world)
    world.tick()
    assert world.offers()[0].ahead == 3


def test_short_attempts_raise_what_is_wanted_and_long_ones_lower_it() -> None:
    world = World(slots=2, ahead=None)
    final(world)
    for number in range(30):
        world.dispatch(f"a{number}")
        world.tick(2)
        world.end(f"a{number}")
        world.tick()
    world.tick(CHANGE_MS)
    assert world.offers()[0].ahead > 10
    for number in range(30):
        world.dispatch(f"b{number}")
        world.tick(1_000)
        world.end(f"b{number}")
        world.tick()
    assert world.offers()[0].ahead == 0


def test_while_all_slots_are_taken_for_long_nothing_is_wanted_ahead() -> None:
    world = World(slots=1, ahead=3)
    final(world)
    world.tick()
    assert world.offers()[0].ahead == 3
    world.dispatch("long")
    world.dispatch("a")
    world.tick(WAIT_MS_MIN + 1)
    assert world.offers()[0].ahead == 0
    assert [job for job, _ in declined(world)] == ["a"]
    world.end("long")
    world.tick(CHANGE_MS)
    assert world.offers()[0].ahead == 3


def test_a_retired_session_offers_nothing_ahead() -> None:
    world = World(slots=1, ahead=3)
    final(world)
    world.tick()
    world.do(world.rules.session_unreadable("s1"))
    world.take(SendHeartbeat)
    world.tick()
    first = next(beat.heartbeat for beat in world.take(SendHeartbeat) if beat.session == "s1")
    assert [(offer.slots, offer.ahead) for offer in first.offers] == [(0, 0)]


# ---- what is measured


def test_the_round_trip_is_from_a_report_to_the_dispatch_that_follows_while_jobs_wait() -> None:
    world = World(slots=1, ahead=5)
    heard(world)
    for number in range(20):
        world.dispatch(f"a{number}")
        world.end(f"a{number}")
        world.tick(80)
        heard(world)
    world.dispatch("busy")
    world.dispatch("waits")
    world.tick(159)
    assert declined(world) == []
    world.tick(1)
    assert [reason for _, reason in declined(world)] == ["it did not start within 160 ms"]


def test_a_time_without_waiting_jobs_is_no_round_trip() -> None:
    prefetch = Prefetch(1, None)
    prefetch.place_freed(0, 0)
    prefetch.dispatch_arrived(0, ROUND_TRIP_MS_MAX + 1, 1)
    assert prefetch.wait_ms == max(WAIT_MS_MIN, 2 * ROUND_TRIP_MS)
    prefetch.dispatch_arrived(0, 10_000, 1)
    prefetch.place_freed(0, 10_000)
    prefetch.dispatch_arrived(0, 10_000 + ROUND_TRIP_MS_MAX, 1)
    assert prefetch.wait_ms == 2 * ROUND_TRIP_MS_MAX


def wanted(prefetch: Prefetch, slots: int = 1, moving: int | None = None, now: int = 0) -> int:
    return prefetch.wanted(0, slots, slots if moving is None else moving, now)


def test_a_worker_that_has_measured_nothing_wants_nothing_at_hand() -> None:
    assert wanted(Prefetch(4, None), 4) == 0


def test_what_is_wanted_is_bounded() -> None:
    for slots, expected in ((1, PER_SLOT_MAX), (64, AHEAD_MAX)):
        prefetch = Prefetch(slots, None)
        for _ in range(TIMES):
            prefetch.attempt_ended(0)
        assert wanted(prefetch, slots) == expected


def test_a_setting_bounds_what_is_wanted_of_all_partitions_together() -> None:
    prefetch = Prefetch(4, 6)
    assert [prefetch.wanted(p, slots, slots, 0) for p, slots in enumerate((1, 2, 1, 0))] == [1, 3, 1, 0]


def test_small_changes_cost_no_heartbeat_and_others_not_many() -> None:
    prefetch = Prefetch(1, None)
    for _ in range(TIMES):
        prefetch.attempt_ended(4)
    first = wanted(prefetch)
    assert first == int(BURST_PART * WAIT_MS_MIN / 4)
    for _ in range(TIMES // 8):
        prefetch.attempt_ended(8)
    assert wanted(prefetch, now=CHANGE_MS) == first
    for _ in range(TIMES):
        prefetch.attempt_ended(8)
    assert wanted(prefetch, now=CHANGE_MS - 1) == first
    assert wanted(prefetch, now=CHANGE_MS) == int(BURST_PART * WAIT_MS_MIN / 8)
    assert wanted(prefetch, moving=0, now=CHANGE_MS + 1) == 0, "at once"


def test_failures_of_the_guard_are_not_measured() -> None:
    world = full()
    world.do(world.rules.attempts_lost({"q/first0/1"}, {"q/first0/1"}, 0))
    (lost,) = world.commands()
    assert lost.reason is FailureReason.GUARD_LOST


# ---- several partitions


@pytest.mark.parametrize("ahead", [None, 8])
def test_a_partition_that_gives_slots_away_while_long_attempts_hold_them_gets_nothing_ahead(ahead: int | None) -> None:
    world = World(slots=4, queues=queues_in(2), partitions=2, ahead=ahead)
    final(world, partitions=2)
    world.tick(10)
    for _ in range(5):
        waiting(world, 9, 0)
        world.tick(50)
    for number in range(30):
        world.dispatch(f"short{number}")
        world.start(f"short{number}")
        world.tick(2)
        world.end(f"short{number}")
        world.tick(1)
    for number in range(4):
        world.dispatch(f"long{number}")
        world.start(f"long{number}")
    world.tick(600)
    world.take(SendHeartbeat)
    waiting(world, 9, 5)
    world.tick(1)
    assert {offer.partition: (offer.slots, offer.ahead) for offer in world.offers()}[0] == (2, 0)
    world.tick(12_000)


@pytest.mark.parametrize("paused", [False, True])
def test_jobs_of_a_paused_queue_want_no_slot(paused: bool) -> None:
    world = World(slots=4, queues=queues_in(2), partitions=2)
    report = PartitionReport(
        partition=1,
        role="owner",
        owner_epoch=1,
        applied_offset=0,
        next_command=0,
        demand=[QueueDemand(queue=world.rules.identity.queues[1], ready=9, paused=paused)],
        taken=[],
    )
    heartbeat = SchedulerHeartbeat(instance="s", host="h", pid=1, port=0, partitions=[report])
    world.rules.scheduler_heartbeat(heartbeat, world.now)
    assert world.rules._demand.waiting(world.now) == (set() if paused else {1})


def test_work_at_hand_keeps_its_partitions_slots_while_another_partition_has_demand() -> None:
    world = World(slots=4, queues=queues_in(2), partitions=2, ahead=None)
    final(world, partitions=2)
    for number in range(30):
        waiting(world, 9, 0)
        world.tick(25)
        world.dispatch(f"short{number}")
        world.start(f"short{number}")
        world.tick(20)
        world.end(f"short{number}")
    world.commands()
    for number in range(11):
        world.dispatch(f"next{number}")
    for number in range(4):
        world.start(f"next{number}")
    for _ in range(3):
        waiting(world, 0, 500)
        world.tick(5)
    assert {offer.partition: offer.slots for offer in world.offers()}[0] == 2
    for number in range(4):
        world.end(f"next{number}")
    world.take(Run)
    world.tick(1)
    assert len(world.take(Run)) == 2


def test_a_partition_with_more_long_attempts_than_slots_gets_nothing_ahead() -> None:
    assert Prefetch(slots=8, ahead=8).wanted(5, 2, -2, 10_000) == 0

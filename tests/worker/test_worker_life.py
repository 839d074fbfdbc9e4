"""The rules of a worker's sessions, as stories."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.core.records.commands import CheckpointAttempt, CompleteAttempt, DeclineAttempt, FailAttempt, StartAttempt
from ftjm.core.records.messages import (
    OfferTaken,
    PartitionReport,
    QueueDemand,
    SchedulerHeartbeat,
    SessionClosed,
    SessionState,
    Skipped,
    SlotOffer,
    StopAttempt,
)
from ftjm.core.state.model import FailureReason, StopReason
from ftjm.worker.attempts.protocol import Checkpointed
from ftjm.worker.rules.actions import CloseLane
from ftjm.worker.rules.session import LINGER_MS, SETTLE_MS, WorkerSession
from ftjm.worker.rules.starting import REPORTS_BEHIND_MAX
from tests.worker.rules_world import (
    HOLDS_MS,
    LEASE_MS,
    Halt,
    OpenLane,
    RenewLease,
    Run,
    SendHeartbeat,
    World,
    queues_in,
)

BOOTED_AT = 1_900_000_000_000


def told_the_time() -> World:
    """A worker that knows the brokers' time by its heartbeats."""
    world = World(slots=9)
    world.booted_at = BOOTED_AT
    world.tick(LEASE_MS // 5)
    return world


def test_a_session_reads_its_lane_before_its_first_heartbeat() -> None:
    world = World()
    assert [type(action) for action in world.actions][:2] == [OpenLane, SendHeartbeat]
    beat = world.take(SendHeartbeat)[0].heartbeat
    assert (beat.state, beat.slots, beat.busy) == (SessionState.OPEN, 2, 0)
    assert beat.offers == [SlotOffer(partition=0, number=1, slots=2)]
    assert world.take(RenewLease)[0].deadline_ms == 1_000 + HOLDS_MS


def test_heartbeats_come_five_times_a_lease() -> None:
    world = World()
    world.take(SendHeartbeat)
    world.tick(LEASE_MS)
    assert [beat.token for beat in world.take(SendHeartbeat)] == [2_000, 3_000, 4_000, 5_000, 6_000]


def test_an_attempt_runs_from_dispatch_to_success() -> None:
    world = World()
    order = world.dispatch("a")
    assert world.take(Run) == [Run("q/a/1", order)]
    world.start("a")
    world.tick(249)
    assert world.commands() == []
    world.tick(1)
    (started,) = world.commands()
    assert isinstance(started, StartAttempt)
    assert (started.queue, started.job_id, started.run, started.attempt, started.session) == ("q", "a", 1, 1, "s1")
    world.end("a", stdout=b"out", result=b"1", started_at=77, ended_at=99)
    (done,) = world.commands()
    assert isinstance(done, CompleteAttempt)
    assert (done.stdout, done.result, done.started_at, done.ended_at, done.actor) == (b"out", b"1", 77, 99, "worker/w")
    assert world.rules.live_attempts == 0


def test_a_short_attempt_is_reported_once() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.end("a", reason=FailureReason.EXIT_CODE, exit_code=3)
    world.tick(1_000)
    (failed,) = world.commands()
    assert isinstance(failed, FailAttempt)
    assert (failed.reason, failed.exit_code) == (FailureReason.EXIT_CODE, 3)


def test_a_missing_message_retires_the_session() -> None:
    """The lane has lost a message or delivers it later. New attempts are declined; stops and closings are obeyed."""
    world = World(slots=9)
    first, lost, third = world.order("a"), world.order("b"), world.order("c")
    world.receive(first)
    world.receive(third)
    assert [run.key for run in world.take(Run)] == ["q/a/1"]
    world.take(OpenLane)
    world.tick(0)
    assert [listen.session for listen in world.take(OpenLane)] == ["s2"]
    world.receive(lost)
    world.receive(lost)
    assert world.take(Run) == []
    stop = StopAttempt(
        **world.envelope("s1"), queue="q", job_id="a", attempt=1, reason=StopReason.CANCELLED, grace_ms=7
    )
    world.receive(stop)
    assert [halt.key for halt in world.take(Halt)] == ["q/a/1"]
    world.tick(SETTLE_MS + 1)
    assert [(type(it), it.job_id) for it in world.commands()] == [(DeclineAttempt, "c"), (DeclineAttempt, "b")]


def test_repeated_messages_and_messages_for_others_are_dropped() -> None:
    world = World(slots=9)
    first, second, third = world.order("a"), world.order("b"), world.order("c")
    world.receive(first)
    world.receive(first)
    assert [run.key for run in world.take(Run)] == ["q/a/1"]
    world.receive(second)
    world.receive(Skipped(session="s1", partition=0, number=3))
    world.receive(third)
    world.receive(world.order("d", session="s0"))
    assert [run.key for run in world.take(Run)] == ["q/b/1"]
    world.dispatch("e")
    assert [run.key for run in world.take(Run)] == ["q/e/1"]
    assert world.commands() == []


def test_a_message_that_cannot_be_decoded_ends_the_session() -> None:
    world = World()
    world.take(OpenLane)
    world.rules.session_unreadable("s1")
    world.tick(0)
    assert [listen.session for listen in world.take(OpenLane)] == ["s2"]
    world.rules.session_unreadable("unknown")


def test_two_attempts_of_a_job_never_run_together() -> None:
    world = World()
    world.dispatch("a", continue_for_ms=60_000)
    world.dispatch("a", attempt=2)
    (declined,) = world.commands()
    assert (declined.attempt, "older attempt" in declined.reason) == (2, True)


def test_a_stop_reaches_only_the_attempt_it_names() -> None:
    world = World()
    world.dispatch("a", attempt=2)
    for attempt in (1, 2):
        world.receive(
            StopAttempt(
                **world.envelope("s1"), queue="q", job_id="a", attempt=attempt, reason=StopReason.CANCELLED, grace_ms=7
            )
        )
    assert world.take(Halt) == [Halt("q/a/2", FailureReason.STOPPED, 7)]


def test_nothing_starts_before_a_heartbeat_is_acknowledged() -> None:
    world = World()
    world.connected = False
    world.receive(SessionClosed(**world.envelope("s1")))
    world.tick()
    world.dispatch("a", session="s2")
    assert world.take(Run) == []


def test_at_its_deadline_a_session_stops_its_attempts_and_another_one_opens() -> None:
    world = World()
    world.dispatch("short")
    world.dispatch("long", continue_for_ms=60_000)
    world.take(RenewLease)
    world.connected = False
    world.tick(HOLDS_MS - 1)
    assert world.take(Halt) == []
    world.tick(1)
    assert world.take(Halt) == [Halt("q/short/1", FailureReason.LEASE_EXPIRED, 0)]
    assert world.take(OpenLane)[-1].session == "s2"
    world.end("short", reason=FailureReason.LEASE_EXPIRED)
    world.tick(20_000)
    world.connected = True
    world.take(SendHeartbeat)
    world.tick(1_000)
    beats = {beat.session: beat.heartbeat for beat in world.take(SendHeartbeat)}
    assert (beats["s1"].state, beats["s1"].busy) == (SessionState.DRAINING, 1)
    assert [offer.slots for offer in beats["s1"].offers] == [0]
    # An owner may have received heartbeats of s2 only, and may have given it up by now.
    assert [offer.slots for offer in beats["s2"].offers] == [0]
    assert [offer.slots for offer in beats["s3"].offers] == [1]
    assert world.take(Halt) == []
    assert max(extend.deadline_ms for extend in world.take(RenewLease) if extend.session == "s1") > world.now
    world.dispatch("other", session="s1")
    world.tick(SETTLE_MS)
    assert isinstance(world.commands()[-1], DeclineAttempt)
    world.dispatch("other", session="s3")
    assert world.take(Run)[-1].key == "q/other/1"


def test_the_extra_time_beyond_the_lease_ends_too() -> None:
    world = World()
    world.dispatch("long", continue_for_ms=10_000)
    world.connected = False
    world.tick(HOLDS_MS + 9_999)
    assert world.take(Halt) == []
    world.tick(1)
    assert world.take(Halt) == [Halt("q/long/1", FailureReason.LEASE_EXPIRED, 0)]


def test_an_acknowledgement_after_the_deadline_does_not_move_it() -> None:
    world = World()
    world.connected = False
    world.tick(1_000)
    (token, *_) = [beat.token for beat in world.take(SendHeartbeat)][-1:]
    world.now += 60_000
    world.do(world.rules.heartbeat_acknowledged("s1", token, world.now))
    world.dispatch("a")
    assert world.take(Run) == []
    world.tick()
    assert world.rules.current is not None
    assert world.rules.current.name == "s2"


def paused(world: World, ms: int) -> None:
    """A hypervisor pauses the machine: the clock of the host stands still, and that of the brokers does not."""
    world.tick(LEASE_MS // 5)
    for kind in (Halt, OpenLane, RenewLease):
        world.take(kind)
    world.booted_at += ms
    world.tick(LEASE_MS // 5)


def test_a_machine_that_was_paused_for_a_lease_does_not_renew_it() -> None:
    world = told_the_time()
    world.dispatch("a")
    world.dispatch("patient", continue_for_ms=60_000)
    paused(world, LEASE_MS)
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.LEASE_EXPIRED, 0)]
    assert [lane.session for lane in world.take(OpenLane)] == ["s2"]
    world.take(Run)
    world.dispatch("late", session="s1")
    assert world.take(Run) == []
    world.tick(2 * LEASE_MS)
    assert world.take(Halt) == [], "an attempt that may continue is waited for, and its deadline is renewed"
    assert any(renewed.session == "s1" for renewed in world.take(RenewLease))


def test_a_pause_that_is_longer_than_an_attempt_may_continue_stops_it() -> None:
    world = told_the_time()
    world.dispatch("patient", continue_for_ms=60_000)
    paused(world, LEASE_MS + 60_000)
    assert world.take(Halt) == [Halt("q/patient/1", FailureReason.LEASE_EXPIRED, 0)]


@pytest.mark.parametrize("ms", [LEASE_MS // 2, -LEASE_MS, -10 * LEASE_MS])
def test_a_short_pause_or_a_clock_of_a_broker_that_goes_back_ends_no_session(ms: int) -> None:
    world = told_the_time()
    world.dispatch("a")
    paused(world, ms)
    assert world.take(Halt) == world.take(OpenLane) == []
    assert world.take(RenewLease)[-1].deadline_ms == world.now + HOLDS_MS


def test_without_the_brokers_time_a_pause_is_not_noticed_by_heartbeats() -> None:
    world = World()
    world.dispatch("a")
    world.booted_at = BOOTED_AT
    world.tick(LEASE_MS // 5)
    world.booted_at = 0
    world.tick(LEASE_MS // 5)
    assert world.take(Halt) == []


def test_an_older_acknowledgement_changes_nothing() -> None:
    world = World()
    world.tick(2_000)
    deadline = world.take(RenewLease)[-1].deadline_ms
    world.do(world.rules.heartbeat_acknowledged("s1", 1_000, world.now))
    assert world.take(RenewLease)[-1].deadline_ms == deadline
    assert world.rules.heartbeat_acknowledged("gone", 1_000, world.now) == []


def test_an_owner_that_closes_the_session_stops_only_its_own_attempts() -> None:
    world = World(slots=6, queues=queues_in(3), partitions=3)
    world.dispatch("a", partition=1)
    world.dispatch("b", partition=2)
    world.dispatch("c", partition=1, continue_for_ms=60_000)
    world.receive(SessionClosed(**world.envelope("s1", 1)))
    world.tick()
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.LEASE_EXPIRED, 0)]
    assert world.take(OpenLane)[-1].session == "s2"
    world.end("a", reason=FailureReason.LEASE_EXPIRED)
    world.tick(2 * LEASE_MS)
    assert world.take(Halt) == []
    assert {"s1", "s2"} <= {beat.session for beat in world.take(SendHeartbeat)}
    world.end("b")
    world.end("c")
    world.tick(LINGER_MS)
    assert [leave.session for leave in world.take(CloseLane)] == ["s1"]
    last = [beat.heartbeat for beat in world.take(SendHeartbeat) if beat.session == "s1"][-1]
    assert last.state is SessionState.CLOSED


def stop(
    world: World, job: str, *, session: str = "s1", partition: int = 0, reason: StopReason = StopReason.CANCELLED
) -> None:
    world.receive(
        StopAttempt(
            **world.envelope(session, partition),
            queue="q",
            job_id=job,
            attempt=1,
            reason=reason,
            grace_ms=7,
        )
    )


def test_an_attempt_that_outlived_the_lease_can_be_stopped() -> None:
    """The partition has given the session up, and waits for the attempt: its requests must still reach it."""
    world = World()
    world.dispatch("a", continue_for_ms=60_000)
    world.connected = False
    world.tick(LEASE_MS)
    world.connected = True
    world.receive(SessionClosed(**world.envelope("s1")))
    world.tick(LEASE_MS)
    assert world.take(Halt) == []
    stop(world, "a")
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.STOPPED, 7)]
    world.end("a", reason=FailureReason.STOPPED)
    assert [(type(it), it.session) for it in world.commands()] == [(FailAttempt, "s1")]


def test_a_session_that_was_closed_starts_nothing_and_closes_once() -> None:
    world = World()
    world.dispatch("a", continue_for_ms=60_000)
    closed = SessionClosed(**world.envelope("s1"))
    world.receive(closed)
    world.receive(closed)
    world.take(Run)
    world.dispatch("b", session="s1")
    world.tick(SETTLE_MS)
    assert world.take(Run) == []
    assert [type(it) for it in world.commands()] == [DeclineAttempt]


def test_a_stop_of_an_attempt_that_is_not_there_is_answered() -> None:
    """The log has lost the attempt's report, or the message that starts it. The partition would wait for ever."""
    world = World()
    world.dispatch("a")
    world.end("a")
    world.commands()
    stop(world, "a")
    assert world.take(Halt) == []
    (answer,) = world.commands()
    assert isinstance(answer, FailAttempt)
    assert (answer.job_id, answer.attempt, answer.session, answer.reason) == ("a", 1, "s1", FailureReason.STOPPED)


def test_a_cancellation_behind_the_stop_of_a_window_leads_to_one_report() -> None:
    world = World()
    world.dispatch("a")
    stop(world, "a", reason=StopReason.WINDOW)
    stop(world, "a", reason=StopReason.CANCELLED)
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.STOPPED, 7)] * 2
    world.end("a", reason=FailureReason.STOPPED)
    assert [type(it) for it in world.commands()] == [FailAttempt]


def test_a_stop_of_an_attempt_that_will_be_declined_needs_no_answer() -> None:
    world = World()
    world.do(world.rules.drain())
    world.dispatch("a", session="s1")
    stop(world, "a")
    assert world.commands() == []
    world.tick(SETTLE_MS)
    assert [type(it) for it in world.commands()] == [DeclineAttempt]


def test_an_attempt_whose_deadline_has_passed_is_not_started() -> None:
    """By the brokers' clock, since that of this host may be wrong."""
    world = told_the_time()
    world.dispatch("without")
    world.dispatch("in time", deadline_at=BOOTED_AT + world.now + 1)
    world.dispatch("passed", deadline_at=BOOTED_AT + world.now)
    assert [run.dispatch.job_id for run in world.take(Run)] == ["without", "in time"]
    (declined,) = world.commands()
    assert (declined.job_id, declined.reason) == ("passed", "the job's deadline has passed, or it was asked to stop")


def test_beyond_its_lease_an_attempt_is_stopped_at_the_deadline_of_its_job() -> None:
    """The owner's request may not arrive for as long as the worker is cut off."""
    world = told_the_time()
    at = world.now + 2 * LEASE_MS
    world.dispatch("a", deadline_at=BOOTED_AT + at, continue_for_ms=60_000, cancel_grace_ms=7)
    world.dispatch("b", continue_for_ms=60_000)
    world.connected = False
    world.tick(2 * LEASE_MS - 10)
    assert world.take(Halt) == []
    world.tick(10)
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.STOPPED, 7)]
    world.tick(LEASE_MS)
    assert world.take(Halt) == []


def test_a_session_that_cannot_be_told_to_stop_an_attempt_keeps_its_deadline() -> None:
    """Its heartbeats reach the log, so it is in its lease; but its lane cannot be read, or has lost a message."""
    world = told_the_time()
    world.dispatch("a", deadline_at=BOOTED_AT + world.now + 2 * LEASE_MS, cancel_grace_ms=7)
    world.do(world.rules.session_unreadable("s1"))
    world.tick(2 * LEASE_MS - 1)
    assert world.take(Halt) == []
    world.tick(1)
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.STOPPED, 7)]


def test_within_its_lease_an_attempt_is_stopped_by_its_owner_alone() -> None:
    world = told_the_time()
    world.dispatch("a", deadline_at=BOOTED_AT + world.now + 1_000)
    world.tick(2 * LEASE_MS)
    assert world.take(Halt) == []


def test_without_the_brokers_time_the_owner_alone_decides_about_deadlines() -> None:
    world = World()
    world.dispatch("a", deadline_at=1, continue_for_ms=60_000)
    world.connected = False
    world.tick(2 * LEASE_MS)
    assert [run.key for run in world.take(Run)] == ["q/a/1"]
    assert world.take(Halt) == []


def test_a_session_closes_after_its_reports_and_a_while() -> None:
    world = World()
    world.dispatch("a")
    world.do(world.rules.drain())
    world.tick()
    assert world.take(SendHeartbeat)[-1].heartbeat.state is SessionState.DRAINING
    world.connected = False
    world.end("a")
    world.tick(1_000)
    assert not world.rules.finished
    assert world.take(CloseLane) == []
    world.connected = True
    world.do(world.rules.report_confirmed("s1"))
    world.tick(1_000)
    assert world.take(SendHeartbeat)[-1].heartbeat.state is SessionState.CLOSED
    assert world.rules.finished


def test_an_attempt_on_its_way_to_a_retired_session_is_declined() -> None:
    world = World()
    world.do(world.rules.drain())
    world.tick()
    world.dispatch("late", session="s1")
    world.tick(SETTLE_MS - 1)
    assert world.commands() == []
    world.tick(1)
    (declined,) = world.commands()
    assert declined.reason == "the worker is leaving"
    world.tick(LINGER_MS)
    assert world.rules.finished


def test_without_the_log_a_retired_session_waits_and_a_drained_worker_leaves() -> None:
    world = World()
    world.connected = False
    world.tick(5 * LEASE_MS)
    assert set(world.rules.sessions) == {"s1", "s2"}
    world.do(world.rules.drain())
    world.tick(LEASE_MS)
    assert world.rules.finished


def test_a_worker_that_never_reached_the_log_leaves_at_once() -> None:
    world = World()
    rules = world.rules
    world.receive(SessionClosed(**world.envelope("s1")))
    # The second session was never opened.
    rules.tick(world.now)
    rules.drain()
    assert "s2" in rules.sessions
    rules.tick(world.now)
    assert "s2" not in rules.sessions


@pytest.mark.parametrize(("at_once", "grace_ms"), [(False, 10_000), (True, 0)])
def test_halt_stops_everything(at_once: bool, grace_ms: int) -> None:
    world = World()
    world.dispatch("a")
    world.do(world.rules.drain())
    world.do(world.rules.halt_all(at_once=at_once))
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.WORKER_STOPPED, grace_ms)]


def test_bystanders_of_a_lost_guard_are_told_from_suspects() -> None:
    world = World(slots=3)
    for job in "abc":
        world.dispatch(job)
    world.do(world.rules.guard_lost(["q/a/1", "q/b/1"], ["q/b/1"], 99))
    assert [(command.job_id, command.reason) for command in world.commands()] == [
        ("a", FailureReason.GUARD_LOST_BESIDE),
        ("b", FailureReason.GUARD_LOST),
    ]
    assert world.rules.live_attempts == 1, "the third has a guard of its own"


def test_a_guard_of_one_attempt_takes_no_session_along() -> None:
    world = World()
    world.dispatch("a")
    world.do(world.rules.attempts_lost(["q/a/1"], ["q/a/1"], 99))
    (failed,) = world.commands()
    assert failed.reason is FailureReason.GUARD_LOST
    world.take(Run)
    world.dispatch("b", session="s1")
    assert [action.key for action in world.take(Run)] == ["q/b/1"]


def test_a_lost_guard_fails_its_attempts_and_opens_a_new_session() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.do(world.rules.guard_lost(["q/a/1"], ["q/a/1"], 99))
    (failed,) = world.commands()
    assert (failed.reason, failed.started_at, failed.ended_at) == (FailureReason.GUARD_LOST, 77, 99)
    world.tick()
    assert world.take(OpenLane)[-1].session == "s2"
    world.take(Run)
    world.dispatch("b", session="s1")
    world.tick(SETTLE_MS)
    assert world.take(Run) == []
    assert isinstance(world.commands()[0], DeclineAttempt)


def owner_heartbeat(
    partition: int, *, ready: int, taken: list[OfferTaken] | None = None, role: str = "owner", other: str = "not-ours"
):
    report = PartitionReport(
        partition=partition,
        role=role,
        owner_epoch=1,
        applied_offset=0,
        next_command=0,
        demand=[QueueDemand(queue="q", ready=ready), QueueDemand(queue=other, ready=9)],
        taken=taken or [],
    )
    return SchedulerHeartbeat(instance="i", host="h", pid=1, port=1, partitions=[report])


def test_offers_follow_demand_and_are_sent_at_once() -> None:
    world = World(slots=4, queues=("q", "r"), partitions=16)
    session = world.rules.current
    assert session is not None
    first, second = (offer.partition for offer in world.offers())
    world.rules.scheduler_heartbeat(owner_heartbeat(first, ready=0), world.now)
    world.rules.scheduler_heartbeat(owner_heartbeat(first, ready=5, role="standby"), world.now)
    world.rules.scheduler_heartbeat(owner_heartbeat(second, ready=5), world.now)
    world.tick()
    assert {offer.partition: offer.slots for offer in world.offers()} == {first: 0, second: 2}
    world.rules.scheduler_heartbeat(
        owner_heartbeat(first, ready=0, taken=[OfferTaken(session="s1", number=2)]), world.now
    )
    world.tick()
    assert {offer.partition: offer.slots for offer in world.offers()} == {first: 0, second: 4}


def test_a_partition_with_more_waiting_queues_than_it_lists_is_offered_slots_too() -> None:
    """One of the queues that are not listed may be ours: its jobs would starve beside a busy partition."""
    world = World(slots=4, queues=("q", "r"), partitions=16)
    session = world.rules.current
    assert session is not None
    first, second = (offer.partition for offer in world.offers())
    for _ in range(3):
        offers = session.offers.messages()
        taken = {offer.partition: [OfferTaken(session="s1", number=offer.number)] for offer in offers}
        world.rules.scheduler_heartbeat(owner_heartbeat(second, ready=9, taken=taken.get(second)), world.now)
        world.rules.scheduler_heartbeat(owner_heartbeat(first, ready=0, other="", taken=taken.get(first)), world.now)
        world.tick(1_000)
    offered = {offer.partition: offer.slots for offer in session.offers.messages()}
    assert offered == {first: 2, second: 2}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_attempt_outlives_its_own_deadline(data: st.DataObject) -> None:
    """Whatever the connection does, a running attempt is stopped at the deadline that the log confirmed."""
    world = World(slots=3)
    acknowledged: dict[str, int] = {"s1": 1_000}
    jobs = 0
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["dispatch", "pass", "cut", "heal"]))
        if step == "dispatch" and world.rules.current and world.rules.live_attempts < 3:
            jobs += 1
            world.dispatch(f"j{jobs}", continue_for_ms=data.draw(st.sampled_from([0, 0, 3_000])))
        elif step == "pass":
            world.tick(data.draw(st.integers(1, 4_000)))
        else:
            world.connected = step == "heal"
        world.tick()
        for extend in world.take(RenewLease):
            acknowledged[extend.session] = extend.deadline_ms
        halted = {halt.key for halt in world.actions if isinstance(halt, Halt)}
        for session in world.rules.sessions.values():
            for held in session.held.values():
                deadline = acknowledged[session.name] + held.continue_for_ms
                assert held.key in halted or world.now < deadline or session.name not in acknowledged
        assert world.rules.live_attempts <= 3


def test_a_session_whose_first_heartbeat_is_confirmed_only_after_its_lease_starts_nothing() -> None:
    session = WorkerSession("s1", World().rules.identity)
    token, _ = session.heartbeat(1_000, SessionState.OPEN)
    session.heartbeat(1_000 + HOLDS_MS - 10, SessionState.OPEN)
    session.heartbeat_acknowledged(token + HOLDS_MS - 10, 1_000 + HOLDS_MS)
    assert session.retired
    assert not session.is_in_lease(1_000 + HOLDS_MS)


def test_checkpoints_go_to_the_log_and_the_last_one_before_the_failure() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.do(world.rules.attempt_checkpointed(Checkpointed(key="q/a/1", data=b"1")))
    world.do(world.rules.attempt_checkpointed(Checkpointed(key="q/a/1", progress=0.5, text="half")))
    world.tick()
    [checkpoint] = world.commands()
    assert isinstance(checkpoint, CheckpointAttempt)
    assert (checkpoint.run, checkpoint.attempt, checkpoint.data, checkpoint.progress, checkpoint.text) == (
        1,
        1,
        b"1",
        0.5,
        "half",
    )
    world.do(world.rules.attempt_checkpointed(Checkpointed(key="q/a/1", data=b"2")))
    world.end("a", reason=FailureReason.SIGNAL)
    last, failed = world.commands()
    assert (last.data, type(failed)) == (b"2", FailAttempt)
    world.do(world.rules.attempt_checkpointed(Checkpointed(key="q/a/1", data=b"3")))
    world.tick()
    assert world.commands() == []


def test_a_success_needs_no_checkpoint() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.do(world.rules.attempt_checkpointed(Checkpointed(key="q/a/1", data=b"1")))
    world.end("a")
    assert [type(command) for command in world.commands()] == [CompleteAttempt]


def test_while_the_log_is_away_only_the_newest_checkpoint_waits() -> None:
    world = World()
    world.dispatch("a", continue_for_ms=10**9)
    world.start("a")
    world.tick(300)
    session = world.rules.current
    assert session is not None
    world.connected = False
    for number in range(3 * REPORTS_BEHIND_MAX):
        world.do(world.rules.attempt_checkpointed(Checkpointed(key="q/a/1", data=b"%d" % number)))
        world.tick()
    sent = [command.data for command in world.commands() if isinstance(command, CheckpointAttempt)]
    assert sent == [b"%d" % number for number in range(REPORTS_BEHIND_MAX)]
    world.do(world.rules.report_confirmed(session.name))
    world.tick()
    [newest] = world.commands()
    assert newest.data == b"%d" % (3 * REPORTS_BEHIND_MAX - 1)

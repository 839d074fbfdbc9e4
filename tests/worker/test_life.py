"""The rules of a worker's sessions, as stories."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.core.commands import CheckpointAttempt, CompleteAttempt, DeclineAttempt, FailAttempt, StartAttempt
from ftjm.core.messages import (
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
from ftjm.core.model import FailureReason, StopReason
from ftjm.worker.duties import Leave
from ftjm.worker.life import REPORTS_BEHIND_MAX
from ftjm.worker.protocol import Checkpointed
from ftjm.worker.session import LINGER_MS, SETTLE_MS, Session
from tests.worker.lives import HOLDS_MS, LEASE_MS, Beat, Extend, Halt, Listen, Run, World


def test_it_listens_before_it_is_heard_of() -> None:
    world = World()
    assert [type(duty) for duty in world.duties][:2] == [Listen, Beat]
    beat = world.take(Beat)[0].heartbeat
    assert (beat.state, beat.slots, beat.busy) == (SessionState.OPEN, 2, 0)
    assert beat.offers == [SlotOffer(partition=0, number=1, slots=2)]
    assert world.take(Extend)[0].deadline_ms == 1_000 + HOLDS_MS


def test_heartbeats_come_five_times_a_lease() -> None:
    world = World()
    world.take(Beat)
    world.tick(LEASE_MS)
    assert [beat.token for beat in world.take(Beat)] == [2_000, 3_000, 4_000, 5_000, 6_000]


def test_an_attempt_from_dispatch_to_success() -> None:
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
    assert world.life.live == 0


def test_a_short_attempt_is_reported_once() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.end("a", reason=FailureReason.EXIT_CODE, exit_code=3)
    world.tick(1_000)
    (failed,) = world.commands()
    assert isinstance(failed, FailAttempt)
    assert (failed.reason, failed.exit_code) == (FailureReason.EXIT_CODE, 3)


def test_behind_a_gap_nothing_new_is_taken_and_the_session_ends() -> None:
    """A lane has lost something, or brings it later. What comes then is declined; stops and closings hold."""
    world = World(slots=9)
    first, lost, third = world.order("a"), world.order("b"), world.order("c")
    world.receive(first)
    world.receive(third)
    assert [run.key for run in world.take(Run)] == ["q/a/1"]
    world.take(Listen)
    world.tick(0)
    assert [listen.session for listen in world.take(Listen)] == ["s2"]
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


def test_repeats_and_messages_for_others_are_dropped() -> None:
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
    world.take(Listen)
    world.life.unreadable("s1")
    world.tick(0)
    assert [listen.session for listen in world.take(Listen)] == ["s2"]
    world.life.unreadable("nobody's")


def test_a_full_worker_declines() -> None:
    world = World(slots=1)
    world.dispatch("a")
    world.dispatch("b", partition=3)
    (declined,) = world.commands()
    assert isinstance(declined, DeclineAttempt)
    assert (declined.job_id, declined.reason) == ("b", "all 1 slots are taken")


def test_two_attempts_of_a_job_never_run_together() -> None:
    world = World()
    world.dispatch("a", continue_for_ms=60_000)
    world.dispatch("a", attempt=2)
    (declined,) = world.commands()
    assert (declined.attempt, "older attempt" in declined.reason) == (2, True)


def test_stop_reaches_only_the_attempt_it_names() -> None:
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


def test_past_the_deadline_attempts_stop_and_a_new_session_takes_over() -> None:
    world = World()
    world.dispatch("short")
    world.dispatch("long", continue_for_ms=60_000)
    world.take(Extend)
    world.connected = False
    world.tick(HOLDS_MS - 1)
    assert world.take(Halt) == []
    world.tick(1)
    assert world.take(Halt) == [Halt("q/short/1", FailureReason.LEASE_EXPIRED, 0)]
    assert world.take(Listen)[-1].session == "s2"
    world.end("short", reason=FailureReason.LEASE_EXPIRED)
    world.tick(20_000)
    world.connected = True
    world.take(Beat)
    world.tick(1_000)
    beats = {beat.session: beat.heartbeat for beat in world.take(Beat)}
    assert (beats["s1"].state, beats["s1"].busy) == (SessionState.DRAINING, 1)
    assert [offer.slots for offer in beats["s1"].offers] == [0]
    # An owner may have heard s2 all the while, and given it up by now.
    assert [offer.slots for offer in beats["s2"].offers] == [0]
    assert [offer.slots for offer in beats["s3"].offers] == [1]
    assert world.take(Halt) == []
    assert max(extend.deadline_ms for extend in world.take(Extend) if extend.session == "s1") > world.now
    world.dispatch("other", session="s1")
    world.tick(SETTLE_MS)
    assert isinstance(world.commands()[-1], DeclineAttempt)
    world.dispatch("other", session="s3")
    assert world.take(Run)[-1].key == "q/other/1"


def test_an_extension_ends_too() -> None:
    world = World()
    world.dispatch("long", continue_for_ms=10_000)
    world.connected = False
    world.tick(HOLDS_MS + 9_999)
    assert world.take(Halt) == []
    world.tick(1)
    assert world.take(Halt) == [Halt("q/long/1", FailureReason.LEASE_EXPIRED, 0)]


def test_an_answer_after_the_deadline_does_not_undo_it() -> None:
    world = World()
    world.connected = False
    world.tick(1_000)
    (token, *_) = [beat.token for beat in world.take(Beat)][-1:]
    world.now += 60_000
    world.do(world.life.acknowledged("s1", token, world.now))
    world.dispatch("a")
    assert world.take(Run) == []
    world.tick()
    assert world.life.current is not None
    assert world.life.current.name == "s2"


def test_an_older_answer_changes_nothing() -> None:
    world = World()
    world.tick(2_000)
    deadline = world.take(Extend)[-1].deadline_ms
    world.do(world.life.acknowledged("s1", 1_000, world.now))
    assert world.take(Extend)[-1].deadline_ms == deadline
    assert world.life.acknowledged("gone", 1_000, world.now) == []


def test_a_partition_that_gives_the_session_up_takes_only_its_own() -> None:
    world = World(slots=4)
    world.dispatch("a", partition=1)
    world.dispatch("b", partition=2)
    world.dispatch("c", partition=1, continue_for_ms=60_000)
    world.receive(SessionClosed(**world.envelope("s1", 1)))
    world.tick()
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.LEASE_EXPIRED, 0)]
    assert world.take(Listen)[-1].session == "s2"
    world.end("a", reason=FailureReason.LEASE_EXPIRED)
    world.tick(2 * LEASE_MS)
    assert world.take(Halt) == []
    assert {"s1", "s2"} <= {beat.session for beat in world.take(Beat)}
    world.end("b")
    world.end("c")
    world.tick(LINGER_MS)
    assert [leave.session for leave in world.take(Leave)] == ["s1"]
    last = [beat.heartbeat for beat in world.take(Beat) if beat.session == "s1"][-1]
    assert last.state is SessionState.CLOSED


def test_a_farewell_waits_for_the_reports_and_lingers() -> None:
    world = World()
    world.dispatch("a")
    world.do(world.life.drain())
    world.tick()
    assert world.take(Beat)[-1].heartbeat.state is SessionState.DRAINING
    world.connected = False
    world.end("a")
    world.tick(1_000)
    assert not world.life.finished
    assert world.take(Leave) == []
    world.connected = True
    world.do(world.life.confirmed("s1"))
    world.tick(1_000)
    assert world.take(Beat)[-1].heartbeat.state is SessionState.CLOSED
    assert world.life.finished


def test_what_was_on_its_way_to_a_leaving_session_is_declined() -> None:
    world = World()
    world.do(world.life.drain())
    world.tick()
    world.dispatch("late", session="s1")
    world.tick(SETTLE_MS - 1)
    assert world.commands() == []
    world.tick(1)
    (declined,) = world.commands()
    assert declined.reason == "the worker is leaving"
    world.tick(LINGER_MS)
    assert world.life.finished


def test_without_the_log_a_retired_session_waits_and_a_drained_worker_leaves() -> None:
    world = World()
    world.connected = False
    world.tick(5 * LEASE_MS)
    assert set(world.life.sessions) == {"s1", "s2"}
    world.do(world.life.drain())
    world.tick(LEASE_MS)
    assert world.life.finished


def test_a_worker_that_never_reached_the_log_leaves_at_once() -> None:
    world = World()
    life = world.life
    world.receive(SessionClosed(**world.envelope("s1")))
    # The second session was never opened.
    life.tick(world.now)
    life.drain()
    assert "s2" in life.sessions
    life.tick(world.now)
    assert "s2" not in life.sessions


@pytest.mark.parametrize(("at_once", "grace_ms"), [(False, 10_000), (True, 0)])
def test_halt_stops_everything(at_once: bool, grace_ms: int) -> None:
    world = World()
    world.dispatch("a")
    world.do(world.life.drain())
    world.do(world.life.halt(at_once=at_once))
    assert world.take(Halt) == [Halt("q/a/1", FailureReason.WORKER_STOPPED, grace_ms)]


def test_a_lost_guard_fails_its_attempts_and_opens_a_new_session() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.do(world.life.guard_lost(99))
    (failed,) = world.commands()
    assert (failed.reason, failed.started_at, failed.ended_at) == (FailureReason.GUARD_LOST, 77, 99)
    world.tick()
    assert world.take(Listen)[-1].session == "s2"
    world.take(Run)
    world.dispatch("b", session="s1")
    world.tick(SETTLE_MS)
    assert world.take(Run) == []
    assert isinstance(world.commands()[0], DeclineAttempt)


def owner_says(partition: int, *, ready: int, taken: list[OfferTaken] | None = None, role: str = "owner"):
    report = PartitionReport(
        partition=partition,
        role=role,
        owner_epoch=1,
        applied_offset=0,
        next_command=0,
        demand=[QueueDemand(queue="q", ready=ready), QueueDemand(queue="not-ours", ready=9)],
        taken=taken or [],
    )
    return SchedulerHeartbeat(instance="i", host="h", pid=1, port=1, partitions=[report])


def test_offers_follow_demand_and_are_told_at_once() -> None:
    world = World(slots=4, queues=("q", "r"), partitions=16)
    session = world.life.current
    assert session is not None
    first, second = (offer.partition for offer in world.offers())
    world.life.scheduler_said(owner_says(first, ready=0), world.now)
    world.life.scheduler_said(owner_says(first, ready=5, role="standby"), world.now)
    world.life.scheduler_said(owner_says(second, ready=5), world.now)
    world.tick()
    assert {offer.partition: offer.slots for offer in world.offers()} == {first: 0, second: 2}
    world.life.scheduler_said(owner_says(first, ready=0, taken=[OfferTaken(session="s1", number=2)]), world.now)
    world.tick()
    assert {offer.partition: offer.slots for offer in world.offers()} == {first: 0, second: 4}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_attempt_outlives_its_own_deadline(data: st.DataObject) -> None:
    """Whatever the connection does: an attempt that runs is told to stop at the deadline that the log has seen."""
    world = World(slots=3)
    acknowledged: dict[str, int] = {"s1": 1_000}
    jobs = 0
    for _ in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["dispatch", "pass", "cut", "heal"]))
        if step == "dispatch" and world.life.current and world.life.live < 3:
            jobs += 1
            world.dispatch(f"j{jobs}", continue_for_ms=data.draw(st.sampled_from([0, 0, 3_000])))
        elif step == "pass":
            world.tick(data.draw(st.integers(1, 4_000)))
        else:
            world.connected = step == "heal"
        world.tick()
        for extend in world.take(Extend):
            acknowledged[extend.session] = extend.deadline_ms
        told = {halt.key for halt in world.duties if isinstance(halt, Halt)}
        for session in world.life.sessions.values():
            for held in session.held.values():
                deadline = acknowledged[session.name] + held.extension_ms
                assert held.key in told or world.now < deadline or session.name not in acknowledged
        assert world.life.live <= 3


def test_a_session_whose_first_heartbeat_is_confirmed_only_after_its_lease_starts_nothing() -> None:
    session = Session("s1", World().life.identity)
    token, _ = session.heartbeat(1_000, SessionState.OPEN)
    session.heartbeat(1_000 + HOLDS_MS - 10, SessionState.OPEN)
    session.acknowledged(token + HOLDS_MS - 10, 1_000 + HOLDS_MS)
    assert session.retired
    assert not session.in_lease(1_000 + HOLDS_MS)


def test_checkpoints_go_to_the_log_and_the_last_one_before_the_failure() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.do(world.life.checkpointed(Checkpointed(key="q/a/1", data=b"1")))
    world.do(world.life.checkpointed(Checkpointed(key="q/a/1", progress=0.5, text="half")))
    world.tick()
    [said] = world.commands()
    assert isinstance(said, CheckpointAttempt)
    assert (said.run, said.attempt, said.data, said.progress, said.text) == (1, 1, b"1", 0.5, "half")
    world.do(world.life.checkpointed(Checkpointed(key="q/a/1", data=b"2")))
    world.end("a", reason=FailureReason.SIGNAL)
    last, failed = world.commands()
    assert (last.data, type(failed)) == (b"2", FailAttempt)
    world.do(world.life.checkpointed(Checkpointed(key="q/a/1", data=b"3")))
    world.tick()
    assert world.commands() == []


def test_a_success_needs_no_checkpoint() -> None:
    world = World()
    world.dispatch("a")
    world.start("a")
    world.do(world.life.checkpointed(Checkpointed(key="q/a/1", data=b"1")))
    world.end("a")
    assert [type(command) for command in world.commands()] == [CompleteAttempt]


def test_while_the_log_is_away_only_the_newest_checkpoint_waits() -> None:
    world = World()
    world.dispatch("a", continue_for_ms=10**9)
    world.start("a")
    world.tick(300)
    session = world.life.current
    assert session is not None
    world.connected = False
    for number in range(3 * REPORTS_BEHIND_MAX):
        world.do(world.life.checkpointed(Checkpointed(key="q/a/1", data=b"%d" % number)))
        world.tick()
    told = [command.data for command in world.commands() if isinstance(command, CheckpointAttempt)]
    assert told == [b"%d" % number for number in range(REPORTS_BEHIND_MAX)]
    world.do(world.life.confirmed(session.name))
    world.tick()
    [newest] = world.commands()
    assert newest.data == b"%d" % (3 * REPORTS_BEHIND_MAX - 1)

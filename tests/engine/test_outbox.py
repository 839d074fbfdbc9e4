"""What leaves a partition after a commit, as what, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ftjm.adapters.avro import codec
from ftjm.core.records import commands as c
from ftjm.core.records import messages as m
from ftjm.core.state.model import FailureReason, StopReason
from ftjm.engine import outbox as outbox_module
from ftjm.engine.batch import Lapse
from ftjm.engine.outbox import LONG_PAST, Outbox
from ftjm.engine.ports import Parcel, StoreFailed, Unsendable
from tests.engine.world import OTHER_QUEUE, QUEUE, World, offer


class Wire:
    """Keeps what is sent, and delivers it when told."""

    def __init__(self) -> None:
        self.sent: list[tuple[Parcel, Callable[[bool], None]]] = []

    def send(self, parcel: Parcel, report: Callable[[bool], None]) -> None:
        self.sent.append((parcel, report))

    def deliver(self, *which: int) -> None:
        for i in which:
            self.sent[i][1](True)

    def refuse(self, *which: int) -> None:
        for i in which:
            self.sent[i][1](False)

    def messages(self) -> list[Any]:
        return [codec.decode(parcel.value) for parcel, _ in self.sent]


def ship(world: World) -> Wire:
    """All that the outbox holds, as a new owner sends it."""
    return shipped(world)[0]


def shipped(world: World) -> tuple[Wire, Outbox]:
    wire = Wire()
    outbox = Outbox(0, codec, wire.send, world.owner.position.outbox_sent)
    outbox.send(world.owner.state, world.owner.state.outbox(outbox.sent))
    return wire, outbox


def with_forwards() -> World:
    """Three commands that are to go to another partition."""
    world = World()
    for name in "abc":
        world.submit(name, queue=OTHER_QUEUE)
    world.work_all()
    return world


def dispatched(**fields: Any) -> World:
    world = World()
    world.submit("a", **fields)
    world.work(offers=[offer()])
    return world


def report(world: World, kind: type[c.Command], **fields: Any) -> None:
    about: dict[str, Any] = {
        "queue": QUEUE,
        "job_id": "a",
        "run": 1,
        "attempt": 1,
        "session": "s1",
        "started_at": 1,
        "ended_at": 2,
    }
    world.send(kind(**about, **fields))
    world.work_all()


def test_a_dispatch_carries_the_job():
    world = dispatched(deadline_ms=500, payload=b"1")
    ((parcel, _),) = ship(world).sent
    assert (parcel.topic, parcel.partition, parcel.key) == ("dispatch", 0, "s1")
    run = codec.decode(parcel.value)
    assert isinstance(run, m.RunAttempt)
    assert (run.session, run.partition, run.number, run.queue, run.job_id) == ("s1", 0, 1, QUEUE, "a")
    assert (run.run, run.attempt, run.deadline_at, run.spec.payload) == (1, 1, world.now + 500, b"1")


@pytest.mark.parametrize(
    ("reason", "losses"),
    [(FailureReason.GUARD_LOST, 1), (FailureReason.GUARD_LOST_BESIDE, 1), (FailureReason.WORKER_STOPPED, 0)],
)
def test_a_dispatch_after_the_loss_of_a_guard_says_so(reason: FailureReason, losses: int):
    world = dispatched()
    report(world, c.FailAttempt, reason=reason)
    world.work(offers=[offer(number=2)])
    run = ship(world).messages()[-1]
    assert isinstance(run, m.RunAttempt)
    assert (run.attempt, run.losses) == (2, losses)


def test_what_has_been_overtaken_is_sent_empty_so_that_numbers_stay_consecutive():
    world = dispatched()
    world.send(c.CancelJob(queue=QUEUE, job_id="a"))
    report(world, c.CompleteAttempt)
    assert [(type(message), message.number) for message in ship(world).messages()] == [(m.Skipped, 1), (m.Skipped, 2)]


def test_what_was_sent_of_a_job_that_is_gone_is_sent_empty():
    world = dispatched(retention_ms=1)
    report(world, c.CompleteAttempt)
    world.now += 1
    world.work()
    assert world.owner.state.job(f"{QUEUE}/a") is None
    assert [type(message) for message in ship(world).messages()] == [m.Skipped]


def test_a_dispatch_that_is_sent_after_the_request_to_stop_is_not_to_be_started():
    """The log may have refused it for a while. Its worker declines what has a deadline that has passed."""
    world = dispatched(deadline_ms=500)
    world.send(c.CancelJob(queue=QUEUE, job_id="a"))
    world.work_all()
    run, stop = ship(world).messages()
    assert (run.deadline_at, type(stop)) == (LONG_PAST, m.StopAttempt)


def test_a_stop_names_its_reason_and_grace():
    world = dispatched(cancel_grace_ms=77)
    world.send(c.CancelJob(queue=QUEUE, job_id="a"))
    world.work_all()
    stop = ship(world).messages()[1]
    assert isinstance(stop, m.StopAttempt)
    assert (stop.number, stop.attempt, stop.reason, stop.grace_ms) == (2, 1, StopReason.CANCELLED, 77)


def test_a_session_that_is_given_up_is_told():
    world = dispatched()
    world.work(lapses=[Lapse("s1", 5_000)])
    closed = ship(world).messages()[1]
    assert isinstance(closed, m.SessionClosed)
    assert (closed.session, closed.partition, closed.number) == ("s1", 0, 2)


def test_a_forward_is_the_command_itself_with_its_number():
    world = World()
    world.submit("a", queue=OTHER_QUEUE, reply_to="5/client/1")
    world.work_all()
    ((parcel, _),) = ship(world).sent
    assert (parcel.topic, parcel.partition, parcel.source, parcel.number) == ("commands", 3, 0, 1)
    assert (parcel.value, parcel.reply_to) == (world.log.commands(0, 0)[0].value, "5/client/1")


def test_answers_go_to_the_clients_lane():
    world = World()
    world.submit("a", reply_to="5/client/1/x", awaits=True)
    world.submit("a", priority=1, reply_to="6/other/2")
    world.work(offers=[offer()])
    report(world, c.FailAttempt, reason=FailureReason.EXIT_CODE, error="sad", exit_code=3)
    wire = ship(world)
    assert [(parcel.topic, parcel.partition, parcel.key) for parcel, _ in wire.sent if parcel.topic == "replies"] == [
        ("replies", 5, "client"),
        ("replies", 6, "other"),
        ("replies", 5, "client"),
    ]
    accepted, refused, _, outcome = wire.messages()
    assert isinstance(accepted, m.CommandReply)
    assert (accepted.accepted, accepted.correlation, accepted.state, accepted.run) == (True, "1/x", "READY", 1)
    assert isinstance(refused, m.CommandReply)
    assert (refused.accepted, refused.code, refused.state) == (False, "IDENTITY_TAKEN", "READY")
    assert isinstance(outcome, m.JobOutcome)
    assert (outcome.state, outcome.reason, outcome.error, outcome.exit_code) == ("FAILED", "EXIT_CODE", "sad", 3)


def test_a_refusal_about_no_job_tells_no_state():
    world = World()
    world.log.send(0, b"garbage", reply_to="0/client/1")
    world.work_all()
    (reply,) = ship(world).messages()
    assert (reply.state, reply.accepted, reply.code) == ("", False, "NOT_SINGLE_OBJECT")


def test_sent_moves_over_what_is_delivered_without_a_gap():
    world = World()
    for name in "abc":
        world.submit(name, reply_to="0/client/1")
    world.work_all()
    wire, outbox = shipped(world)
    assert outbox.sent == 0
    wire.deliver(2, 1)
    assert outbox.sent == 0
    wire.deliver(0)
    assert outbox.sent == 3


def test_what_was_refused_is_sent_again_and_nothing_else():
    world = World()
    for name in "abcd":
        world.submit(name, reply_to="0/client/1")
    world.work_all()
    wire, outbox = shipped(world)
    wire.deliver(0, 2)
    for _ in range(3):
        wire.refuse(1)
    assert outbox.refused
    outbox.resend_refused(world.owner.state)
    assert not outbox.refused
    assert [message.job_id for message in wire.messages()] == ["a", "b", "c", "d", "b"]
    outbox.resend_refused(world.owner.state)
    assert len(wire.sent) == 5
    wire.deliver(4, 1)
    assert outbox.sent == 3
    wire.deliver(3)
    assert outbox.sent == 4


def test_behind_a_command_that_was_refused_its_partition_gets_the_others_again():
    """It took none of them: it takes the next number only."""
    world = with_forwards()
    wire, outbox = shipped(world)
    wire.deliver(0, 2)
    wire.refuse(1)
    outbox.resend_refused(world.owner.state)
    assert [parcel.number for parcel, _ in wire.sent] == [1, 2, 3, 2, 3]
    wire.deliver(3, 4)
    assert outbox.sent == 3


def test_of_two_copies_of_a_command_the_newer_one_counts():
    """The older one overtook what was refused, and its partition took it for out of its turn."""
    world = with_forwards()
    wire, outbox = shipped(world)
    wire.refuse(0)
    wire.deliver(2)
    outbox.resend_refused(world.owner.state)
    wire.deliver(1)
    assert [parcel.number for parcel, _ in wire.sent[3:]] == [1, 2, 3]
    wire.deliver(3)
    assert outbox.sent == 1, "2 and 3 are under way once more"
    wire.refuse(4)
    outbox.resend_refused(world.owner.state)
    assert [(parcel.number, parcel.confirmed) for parcel, _ in wire.sent[6:]] == [(2, 1), (3, 1)]
    wire.deliver(5, 6)
    assert outbox.sent == 2
    wire.deliver(7)
    assert outbox.sent == 3


def test_a_command_says_which_of_those_before_it_are_delivered():
    """So that its partition does not wait for what its log has lost."""
    world = World()
    wire, outbox = shipped(world)

    def sent(name: str) -> tuple[int, int]:
        world.submit(name, queue=OTHER_QUEUE)
        world.work_all()
        outbox.send(world.owner.state, world.last.messages)
        parcel, _ = wire.sent[-1]
        return parcel.number, parcel.confirmed

    assert [sent(name) for name in "abc"] == [(1, 0), (2, 0), (3, 0)]
    wire.deliver(2, 0)
    assert sent("d") == (4, 1)
    wire.refuse(1)
    wire.deliver(3)
    assert sent("e") == (5, 1)
    outbox.resend_refused(world.owner.state)
    assert [(parcel.number, parcel.confirmed) for parcel, _ in wire.sent[5:]] == [(2, 1), (3, 1), (4, 1), (5, 1)]
    wire.deliver(*range(4, 9))
    assert sent("f") == (6, 5)


def test_a_new_owner_knows_that_what_it_does_not_send_is_delivered():
    world = with_forwards()
    world.owner.settle(world.now, 2)
    world.owner = world.partition()
    world.lead()
    assert [(parcel.number, parcel.confirmed) for parcel, _ in ship(world).sent] == [(3, 2)]


def test_a_new_owner_sends_what_is_not_known_to_be_delivered():
    world = World()
    for name in "abc":
        world.submit(name, reply_to="0/client/1")
    world.work_all()
    world.owner.settle(world.now, 2)
    world.owner = world.partition()
    world.lead()
    assert [message.job_id for message in ship(world).messages()] == ["c"]


# -- what can never be sent


class Refusing(Wire):
    """A log that has no such lane."""

    def send(self, parcel: Parcel, told: Callable[[bool], None]) -> None:
        if parcel.partition == 9_999:
            raise Unsendable("there are 8 lanes")
        super().send(parcel, told)


def test_a_message_that_can_never_be_sent_is_skipped_and_told_of():
    world = World()
    world.submit("a", reply_to="0/client/1")
    world.submit("b")
    world.submit("c", reply_to="0/client/2")
    world.work(offers=[msgspec.structs.replace(offer(), lane=9_999)])
    wire = Refusing()
    outbox = Outbox(0, codec, wire.send, 0)
    outbox.send(world.owner.state, world.owner.state.outbox(0))
    assert [parcel.topic for parcel, _ in wire.sent] == ["replies", "replies"]
    wire.deliver(0, 1)
    assert outbox.sent == 4
    assert not outbox.refused
    skipped = outbox.take_skipped()
    assert len(skipped) == 2
    assert "RunMessage to session s1, lane 9999 about" in skipped[0]
    assert "there are 8 lanes" in skipped[0]
    assert outbox.take_skipped() == []


def test_a_message_that_cannot_be_made_is_skipped():
    """The address is no lane: no later owner could answer there, either."""
    world = World()
    world.submit("a", reply_to="nowhere")
    world.submit("b", queue=OTHER_QUEUE)
    world.work_all()
    wire, outbox = shipped(world)
    assert [parcel.topic for parcel, _ in wire.sent] == ["commands"]
    wire.deliver(0)
    assert outbox.sent == 2
    assert "ReplyMessage to nowhere about" in outbox.take_skipped()[0]


def test_behind_a_command_that_was_skipped_its_partition_takes_the_next():
    world = with_forwards()
    sent: list[Parcel] = []

    def send(parcel: Parcel, _told: Callable[[bool], None]) -> None:
        if parcel.number == 2:
            raise Unsendable("it is too large")
        sent.append(parcel)
        _told(True)

    outbox = Outbox(0, codec, send, 0)
    outbox.send(world.owner.state, world.owner.state.outbox(0))
    assert [(parcel.number, parcel.confirmed) for parcel in sent] == [(1, 0), (3, 2)]
    assert "ForwardMessage to partition 3, can" in outbox.take_skipped()[0]
    assert outbox.sent == 3


def test_the_messages_of_a_group_are_made_before_its_first_is_sent_and_groups_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(outbox_module, "GROUP_MAX", 2)
    world = World()
    for name in "abcde":
        world.submit(name)
    world.work_all()
    world.work(offers=[offer(slots=5)])
    steps: list[str] = []

    class Noting:
        def encode(self, record: Any) -> bytes:
            steps.append("made")
            return codec.encode(record)

    def send(parcel: Parcel, told: Callable[[bool], None]) -> None:
        steps.append("sent")
        told(True)

    outbox = Outbox(0, Noting(), send, world.owner.position.outbox_sent)  # type: ignore[arg-type]
    messages = list(world.owner.state.outbox(outbox.sent))
    outbox.send(world.owner.state, messages)
    assert steps == [*(["made"] * 2 + ["sent"] * 2) * (len(messages) // 2), *["made", "sent"] * (len(messages) % 2)]
    assert len(messages) >= 5
    assert outbox.sent == messages[-1][0]


def test_the_end_of_a_session_that_cannot_be_told_is_skipped():
    world = dispatched()
    world.work(lapses=[Lapse("s1", 5_000)])
    outbox = Outbox(0, codec, planted_unsendable, 0)
    outbox.send(world.owner.state, world.owner.state.outbox(0))
    assert ["CloseMessage to session s1" in text for text in outbox.take_skipped()] == [False, True]


def planted_unsendable(*_: object) -> None:
    raise Unsendable("planted")


def test_a_fault_of_the_log_or_of_the_store_is_no_fault_of_a_message(monkeypatch: pytest.MonkeyPatch):
    world = dispatched()

    def send(*_: object) -> None:
        raise RuntimeError("no connection")

    outbox = Outbox(0, codec, send, 0)
    with pytest.raises(RuntimeError):
        outbox.send(world.owner.state, world.owner.state.outbox(0))

    def broken(*_: object) -> Any:
        raise StoreFailed("the disk is away")

    messages = list(world.owner.state.outbox(0))
    monkeypatch.setattr(world.owner.state, "spec", broken)
    outbox = Outbox(0, codec, Wire().send, 0)
    with pytest.raises(StoreFailed):
        outbox.send(world.owner.state, messages)
    assert not outbox.take_skipped()

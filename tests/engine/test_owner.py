"""The loop of an owner: what one step takes, sends, sends again and remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from ftjm.core.placement import Offer
from ftjm.core.records import commands as c
from ftjm.core.state.model import JobState
from ftjm.core.state.view import StateView
from ftjm.engine import owner as owner_module
from ftjm.engine.batch import Lapse
from ftjm.engine.owner import DECLINED_MS, RESEND_MS, SETTLE_MS, Owner
from ftjm.engine.ports import Fenced, Parcel, Unsendable
from tests.engine.world import NOW, QUEUE, World, offer


class Led:
    """Partition 0 with its owner. The clock, the sessions and the log that takes messages are the test's."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.boot = 1_000_000
        self.offered: list[Offer] = []
        self.lapsed: list[Lapse] = []
        self.declined: dict[str, int] = {}
        self.sent: list[tuple[Parcel, Callable[[bool], None]]] = []
        partition, writer = self.world.partition(), self.world.log.fence(0)
        self.world.owner = self.world.catch_up(partition)
        self.owner = Owner(partition, writer, "owner", clock=self, sessions=self, send=self.send)

    def wall_ms(self) -> int:
        return self.world.now

    def boot_ms(self) -> int:
        return self.boot

    def lapses(self, _state: StateView, _since: int) -> list[Lapse]:
        return self.lapsed

    def offers(self, _partition: int, _now: int, declined: Mapping[str, int]) -> list[Offer]:
        self.declined = dict(declined)
        return self.offered

    def send(self, parcel: Parcel, report: Callable[[bool], None]) -> None:
        self.sent.append((parcel, report))

    def step(self) -> bool:
        """One batch of all commands that are in the log; whether one was written."""
        self.owner.receive(self.world.waiting[self.owner.waiting :])
        return self.owner.step().written

    def passes(self, ms: int) -> None:
        self.boot += ms
        self.world.now += ms


def test_a_command_is_decided_and_answered_after_the_commit():
    led = Led()
    led.world.submit("a", reply_to="0/client/1")
    assert led.step()
    assert led.world.job("a").state is JobState.READY
    assert [parcel.topic for parcel, _ in led.sent] == ["replies"]
    assert led.owner.waiting == 0
    assert not led.step(), "there is nothing more to do"


def test_a_new_owner_sends_what_the_one_before_it_left():
    before = World()
    before.submit("a", reply_to="0/client/1")
    before.work()
    led = Led(before)
    assert [parcel.topic for parcel, _ in led.sent] == ["replies"]


def test_commands_that_are_decided_already_are_dropped():
    led = Led()
    led.world.submit("a")
    led.step()
    led.owner.receive(led.world.log.commands(0, 0))
    assert led.owner.waiting == 0


def test_what_does_not_fit_a_batch_waits_for_the_next(monkeypatch):
    monkeypatch.setattr("ftjm.engine.batch.BATCH_ROWS_MAX", 10)
    led = Led()
    for number in range(20):
        led.world.submit(f"j{number}")
    led.step()
    left = led.owner.waiting
    assert 0 < left < 20
    while led.owner.waiting:
        assert led.step()
    assert len(list(led.world.owner.state.ready(QUEUE))) == 20
    led.world.check()


def test_no_more_commands_are_taken_than_a_batch_has_bytes(monkeypatch):
    led = Led()
    monkeypatch.setattr(owner_module, "COMMANDS_MAX", 3)
    assert led.owner.room == 3
    led.world.submit("a")
    led.owner.receive(led.world.waiting)
    assert led.owner.room == 2
    monkeypatch.setattr(owner_module, "BATCH_BYTES_MAX", 1)
    assert led.owner.room == 0


def test_a_message_that_the_log_refuses_is_sent_again_after_a_pause():
    led = Led()
    led.world.submit("a", reply_to="0/client/1")
    led.step()
    led.sent.pop()[1](False)
    led.step()
    assert len(led.sent) == 1
    led.sent.pop()[1](False)
    led.step()
    assert not led.sent, "it was sent again a moment ago"
    led.passes(RESEND_MS)
    led.step()
    assert len(led.sent) == 1


def test_an_idle_owner_records_how_far_its_outbox_was_delivered():
    led = Led()
    led.world.submit("a", reply_to="0/client/1")
    led.step()
    led.sent.pop()[1](True)
    led.step()
    assert led.world.owner.position.outbox_sent == 0
    led.passes(SETTLE_MS + 1)
    assert not led.step()
    assert led.world.owner.position.outbox_sent == 1
    led.world.check()


def test_a_session_that_declined_is_remembered_with_the_time():
    led = Led()
    led.world.submit("a")
    led.offered = [offer()]
    led.step()
    about: dict[str, Any] = {"queue": QUEUE, "job_id": "a", "run": 1, "attempt": 1, "session": "s1"}
    led.world.send(c.DeclineAttempt(**about, reason="full"))
    led.step()
    assert led.world.job("a").state is JobState.READY, "not given to it again by the same batch"
    at = led.boot
    led.passes(5)
    led.step()
    assert led.declined == {"s1": at}


def test_an_owner_is_settled_when_the_log_has_and_says_that_all_is_delivered():
    led = Led()
    assert led.owner.is_settled
    led.world.submit("a", reply_to="0/client/1")
    led.step()
    assert not led.owner.is_settled, "an answer is under way"
    led.sent[0][1](False)
    assert not led.owner.is_settled, "it was refused"
    led.passes(RESEND_MS)
    led.step()
    led.sent[1][1](True)
    assert not led.owner.is_settled, "the log does not say yet that it was delivered"
    led.passes(SETTLE_MS + 1)
    led.step()
    assert led.owner.is_settled


def test_an_owner_is_not_settled_while_a_session_that_declined_may_have_room_again():
    """Its next heartbeat may be like the last one, and wakes nobody then."""
    led = Led()
    led.world.submit("a")
    led.offered = [offer()]
    led.step()
    about: dict[str, Any] = {"queue": QUEUE, "job_id": "a", "run": 1, "attempt": 1, "session": "s1"}
    led.world.send(c.DeclineAttempt(**about, reason="full"))
    led.offered = []
    led.step()
    for _, report in led.sent:
        report(True)
    led.passes(SETTLE_MS + 1)
    led.step()
    assert not led.owner.is_settled
    led.passes(DECLINED_MS)
    assert led.owner.is_settled


def test_a_lapse_is_decided():
    led = Led()
    led.world.submit("a")
    led.offered = [offer()]
    led.step()
    led.offered, led.lapsed = [], [Lapse("s1", 5_000)]
    led.step()
    assert led.world.job("a").state is JobState.READY


def test_an_overload_refuses_new_jobs_until_it_is_over():
    led = Led()
    led.owner.set_overload("the disk is full")
    led.world.submit("a")
    led.step()
    assert led.world.owner.state.job(f"{QUEUE}/a") is None
    led.owner.set_overload("")
    led.world.submit("b")
    led.step()
    assert led.world.job("b").state is JobState.READY


def test_the_next_timer_says_how_long_there_is_nothing_to_do():
    led = Led()
    assert led.owner.seconds_until_due(0.1) == 0.1
    led.world.submit("a", delay_ms=50)
    led.step()
    assert led.owner.seconds_until_due(0.1) == pytest.approx(0.05)
    led.world.now = NOW + 1_000
    assert led.owner.seconds_until_due(0.1) == 0.0


def test_an_owner_that_is_fenced_leaves_nothing_behind():
    led = Led()
    led.step()
    led.world.log.fence(0)
    led.world.submit("a")
    with pytest.raises(Fenced):
        led.step()
    led.owner.close()
    assert led.world.owner.leadership is None
    assert led.world.owner.state.job(f"{QUEUE}/a") is None


class WithoutLanes(Led):
    """The log has no lane that a dispatch could go to."""

    def send(self, parcel: Parcel, told: Callable[[bool], None]) -> None:
        if parcel.topic == "dispatch":
            raise Unsendable(f"found {parcel.partition}")
        super().send(parcel, told)


def test_a_message_that_can_never_be_sent_stops_neither_this_owner_nor_the_next():
    """A worker's session names a lane that does not exist. Each owner sends what the one before it left."""
    led = WithoutLanes()
    led.offered = [msgspec.structs.replace(offer(), lane=2**40)]
    led.world.submit("a", reply_to="0/client/1")
    led.owner.receive(led.world.waiting)
    (skipped,) = led.owner.step().skipped
    assert "RunMessage to session s1" in skipped
    assert str(2**40) in skipped

    successor = WithoutLanes(led.world)
    result = successor.owner.step()
    assert result.skipped == [skipped]
    assert [parcel.topic for parcel, _ in successor.sent] == ["replies"]
    successor.sent[0][1](True)
    successor.passes(SETTLE_MS + 1)
    successor.step()
    successor.passes(SETTLE_MS + 1)
    successor.step()
    assert successor.world.owner.position.outbox_sent == 2

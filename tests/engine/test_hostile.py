"""Commands that cannot be read, make no sense, or make us fail: refused with a code, and the next one is served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core import commands as c
from ftjm.core import decide as decide_module
from ftjm.core import events as e
from ftjm.core import messages as m
from ftjm.core.decide import Rejected
from ftjm.core.errors import UndecodableError
from ftjm.core.model import FailureReason, JobSpec, JobState, MessageKind
from ftjm.engine.partition import COMMAND_BYTES_MAX, NAME_MAX, REJECTED_TEXT_MAX
from ftjm.engine.ports import EventRecord, StoreFailed
from tests.engine.world import OTHER_QUEUE, QUEUE, World, offer

CANCEL = codec.encode(c.CancelJob(queue=QUEUE, job_id="a"))
CLOSED = e.BatchClosed(
    batch_no=9,
    now=9,
    next_command=9,
    owner_epoch=9,
    owner="x",
    outbox_sent=9,
    events=9,
    state_version=1,
    state_hash=b"",
)
HOSTILE = {
    "empty": (b"", "NOT_SINGLE_OBJECT"),
    "text": (b"hello", "NOT_SINGLE_OBJECT"),
    "half a marker": (b"\xc3", "NOT_SINGLE_OBJECT"),
    "unknown type": (b"\xc3\x01" + bytes(8) + b"body", "UNKNOWN_FINGERPRINT"),
    "cut": (CANCEL[:-1], "BAD_BODY"),
    "no body": (CANCEL[:10], "BAD_BODY"),
    "trailing": (CANCEL + b"\0", "TRAILING_BYTES"),
    "too large": (CANCEL + bytes(COMMAND_BYTES_MAX), "TOO_LARGE"),
    "an event": (codec.encode(e.JobHeld(queue=QUEUE, job_id="a")), "NOT_A_COMMAND"),
    "the end of a batch": (codec.encode(CLOSED), "NOT_A_COMMAND"),
    "a message": (codec.encode(m.SessionClosed(session="s", partition=0, number=1)), "NOT_A_COMMAND"),
}


def serve(world: World, offset: int) -> e.Event:
    """Work through all that waits; the answer to the command at `offset`, where there is one."""
    world.submit("next")
    world.work_all()
    world.check()
    assert world.job("next").state is JobState.READY, "the partition goes on"
    (answer,) = world.of(offset)
    return answer


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_command_is_refused_at_its_offset(what):
    value, code = HOSTILE[what]
    world = World()
    answer = serve(world, world.log.send(0, value, reply_to="0/client/1"))
    assert isinstance(answer, e.CommandRejected)
    assert answer.code == code
    assert "expected" in answer.text
    assert world.owner.rejected == {code: 1}
    ((_, reply),) = world.owner.state.outbox(0)
    assert (reply.kind, reply.destination, reply.code) == (MessageKind.REPLY, "0/client/1", code)


def test_what_is_no_command_is_refused_also_if_another_partition_sent_it():
    for value, code in HOSTILE.values():
        world = World()
        world.log.send(0, value, source=1, number=1)
        world.submit("next")
        world.work_all()
        arrived, refused = world.of(0)
        assert isinstance(arrived, e.ForwardReceived)
        assert isinstance(refused, e.CommandRejected)
        assert refused.code == code
        world.check()


@given(st.binary(max_size=200))
def test_no_bytes_stop_a_partition(body):
    for head in (b"", CANCEL[:10], codec.encode(c.SubmitJob(queue=QUEUE, job_id="a", spec=JobSpec()))[:10]):
        world = World()
        serve(world, world.log.send(0, head + body))


NAMES = st.one_of(
    st.text(max_size=8),
    st.sampled_from([QUEUE, "a", "a/b", "\0", "/", "//", "x" * 100_000, "\U0001f600" * 500, "..", "a\nb"]),
)


@given(NAMES, NAMES, NAMES, NAMES, st.sampled_from([c.CancelJob, c.RerunJob, c.StartAttempt]), st.booleans())
def test_no_names_stop_a_partition(queue, job_id, shard_key, other, kind, forwarded):
    more = {"run": -1, "attempt": 2**40, "session": other, "started_at": -5} if kind is c.StartAttempt else {}
    wanted = kind(queue=queue, job_id=job_id, shard_key=shard_key, command_id=other, actor=other, **more)
    world = World()
    world.log.send(0, codec.encode(wanted), source=1 if forwarded else -1, number=1)
    world.submit("next")
    world.work_all()
    world.check()
    for event in world.of(0):
        assert len(event.queue) <= NAME_MAX
        assert len(event.actor) <= NAME_MAX
        assert len(codec.encode(event)) < COMMAND_BYTES_MAX + 10_000


def test_the_largest_forward_is_a_record_that_the_log_takes():
    """The command is in it, and nothing else that its sender could make as large again."""
    world = World()
    value = codec.encode(c.CancelJob(queue=OTHER_QUEUE, job_id="a", actor="x" * (COMMAND_BYTES_MAX - 100)))
    world.log.send(0, value)
    world.work_all()
    (forwarded,) = world.of(0)
    assert isinstance(forwarded, e.CommandForwarded)
    assert len(codec.encode(forwarded)) < COMMAND_BYTES_MAX + 10_000
    world.check()


NUMBERS = st.one_of(st.sampled_from([0, 1, 2]), st.integers(-(2**63), 2**63 - 1))


@given(
    st.sampled_from([c.StartAttempt, c.CompleteAttempt, c.FailAttempt]),
    NUMBERS,
    NUMBERS,
    st.integers(-(2**31), 2**31 - 1),
)
def test_no_numbers_of_a_worker_stop_a_partition(kind, begin, end, code):
    world = World()
    world.submit("a", max_attempts=2)
    world.work(offers=[offer()])
    fields = {"run": 1, "attempt": 1, "session": "s1", "started_at": begin}
    if kind is not c.StartAttempt:
        fields |= {"ended_at": end, "exit_code": code}
    if kind is c.FailAttempt:
        fields |= {"signal": code, "reason": FailureReason.SIGNAL}
    offset = world.send(kind(queue=QUEUE, job_id="a", **fields))
    assert not isinstance(serve(world, offset), e.CommandRejected)


@pytest.mark.parametrize(
    ("source", "number", "code"),
    [
        (1, 0, "REPEATED"),
        (1, 2, "OUT_OF_TURN"),
        (1, -1, "REPEATED"),
        (1, 2**62, "OUT_OF_TURN"),
        (3, 5, "OUT_OF_TURN"),
    ],
)
def test_a_forward_that_is_not_the_next_is_refused(source, number, code):
    world = World()
    answer = serve(world, world.log.send(0, CANCEL, source=source, number=number))
    assert isinstance(answer, e.CommandRejected)
    assert answer.code == code


def test_of_a_forward_that_came_before_its_turn_its_sender_hears_in_its_turn():
    world = World()
    early = world.log.send(0, CANCEL, source=1, number=2, reply_to="0/client/1", confirmed=0)
    next_one = world.log.send(0, CANCEL, source=1, number=1, reply_to="0/client/2", confirmed=0)
    again = world.log.send(0, CANCEL, source=1, number=2, reply_to="0/client/1", confirmed=1)
    world.work_all()
    told = [[event.reply for event in world.of(offset) if event.reply] for offset in (early, next_one, again)]
    assert told == [[], ["0/client/2"], ["0/client/1"]]


@pytest.mark.parametrize("confirmed", [0, 1, 2, 3])
def test_a_forward_that_the_log_has_lost_is_not_waited_for(confirmed):
    """All before number 4 were in the log before it was sent; of some nothing is there any more."""
    world = World()
    for number, known in ((1, 0), (4, confirmed), (5, 4)):
        world.log.send(0, CANCEL, source=1, number=number, confirmed=known)
    world.work_all()
    taken = [event.number for event in world.events() if isinstance(event, e.ForwardReceived)]
    assert taken == ([1, 4, 5] if confirmed == 3 else [1, 5])
    world.check()


@pytest.mark.parametrize("source", [4, 9_999, 2**60])
def test_a_forward_of_no_partition_is_refused(source):
    world = World()
    answer = serve(world, world.log.send(0, CANCEL, source=source, number=1))
    assert isinstance(answer, e.CommandRejected)
    assert (answer.code, str(source) in answer.text) == ("INVALID", True)


def test_a_forward_is_taken_once_and_in_its_turn():
    world = World()
    for number in (1, 1, 3, 2, 2, 3):
        world.log.send(0, CANCEL, source=1, number=number)
    world.work_all()
    taken = [event.number for event in world.events() if isinstance(event, e.ForwardReceived)]
    assert taken == [1, 2, 3]
    world.check()


def test_a_command_that_landed_wrong_goes_to_its_partition_with_its_address():
    world = World()
    world.submit("a", queue=OTHER_QUEUE, reply_to="0/client/1")
    world.work_all()
    ((_, message),) = world.owner.state.outbox(0)
    sent = world.log.commands(0, 0)[0]
    assert (message.kind, message.destination, message.number) == (MessageKind.FORWARD, "3", 1)
    assert (message.body, message.reply) == (sent.value, "0/client/1")
    world.check()


def test_a_forwarded_command_is_decided_where_it_arrives_whatever_its_key():
    """Two partitions that disagree about a key would send it to and fro for ever."""
    world = World()
    value = codec.encode(c.SubmitJob(queue=OTHER_QUEUE, job_id="a", spec=JobSpec(command=["true"])))
    world.log.send(0, value, source=1, number=1)
    world.work_all()
    assert [type(event) for event in world.of(0)] == [e.ForwardReceived, e.JobSubmitted]


# -- faults of ours


@pytest.fixture
def planted(monkeypatch):
    """A bug in one handler of `decide`."""

    def fail(*_: object) -> Rejected:
        raise RuntimeError("planted " + "x" * 2 * REJECTED_TEXT_MAX)

    monkeypatch.setitem(decide_module._HANDLERS, c.CancelJob, fail)


def test_a_bug_in_decide_costs_one_command_and_no_owner(planted, monkeypatch):
    world = World()
    world.submit("a")
    answer = serve(world, world.send(c.CancelJob(queue=QUEUE, job_id="a", actor="ann"), "0/client/1"))
    assert isinstance(answer, e.CommandRejected)
    assert (answer.code, answer.kind, answer.job_id, answer.actor) == ("INTERNAL_ERROR", "CancelJob", "a", "ann")
    assert len(answer.text) <= REJECTED_TEXT_MAX
    assert len(world.owner.alarms) == 1
    assert "offset 1" in world.owner.alarms[0]
    assert world.job("a").state is JobState.READY

    successor = world.partition()
    world.owner = successor
    world.lead()
    world.work()
    assert successor.position.owner_epoch == 2
    assert not successor.alarms, "it folds the refusal, and does not try again"
    world.check()


def test_a_bug_in_decide_says_its_trace(monkeypatch):
    def fail(*_: object) -> Rejected:
        raise RuntimeError("planted")

    monkeypatch.setitem(decide_module._HANDLERS, c.HoldJob, fail)
    world = World()
    answer = serve(world, world.send(c.HoldJob(queue=QUEUE, job_id="a")))
    assert isinstance(answer, e.CommandRejected)
    assert "RuntimeError: planted" in answer.text
    assert "Traceback" in answer.text


def test_a_forward_that_meets_a_bug_is_counted_as_received(planted):
    world = World()
    world.log.send(0, CANCEL, source=1, number=1)
    world.log.send(
        0, codec.encode(c.SubmitJob(queue=QUEUE, job_id="a", spec=JobSpec(command=["true"]))), source=1, number=2
    )
    world.work_all()
    assert [type(event) for event in world.of(0)] == [e.ForwardReceived, e.CommandRejected]
    assert world.job("a").state is JobState.READY
    world.check()


def test_an_unknown_event_stops_a_follower():
    world = World()
    world.submit("a")
    world.work()
    with pytest.raises(UndecodableError):
        world.partition().fold(EventRecord(0, b"\xc3\x01" + bytes(8)))


def test_a_command_in_the_events_stops_a_follower():
    with pytest.raises(AssertionError):
        World().partition().fold(EventRecord(0, CANCEL))


class FailingStore(MemoryStore):
    """A disk that cannot be read any more."""

    fails = False

    def get(self, key: bytes) -> bytes | None:
        if self.fails:
            raise StoreFailed("a planted fault")
        return super().get(key)


def test_a_store_that_cannot_be_read_is_not_the_fault_of_a_command():
    """Were it refused, a submission that was acknowledged would be lost to one owner's bad disk."""
    store = FailingStore()
    world = World(make_store=lambda: store)
    world.submit("a")
    store.fails = True
    with pytest.raises(StoreFailed):
        world.work()
    store.fails = False
    world.owner.reopen()
    world.lead()
    world.work_all()
    assert world.job("a").state is JobState.READY
    assert not world.owner.rejected

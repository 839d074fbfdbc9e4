"""Commands that cannot be read, make no sense, or make us fail: refused with a code, and the next one is served."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide import handlers as decide_module
from ftjm.core.decide.decision import Rejected
from ftjm.core.errors import UndecodableError
from ftjm.core.evolve import handlers as evolve_module
from ftjm.core.identity import partition_for
from ftjm.core.limits import COMMAND_BYTES_MAX, LANES_MAX
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records import messages as m
from ftjm.core.state.model import FailureReason, JobSpec, JobState
from ftjm.core.state.outbox import ForwardMessage, ReplyMessage
from ftjm.core.state.state import State
from ftjm.engine.batch import NAME_MAX, REJECTED_TEXT_MAX
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord, StoreFailed
from tests.core.test_bounds import extremes, ordinary, type_of
from tests.engine.test_outbox import shipped
from tests.engine.world import OTHER_QUEUE, QUEUE, Broken, World, offer

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
    assert refusals(world) == {code: 1}
    ((_, reply),) = world.owner.state.outbox(0)
    assert isinstance(reply, ReplyMessage)
    assert (reply.reply_to, reply.code) == ("0/client/1", code)


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


def test_a_forward_that_comes_twice_is_answered_once():
    """The first answer may be a refusal, and "repeated" would look like a yes."""
    world = World()
    world.log.send(0, CANCEL, source=1, number=1, reply_to="0/client/1")
    world.log.send(0, CANCEL, source=1, number=1, reply_to="0/client/1")
    world.work_all()
    assert refusals(world) == {"UNKNOWN_JOB": 1, "REPEATED": 1}
    replies = [message for _, message in world.owner.state.outbox(0)]
    assert [message.code for message in replies if isinstance(message, ReplyMessage)] == ["UNKNOWN_JOB"]


def test_a_command_that_landed_wrong_goes_to_its_partition_with_its_address():
    world = World()
    world.submit("a", queue=OTHER_QUEUE, reply_to="0/client/1")
    world.work_all()
    ((_, message),) = world.owner.state.outbox(0)
    sent = world.log.commands(0, 0)[0]
    assert message == ForwardMessage(3, 1, sent.value, "0/client/1")
    world.check()


def test_a_forwarded_command_is_decided_where_it_arrives_whatever_its_key():
    """Two partitions that disagree about a key would send it to and fro for ever."""
    world = World()
    value = codec.encode(c.SubmitJob(queue=OTHER_QUEUE, job_id="a", spec=JobSpec(command=["true"])))
    world.log.send(0, value, source=1, number=1)
    world.work_all()
    assert [type(event) for event in world.of(0)] == [e.ForwardReceived, e.JobSubmitted]


# -- extreme values


def commands_with_extremes() -> list[Any]:
    """Every field of every command, with each extreme value that its schema can express."""
    return [
        pytest.param(kind, field.name, id=f"{kind.__name__}.{field.name}")
        for kind in c.COMMANDS
        for field in msgspec.structs.fields(kind)
    ] + [pytest.param(JobSpec, field.name, id=f"JobSpec.{field.name}") for field in msgspec.structs.fields(JobSpec)]


@pytest.mark.parametrize(("kind", "name"), commands_with_extremes())
def test_no_extreme_value_stops_a_partition(kind, name):
    world = World()
    world.submit("a", max_attempts=5)
    world.submit("held", held=True)
    world.work(offers=[offer()])
    about = {"queue": QUEUE, "job_id": "a", "session": "s1", "command_id": ""}
    for value in extremes(type_of(kind, name)):
        if kind is JobSpec:
            spec = msgspec.structs.replace(JobSpec(command=["true"]), **{name: value})
            command: c.Command = c.SubmitJob(queue=QUEUE, job_id="b", spec=spec)
        else:
            fields = {field: set_to for field, set_to in about.items() if field in kind.__struct_fields__}
            command = msgspec.structs.replace(ordinary(kind), **{**fields, name: value})
        body = codec.encode(command)
        world.send(command, reply_to="0/client/1")
        world.work_all()
        offset = world.owner.position.next_command - 1
        for event in world.of(offset):
            assert len(codec.encode(event)) < min(len(body), COMMAND_BYTES_MAX) + 10_000
        for _, message in world.last.messages:
            size = len(message.body if isinstance(message, ForwardMessage) else str(message))
            assert size < len(body) + 10_000
    serve(world, world.submit("c"))
    wire, box = shipped(world)
    assert not box.take_skipped(), "every message that follows can be sent"
    for parcel, _ in wire.sent:
        assert 0 <= parcel.partition < LANES_MAX
    assert all(row is None or len(name) < 300 for name, row in world.owner.state._jobs.items())


def test_names_of_a_megabyte_are_neither_hashed_nor_kept():
    world = World()
    for number in range(20):
        world.send(c.CancelJob(queue=QUEUE, job_id=f"{number}" + "a" * 1_000_000))
        world.send(c.CancelJob(queue=f"{number}" + "q" * 1_000_000, job_id="a"))
        world.send(c.CancelJob(queue=QUEUE, job_id="a", shard_key=f"{number}" + "k" * 1_000_000))
    before = partition_for.cache_info().misses
    world.work_all()
    assert refusals(world) == {"BAD_NAME": 40, "INVALID": 20}
    assert sum(map(len, world.owner.state._jobs)) < 100_000
    assert partition_for.cache_info().misses - before <= 1
    world.check()


# -- faults of ours


def refusals(world: World) -> Counter[str]:
    """Refusals in the log, by code."""
    return Counter(event.code for event in world.events() if isinstance(event, e.CommandRejected))


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
    (alarm,) = world.alarms
    assert "offset 1" in alarm
    assert world.job("a").state is JobState.READY

    successor = world.partition()
    world.owner = successor
    world.lead()
    world.work()
    assert successor.position.owner_epoch == 2
    assert len(world.alarms) == 1, "it folds the refusal, and does not try again"
    world.check()


def test_a_bug_in_decide_says_its_trace(monkeypatch):
    def fail(*_: object) -> Rejected:
        raise RuntimeError("planted \ud800")

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
    assert not refusals(world)


def test_a_bug_in_evolve_costs_one_command_and_its_drafts(monkeypatch):
    """The state was changed in place before it raised."""
    evolved = evolve_module._HANDLERS[e.JobHeld]

    def fail(state: State, event: e.JobHeld, key: str) -> None:
        evolved(state, event, key)
        if event.job_id == "b":
            raise RuntimeError("planted")

    monkeypatch.setitem(evolve_module._HANDLERS, e.JobHeld, fail)
    check_only_b_is_refused(monkeypatch, "RuntimeError: planted")


def test_a_bug_in_the_encoder_of_events_costs_one_command(monkeypatch):
    def encode(event: Any) -> bytes:
        if isinstance(event, e.JobHeld) and event.job_id == "b":
            raise OverflowError("planted")
        return codec.encode(event)

    plant_codec(monkeypatch, encode)
    check_only_b_is_refused(monkeypatch, "OverflowError: planted")


def test_a_row_that_cannot_be_encoded_costs_one_command(monkeypatch):
    """It is noticed only when the batch is sealed, which is after all of its commands."""
    evolved = evolve_module._HANDLERS[e.JobHeld]

    def spoil(state: State, event: e.JobHeld, key: str) -> None:
        evolved(state, event, key)
        job = state.job(key)
        if event.job_id == "b" and job is not None:
            job.ended_at = 2**70

    monkeypatch.setitem(evolve_module._HANDLERS, e.JobHeld, spoil)
    check_only_b_is_refused(monkeypatch, "OverflowError")


def plant_codec(monkeypatch: pytest.MonkeyPatch, encode: Any) -> None:
    def made(world: World) -> Partition:
        fake: Any = SimpleNamespace(encode=encode, decode=codec.decode)
        return Partition(world.policy, world.make_store(), fake, world.log.log_id)

    monkeypatch.setattr(World, "partition", made)


def check_only_b_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Five jobs are held by commands of one batch; that of job `b` meets the planted bug."""
    world = World()
    for name in "abcde":
        world.submit(name)
    world.work_all()
    offsets = {name: world.send(c.HoldJob(queue=QUEUE, job_id=name), f"0/client/{name}") for name in "abcde"}
    batches = 0
    while world.waiting:
        assert world.work() > 0
        batches += 1
    assert batches <= 5
    (answer,) = world.of(offsets["b"])
    assert isinstance(answer, e.CommandRejected)
    assert (answer.code, answer.kind, answer.job_id, answer.reply) == ("INTERNAL_ERROR", "HoldJob", "b", "0/client/b")
    assert text in answer.text
    (alarm,) = world.alarms
    assert f"offset {offsets['b']}" in alarm
    states = {name: world.job(name).state for name in "abcde"}
    assert states == dict.fromkeys("acde", JobState.HELD) | {"b": JobState.READY}
    monkeypatch.undo()
    world.check()


def test_many_commands_that_meet_a_bug_are_all_refused(planted):
    world = World()
    offsets = [world.send(c.CancelJob(queue=QUEUE, job_id=f"a{number}")) for number in range(100)]
    serve(world, offsets[0])
    assert refusals(world) == {"INTERNAL_ERROR": 100}
    assert len(world.alarms) == 100


def test_what_raises_without_a_command_still_stops_the_owner(monkeypatch):
    """A timer, or the end of a session: no command can be refused for it, and the state may be wrong."""
    monkeypatch.setitem(evolve_module._HANDLERS, e.JobQueued, planted_bug)
    world = World()
    world.submit("a", delay_ms=1)
    world.work_all()
    world.now += 10
    world.submit("b")
    with pytest.raises(RuntimeError, match="planted"):
        world.work()
    monkeypatch.undo()
    world.owner.reopen()
    world.lead()
    world.work_all()
    assert not refusals(world), "the command that waited was not blamed"
    world.check()


def planted_bug(*_: object) -> None:
    raise RuntimeError("planted")


def test_a_commit_that_fails_is_not_tried_again_with_fewer_commands():
    """Perhaps the log has it: only a takeover can tell."""
    world = World()
    world.submit("a")
    world.submit("b")
    world.writer.breaks = "after"
    with pytest.raises(Broken):
        world.work()
    assert sum(isinstance(event, e.BatchClosed) for event in world.events()) == 1

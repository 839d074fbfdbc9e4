"""Rows under sorted keys: what a batch changes is seen at once, and written once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.adapters.memory import MemoryStore
from ftjm.core import rows
from ftjm.core.keys import after, outbox_key, ready_key, timer_key
from ftjm.core.model import Job, JobState, Message, MessageKind, Queue, Session, Timer, TimerKind
from ftjm.core.state import State, load_position

NAMES = st.text("abz09._-", min_size=1, max_size=4).filter(lambda text: text[0] in "abz09")


def fresh() -> tuple[State, MemoryStore]:
    store = MemoryStore()
    return State(store), store


def write(state: State, store: MemoryStore) -> bytes:
    changes, state_hash = state.seal()
    store.write(changes)
    state.written()
    return state_hash


def message(text: str) -> Message:
    return Message(MessageKind.REPLY, "0/client/1", 0, text=text)


@given(st.lists(st.tuples(NAMES, st.integers(0, 100), st.integers(1, 2**40)), unique=True))
def test_the_ready_queue_sorts_by_queue_then_priority_then_age(entries):
    expected = sorted(entries, key=lambda entry: (entry[0].encode() + b"\0", -entry[1], entry[2]))
    assert sorted(entries, key=lambda entry: ready_key(*entry)) == expected


@given(st.lists(st.builds(Timer, st.integers(0, 2**53), st.sampled_from(TimerKind), NAMES, st.integers(0, 2**31))))
def test_timers_sort_by_time_and_never_share_a_key(timers):
    ordered = sorted(timers, key=timer_key)
    assert [timer.due_at for timer in ordered] == sorted(timer.due_at for timer in timers)
    assert len({timer_key(timer) for timer in timers}) == len(set(timers))


@given(st.binary(min_size=1, max_size=6).filter(lambda prefix: prefix[-1] < 255), st.binary(max_size=6))
def test_after_is_the_first_key_behind_a_prefix(prefix, key):
    assert (prefix <= key < after(prefix)) == key.startswith(prefix)


KEYS = st.sampled_from([b"a", b"ab", b"b", b"c", b"ca", b"d"])


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.tuples(st.booleans(), KEYS, st.binary(max_size=2)), max_size=6), max_size=4),
    st.tuples(KEYS, KEYS),
)
def test_a_scan_is_what_a_dictionary_would_say(batches, bounds):
    state, store = fresh()
    model: dict[bytes, bytes] = {}
    start, end = bounds
    for batch in batches:
        for put, key, value in batch:
            if put and key not in model:
                state._insert(key, value)
                model[key] = value
            elif not put and key in model:
                state._remove(key)
                del model[key]
            assert list(state.scan(start, end)) == sorted((k, v) for k, v in model.items() if start <= k < end)
        write(state, store)
        assert dict(store.scan(b"\0", b"\xff")) == model
        assert list(state.scan(b"\0", b"\xff")) == sorted(model.items())


def test_what_comes_and_goes_in_one_batch_leaves_no_trace():
    state, _ = fresh()
    state.add_ready("q", "a", 50, 1)
    state.remove_ready("q", 50, 1)
    assert state.seal()[0] == []


def test_what_goes_and_comes_back_in_one_batch_is_there():
    state, store = fresh()
    state.add_ready("q", "a", 50, 1)
    write(state, store)
    state.remove_ready("q", 50, 1)
    state.add_ready("q", "a", 50, 1)
    state.remove_ready("q", 50, 1)
    state.add_ready("q", "b", 50, 1)
    write(state, store)
    assert list(state.ready("q")) == [(50, 1, "b")]


def test_priorities_that_come_and_go_are_found_from_a_remembered_place():
    state, store = fresh()
    state.add_ready("q", "low", 1, 1)
    state.add_ready("q", "old", 9, 2)
    state.add_ready("q", "new", 9, 3)
    write(state, store)
    assert list(state.ready("q")) == [(9, 2, "old"), (9, 3, "new"), (1, 1, "low")]
    state.remove_ready("q", 9, 2)
    state.remove_ready("q", 9, 3)
    assert list(state.ready("q")) == [(1, 1, "low")], "a priority that has run empty is passed over"
    state.add_ready("q", "old", 9, 2)
    state.add_ready("q", "first", 100, 5)
    assert [job_id for _, _, job_id in state.ready("q")] == ["first", "old", "low"]
    assert list(state.ready("other")) == []


def test_a_job_that_goes_back_before_the_remembered_place_is_found():
    state, store = fresh()
    for order in (1, 2, 3):
        state.add_ready("q", f"j{order}", 50, order)
    write(state, store)
    state.remove_ready("q", 50, 1)
    assert next(state.ready("q")) == (50, 2, "j2")
    state.add_ready("q", "j1", 50, 1)
    assert next(state.ready("q")) == (50, 1, "j1")


def test_timers_are_due_in_order_and_found_again_when_set_earlier():
    state, store = fresh()
    assert state.next_due() is None
    late, early = Timer(20, TimerKind.DUE, "q/a"), Timer(10, TimerKind.DUE, "q/b")
    state.set_timer(late)
    assert state.next_due() == 20
    write(state, store)
    state.set_timer(early)
    assert state.next_due() == 10
    assert list(state.due(9)) == []
    assert list(state.due(10)) == [early]
    assert list(state.due(20)) == [early, late]
    state.clear_timer(early)
    assert not state.has_timer(early)
    assert state.has_timer(late)
    assert state.next_due() == 20


def test_rows_of_sessions_and_queues_are_listed():
    state, store = fresh()
    state.save_session("s1", Session("w", 0, 5_000))
    state.save_queue("q", Queue([1, 2]))
    state.hold_attempt("s1", "q/a")
    assert list(state.sessions()) == [], "as of the last batch that was written"
    write(state, store)
    assert list(state.sessions()) == [("s1", Session("w", 0, 5_000))]
    assert list(state.queues()) == [("q", Queue([1, 2]))]
    assert list(state.attempts("s1")) == ["q/a"]


def test_the_outbox_is_read_behind_a_number_and_dropped_up_to_one():
    state, store = fresh()
    for text in "abc":
        state.push(message(text))
    assert [number for number, _ in state.pushed] == [1, 2, 3]
    write(state, store)
    assert state.pushed == []
    assert [(number, found.text) for number, found in state.outbox(1)] == [(2, "b"), (3, "c")]
    state.drop_sent(0, 2)
    write(state, store)
    assert [number for number, _ in state.outbox(0)] == [3]
    assert store.get(outbox_key(2)) is None


def test_a_row_that_is_dropped_and_made_anew_in_one_batch_is_the_new_one():
    state, store = fresh()
    state.save_job("q/a", Job(JobState.READY))
    write(state, store)
    state.drop_job("q/a")
    assert state.job("q/a") is None
    state.save_job("q/a", Job(JobState.HELD))
    write(state, store)
    found = State(store).job("q/a")
    assert found is not None
    assert found.state is JobState.HELD


def test_the_size_of_a_batch_grows_with_its_rows():
    state, _ = fresh()
    sizes = [state.size]
    state.save_job("q/a", Job(JobState.READY))
    sizes.append(state.size)
    state.add_ready("q", "a", 50, 1)
    sizes.append(state.size)
    assert sizes == [0, 1, 2]


def test_the_cache_is_bounded_and_forgets_nothing(monkeypatch):
    monkeypatch.setattr(rows, "CACHE_ROWS_MAX", 2)
    state, store = fresh()
    for name in "abc":
        state.save_job(f"q/{name}", Job(JobState.READY, attempt=ord(name)))
        state.push(message(name))
    write(state, store)
    found = state.job("q/b")
    assert found is not None
    assert found.attempt == ord("b")
    state.push(message("d"))
    assert state.pushed[0][0] == 4


def test_a_row_that_is_gone_is_not_remembered_either():
    state, store = fresh()
    for name in "ab":
        state.save_job(f"q/{name}", Job(JobState.READY))
    write(state, store)
    state.drop_job("q/a")
    state.drop_job("q/b")
    state.save_job("q/b", Job(JobState.HELD))
    write(state, store)
    assert list(state._jobs) == ["q/b"]
    assert state.job("q/a") is None


def test_the_hash_tells_batches_apart_by_every_row():
    def hash_of(*changes: tuple[bytes, bytes | None]) -> bytes:
        state, _ = fresh()
        state._changes = dict(changes)
        return state.seal()[1]

    hashes = {
        hash_of(),
        hash_of((b"a", b"")),
        hash_of((b"a", None)),
        hash_of((b"a", b"b")),
        hash_of((b"ab", b"")),
        hash_of((b"a", b""), (b"b", b"")),
    }
    assert len(hashes) == 6
    assert hash_of((b"a", b"1"), (b"b", None)) == hash_of((b"b", None), (b"a", b"1"))


def test_the_hash_is_a_chain():
    state, store = fresh()
    state.add_ready("q", "a", 50, 1)
    first = write(state, store)
    state.position.state_hash = first
    assert state.seal()[1] != first, "also where a batch changes nothing"


def test_a_fresh_store_stands_before_the_first_batch():
    position = load_position(MemoryStore())
    assert (position.applied_offset, position.next_command, position.batch_no) == (-1, 0, 0)


def test_a_job_without_its_spec_is_a_bug():
    state, _ = fresh()
    with pytest.raises(AssertionError, match="no spec"):
        state.spec("q/a")


def test_a_peer_that_was_never_heard_of_has_numbers_of_zero():
    state, _ = fresh()
    peer: Any = state.peer(3)
    assert (peer.sent, peer.received) == (0, 0)

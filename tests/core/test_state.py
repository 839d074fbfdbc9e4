"""Rows under sorted keys: a batch's changes are visible at once and written once."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftjm.adapters.memory import MemoryStore
from ftjm.core.state import view
from ftjm.core.state.model import Job, JobSpec, JobState, Session
from ftjm.core.state.outbox import ReplyMessage
from ftjm.core.state.processes import Keys, ProcessKind, Reckon
from ftjm.core.state.queues import Queue
from ftjm.core.state.rows import first_key_after
from ftjm.core.state.state import State
from ftjm.core.state.tables import (
    HELD_ATTEMPTS,
    JOBS,
    KEY_JOBS,
    OUTBOX,
    PROCESSES,
    READY_JOBS,
    TABLES,
    TIMERS,
    KeyPlace,
    Table,
    key_job_key,
    load_position,
    outbox_key,
    process_key,
    ready_key,
    timer_key,
)
from ftjm.core.state.timers import Timer, TimerKind

NAMES = st.text("abz09._-", min_size=1, max_size=4).filter(lambda text: text[0] in "abz09")


def fresh() -> tuple[State, MemoryStore]:
    store = MemoryStore()
    return State(store), store


def write(state: State, store: MemoryStore) -> bytes:
    changes, state_hash = state.seal()
    store.write(changes)
    state.written()
    return state_hash


def message(text: str) -> ReplyMessage:
    return ReplyMessage("0/client/1", "q", "a", 1, text=text)


@given(st.lists(st.tuples(NAMES, st.integers(-(2**45), 2**53), st.integers(1, 2**40)), unique=True))
def test_the_ready_queue_sorts_by_queue_then_score_then_order(entries):
    expected = sorted(entries, key=lambda entry: (entry[0].encode() + b"\0", *entry[1:]))
    assert sorted(entries, key=lambda entry: ready_key(*entry)) == expected


@given(st.lists(st.builds(Timer, st.integers(0, 2**53), st.sampled_from(TimerKind), NAMES, st.integers(0, 2**31))))
def test_timers_sort_by_time_and_never_share_a_key(timers):
    ordered = sorted(timers, key=timer_key)
    assert [timer.due_at for timer in ordered] == sorted(timer.due_at for timer in timers)
    assert len({timer_key(timer) for timer in timers}) == len(set(timers))


@given(st.binary(min_size=1, max_size=6).filter(lambda prefix: prefix[-1] < 255), st.binary(max_size=6))
def test_the_first_key_after_a_prefix_is_behind_all_keys_with_it(prefix, key):
    assert (prefix <= key < first_key_after(prefix)) == key.startswith(prefix)


KEYS = st.sampled_from([b"a", b"ab", b"b", b"c", b"ca", b"d"])


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.tuples(st.booleans(), KEYS, st.binary(max_size=2)), max_size=6), max_size=4),
    st.tuples(KEYS, KEYS),
)
def test_a_scan_gives_what_a_sorted_dictionary_gives(batches, bounds):
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


def test_a_row_that_is_inserted_and_removed_in_one_batch_leaves_no_trace():
    state, _ = fresh()
    state.add_ready("q", "a", 50, 1)
    state.remove_ready("q", 50, 1)
    assert state.seal()[0] == []


def test_a_row_that_is_removed_and_inserted_in_one_batch_exists():
    state, store = fresh()
    state.add_ready("q", "a", 50, 1)
    write(state, store)
    state.remove_ready("q", 50, 1)
    state.add_ready("q", "a", 50, 1)
    state.remove_ready("q", 50, 1)
    state.add_ready("q", "b", 50, 1)
    write(state, store)
    assert list(state.ready("q")) == [(50, 1, "b")]


def test_changing_priorities_are_found_from_a_remembered_place():
    state, store = fresh()
    state.add_ready("q", "low", -1, 1)
    state.add_ready("q", "old", -9, 2)
    state.add_ready("q", "new", -9, 3)
    write(state, store)
    assert list(state.ready("q")) == [(-9, 2, "old"), (-9, 3, "new"), (-1, 1, "low")]
    state.remove_ready("q", -9, 2)
    state.remove_ready("q", -9, 3)
    assert list(state.ready("q")) == [(-1, 1, "low")]
    state.add_ready("q", "old", -9, 2)
    state.add_ready("q", "first", -100, 5)
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


TIMER_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(1, 9), st.sampled_from(["a", "s1", "s2"])),
        st.tuples(st.just("clear"), st.integers(1, 9), st.sampled_from(["a", "s1", "s2"])),
        st.tuples(st.just("release"), st.just(0), st.sampled_from(["s1", "s2"])),
        st.tuples(st.just("look"), st.integers(0, 10), st.booleans()),
        st.tuples(st.just("write"), st.just(0), st.just("")),
    ),
    max_size=30,
)


@example([("set", 1, "s1"), ("set", 5, "a"), ("look", 9, False), ("release", 0, "s1"), ("look", 9, True)])
@example([("set", 1, "a"), ("set", 5, "s1"), ("look", 9, False), ("release", 0, "s1"), ("look", 9, True)])
@settings(max_examples=500)
@given(TIMER_STEPS)
def test_timers_that_may_fire_are_found_as_if_all_were_read(steps):
    state, store = fresh()
    timers: set[tuple[int, TimerKind, str]] = set()
    live = {"s1": 1, "s2": 1}
    for name in live:
        state.save_session(name, Session("w", 0, 1_000, live=1, lost=True))
    for step, at, about in steps:
        timer = Timer(at, TimerKind.SESSION if about in live else TimerKind.DUE, str(about))
        if step == "set" and (timer.due_at, timer.kind, timer.key) not in timers:  # no timer is set twice
            state.set_timer(timer)
            timers.add((timer.due_at, timer.kind, timer.key))
        elif step == "clear":
            state.clear_timer(timer)
            timers.discard((timer.due_at, timer.kind, timer.key))
        elif step == "release":  # a lost session gets no more attempts
            live[about] = 0
            state.save_session(about, Session("w", 0, 1_000, lost=True))
        elif step == "look":
            may_fire = sorted(timer for timer in timers if not live.get(timer[2]))
            if about:
                assert state.next_due() == (may_fire[0][0] if may_fire else None)
            assert [t.due_at for t in state.due(at)] == [due for due, *_ in may_fire if due <= at]
        elif step == "write":
            write(state, store)


def test_timers_are_not_read_while_none_is_due(monkeypatch):
    state, store = fresh()
    state.set_timer(Timer(20, TimerKind.DUE, "q/a"))
    write(state, store)
    assert [list(state.due(now)) for now in (10, 19)] == [[], []]
    monkeypatch.setattr(store, "scan", None)
    assert (list(state.due(19)), state.next_due()) == ([], 20)
    state.clear_timer(Timer(20, TimerKind.DUE, "q/a"))
    state.set_timer(Timer(15, TimerKind.DUE, "q/b"))
    assert (list(state.due(14)), state.next_due()) == ([], 15)


def test_processes_that_a_batch_begins_and_ends_count_at_once():
    state, store = fresh()
    state.save_process(ProcessKind.KEYS, "q", Keys(""))
    assert state.has_processes, "begun in this batch"
    write(state, store)
    assert state.has_processes
    state.drop_process(ProcessKind.KEYS, "q")
    assert not state.has_processes, "ended in this batch"
    state.save_process(ProcessKind.RECKON, "c", Reckon(""))
    assert state.has_processes, "another one is begun"
    write(state, store)
    state.drop_process(ProcessKind.KEYS, "q")
    assert state.has_processes, "another one goes on"


def test_specs_that_were_read_are_kept_for_a_while(monkeypatch):
    monkeypatch.setattr(view, "CACHED_SPECS_MAX", 2)
    state, store = fresh()
    specs = {f"q/{n}": JobSpec(command=[f"c{n}"]) for n in range(4)}
    specs["q/large"] = JobSpec(payload=bytes(view.CACHED_SPEC_BYTES_MAX))
    for key, spec in specs.items():
        state.save_spec(key, spec)
    write(state, store)
    for _ in range(2):
        assert {key: state.spec(key) for key in specs} == specs
        assert len(state._specs) <= 2
    assert state.spec("q/3") is state.spec("q/3")
    assert state.spec("q/large") is not state.spec("q/large")
    state.save_spec("q/3", specs["q/0"])
    assert state.spec("q/3") == specs["q/0"]
    state.drop_job("q/3")
    with pytest.raises(AssertionError, match="no spec"):
        state.spec("q/3")


def test_rows_of_sessions_and_queues_are_listed():
    state, store = fresh()
    state.save_session("s1", Session("w", 0, 5_000))
    state.save_queue("q", Queue([1, 2]))
    state.hold_attempt("s1", "q/a")
    assert state.open_sessions() == {}, "as of the last written batch"
    assert state.changed_queues() is None, "at first all are new"
    write(state, store)
    assert state.open_sessions() == State(store).open_sessions() == {"s1": Session("w", 0, 5_000)}
    assert list(state.queues()) == [("q", Queue([1, 2]))]
    assert state.changed_queues() == {"q"}
    assert state.changed_queues() == set()
    assert list(state.attempts("s1")) == ["q/a"]
    state.drop_queue("q")
    write(state, store)
    assert state.changed_queues() == {"q"}
    assert list(state.queues()) == []


def test_sessions_that_are_over_are_not_looked_at_again():
    """They are remembered for a day, and their number grows with every worker that was restarted."""
    state, store = fresh()
    held = Session("w", 0, 5_000, lost=True, live=1)
    for name, row in (("open", Session("w", 0, 5_000)), ("over", Session("w", 0, 5_000, lost=True)), ("held", held)):
        state.save_session(name, row)
    write(state, store)
    assert sorted(state.open_sessions()) == sorted(State(store).open_sessions()) == ["held", "open"]
    held.live = 0
    state.save_session("held", held)
    state.drop_session("open")
    write(state, store)
    assert state.open_sessions() == State(store).open_sessions() == {}


def test_the_outbox_is_read_behind_a_number_and_dropped_up_to_one():
    state, store = fresh()
    for text in "abc":
        state.push(message(text))
    assert [number for number, _ in state.pushed] == [1, 2, 3]
    write(state, store)
    assert state.pushed == []
    assert list(state.outbox(1)) == [(2, message("b")), (3, message("c"))]
    state.drop_sent(0, 2)
    write(state, store)
    assert [number for number, _ in state.outbox(0)] == [3]
    assert store.get(outbox_key(2)) is None


def test_a_row_that_is_dropped_and_recreated_in_one_batch_is_the_new_one():
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


def test_the_cache_is_bounded_and_reads_stay_right(monkeypatch):
    monkeypatch.setattr("ftjm.core.state.state.CACHE_ROWS_MAX", 2)
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


def test_a_deleted_row_leaves_the_cache():
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


def test_the_hash_of_a_batch_depends_on_every_row():
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
    assert state.seal()[1] != first, "also if a batch changes nothing"


def test_the_position_of_a_new_store_is_before_the_first_batch():
    position = load_position(MemoryStore())
    assert (position.applied_offset, position.next_command, position.batch_no) == (-1, 0, 0)


def test_a_job_without_its_spec_is_a_bug():
    state, _ = fresh()
    with pytest.raises(AssertionError, match="no spec"):
        state.spec("q/a")


def test_an_unknown_peer_has_numbers_of_zero():
    state, _ = fresh()
    peer: Any = state.peer(3)
    assert (peer.sent, peer.received) == (0, 0)


def test_each_table_has_a_prefix_and_a_name_of_its_own():
    assert len({table.prefix for table in TABLES}) == len({table.name for table in TABLES}) == len(TABLES)
    assert all(len(table.prefix) == 1 for table in TABLES)
    assert [table.name for table in TABLES if not table.hashed] == ["position", "migration"]


def test_keys_of_every_kind_of_row_are_shown_as_text():
    timer = Timer(1_700_000_000_000, TimerKind.DEADLINE, "q/a", 3)
    shown: dict[Table[Any], tuple[bytes, str]] = {
        JOBS: (b"jq/a", "q/a"),
        READY_JOBS: (ready_key("q", -90, 7), "q score -90 order 7"),
        KEY_JOBS: (key_job_key("q", "k", KeyPlace.READY, -90, 7), "q k READY order 7"),
        PROCESSES: (process_key(ProcessKind.REORDER, "q"), "REORDER q"),
        TIMERS: (timer_key(timer), "1700000000000 DEADLINE q/a attempt 3"),
        OUTBOX: (outbox_key(12), "12"),
        HELD_ATTEMPTS: (b"ls1\0q/a", "s1 q/a"),
    }
    for table, (key, text) in shown.items():
        assert key.startswith(table.prefix)
        assert table.show_key(key[1:]) == text

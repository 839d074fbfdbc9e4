"""The contract of every log. It runs against the log in memory here, and against Kafka in `integration/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pytest

from ftjm.engine.ports import CommitUnknown, EventRecord, Fenced, Writer

Batch = Sequence[tuple[str, bytes]]


class Expecting(Writer, Protocol):
    def expect(self, end: int) -> None: ...


class Log(Protocol):
    """The partitions of one cluster."""

    def fence(self, partition: int) -> Expecting: ...

    def end(self, partition: int) -> int: ...

    def events(self, partition: int, start: int, end: int | None = None) -> Iterator[EventRecord]: ...


def batch(*texts: str) -> Batch:
    return [(text, text.encode()) for text in texts]


class LogContract:
    """Each test has its own log with partitions 0 and 1, from the fixture `make_log`."""

    @pytest.fixture
    def log(self, make_log: Callable[[], Log]) -> Log:
        return make_log()

    @staticmethod
    def values(log: Log, start: int = 0, end: int | None = None, partition: int = 0) -> list[str]:
        log.fence(partition)  # a commit is answered before its marker is written, but a fence waits for the marker
        return [record.value.decode() for record in log.events(partition, start, end)]

    def test_an_empty_log_has_an_end_and_nothing_before_it(self, log: Log) -> None:
        assert self.values(log, log.end(0)) == []
        assert self.values(log) == []

    def test_committed_records_are_read_in_order(self, log: Log) -> None:
        writer = log.fence(0)
        writer.commit(batch("a", "b", "c"))
        writer.commit(batch("d"))
        assert self.values(log) == ["a", "b", "c", "d"]

    def test_commit_returns_the_offset_of_its_last_record(self, log: Log) -> None:
        writer = log.fence(0)
        last = [writer.commit(batch("a", "b")), writer.commit(batch("c"))]
        log.fence(0)
        offsets = {record.value: record.offset for record in log.events(0, 0)}
        assert last == [offsets[b"b"], offsets[b"c"]]

    def test_offsets_ascend_and_are_consecutive_within_a_batch(self, log: Log) -> None:
        writer = log.fence(0)
        for i in range(5):
            writer.commit(batch(*(f"{i}-{j}" for j in range(3))))
        log.fence(0)
        offsets = [record.offset for record in log.events(0, 0)]
        assert offsets == sorted(set(offsets))
        for i in range(0, 15, 3):
            assert offsets[i : i + 3] == list(range(offsets[i], offsets[i] + 3))

    def test_reading_begins_at_any_offset_even_without_a_record_there(self, log: Log) -> None:
        writer = log.fence(0)
        first = writer.commit(batch("a", "b"))
        writer.commit(batch("c"))
        assert self.values(log, first) == ["b", "c"]
        assert self.values(log, first + 1) == ["c"]

    def test_reading_ends_before_an_offset(self, log: Log) -> None:
        writer = log.fence(0)
        writer.commit(batch("a", "b"))
        last = writer.commit(batch("c", "d"))
        assert self.values(log, 0, last) == ["a", "b", "c"]
        assert self.values(log, 0, last + 1) == ["a", "b", "c", "d"]
        assert self.values(log, last, last) == []

    def test_a_reader_that_stops_early_disturbs_no_other(self, log: Log) -> None:
        log.fence(0).commit(batch("a", "b", "c"))
        log.fence(0)
        reading = log.events(0, 0)
        assert next(reading).value == b"a"
        del reading
        assert self.values(log) == ["a", "b", "c"]

    def test_the_end_is_behind_all_records_committed_before_a_fence(self, log: Log) -> None:
        """Without a fence the end may lag: a commit is answered before its marker is written."""
        writer = log.fence(0)
        before = log.end(0)
        last = writer.commit(batch("a", "b"))
        log.fence(0)
        after = log.end(0)
        assert before <= last < after
        assert self.values(log, 0, after) == ["a", "b"]
        assert self.values(log, after) == []

    def test_the_end_after_a_fence_is_the_end_of_the_old_owners_records(self, log: Log) -> None:
        """A new owner that has read up to here knows the whole log."""
        old = log.fence(0)
        last = old.commit(batch("a"))
        log.fence(0)
        end = log.end(0)
        assert end > last
        with pytest.raises(Fenced):
            old.commit(batch("zombie"))
        assert self.values(log) == ["a"]
        assert self.values(log, end) == []

    def test_a_writer_that_expects_the_right_end_commits(self, log: Log) -> None:
        log.fence(0).commit(batch("a"))
        writer = log.fence(0)
        writer.expect(log.end(0))
        for texts in (("b", "c"), ("d",), ("e", "f")):
            writer.commit(batch(*texts))
        assert self.values(log) == ["a", "b", "c", "d", "e", "f"]

    def test_a_writer_that_expects_an_outdated_end_commits_nothing(self, log: Log) -> None:
        """A deposed leader that does not know it yet may have reported such an end."""
        log.fence(0).commit(batch("a"))
        log.fence(0)
        past = log.end(0)
        log.fence(0).commit(batch("b"))
        writer = log.fence(0)
        writer.expect(past)
        with pytest.raises(CommitUnknown):
            writer.commit(batch("c", "d"))
        log.fence(0).commit(batch("e"))
        assert self.values(log) == ["a", "b", "e"]

    def test_a_fenced_writer_never_writes_again(self, log: Log) -> None:
        old = log.fence(0)
        old.commit(batch("a"))
        new = log.fence(0)
        with pytest.raises(Fenced):
            old.commit(batch("zombie-1", "zombie-2"))
        new.commit(batch("b"))
        assert self.values(log) == ["a", "b"]

    def test_a_writer_that_never_wrote_is_fenced_too(self, log: Log) -> None:
        old = log.fence(0)
        new = log.fence(0)
        new.commit(batch("a"))
        with pytest.raises(Fenced):
            old.commit(batch("zombie"))
        assert self.values(log) == ["a"]

    def test_the_newest_of_many_fences_counts(self, log: Log) -> None:
        writers = [log.fence(0) for _ in range(3)]
        writers[2].commit(batch("newest"))
        for old in writers[:2]:
            with pytest.raises(Fenced):
                old.commit(batch("zombie"))
        writers[2].commit(batch("and again"))
        assert self.values(log) == ["newest", "and again"]

    def test_fencing_one_partition_leaves_the_others_alone(self, log: Log) -> None:
        first, second = log.fence(0), log.fence(1)
        log.fence(0)
        second.commit(batch("x"))
        with pytest.raises(Fenced):
            first.commit(batch("zombie"))
        assert self.values(log) == []
        assert self.values(log, partition=1) == ["x"]

    def test_keys_may_be_empty_and_values_any_bytes(self, log: Log) -> None:
        value = bytes(range(256)) * 4
        log.fence(0).commit([("", value), ("ü/ä", b"\0")])
        log.fence(0)
        assert [record.value for record in log.events(0, 0)] == [value, b"\0"]

    def test_a_large_batch_is_read_whole(self, log: Log) -> None:
        writer = log.fence(0)
        texts = [f"{i:05}" + "x" * 1_000 for i in range(1_500)]
        writer.commit(batch(*texts))
        assert self.values(log) == texts

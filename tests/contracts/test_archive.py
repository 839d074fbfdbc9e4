"""The archive: what it keeps is what was read, whatever happened on the way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm import config, past
from ftjm.adapters import archive as archives
from ftjm.adapters.archive import Archive, decode, encode
from ftjm.adapters.folder import Folder
from ftjm.adapters.kafka_scan import Incomplete, Record
from ftjm.errors import FtjmError
from ftjm.past import Past

FOLDER = "topic-id/events/0"


def record(offset: int, size: int = 3) -> Record:
    return Record(0, offset, b"k%d" % offset, b"v" * size, 1_700_000_000_000 + offset, [("h", b"\0"), ("h", b"")])


class FakeScan:
    """A log of some records, with gaps."""

    topic = "t.events"

    def __init__(self, *offsets: int, size: int = 3) -> None:
        self.records = [record(offset, size) for offset in offsets]
        self.begins = [0]
        """Where it begins, now and each time that somebody looks again."""

    def bounds(self, _partition: int) -> tuple[int, int]:
        begin = self.begins.pop(0) if len(self.begins) > 1 else self.begins[0]
        return begin, self.records[-1].offset + 1

    def read(
        self, starts: Mapping[int, int], *, ends: Mapping[int, int] | None = None, whole: bool = False
    ) -> Iterator[Record]:
        begin, end = self.bounds(0)
        if whole and begin > starts[0]:
            raise Incomplete(self.topic, 0, starts[0], f"a log that begins at {begin}")
        yield from (r for r in self.records if max(begin, starts[0]) <= r.offset < (ends or {0: end})[0])


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


def keep(url: str, scan: Any, first: int, end: int) -> None:
    for _ in Archive(url).keep(scan, "events", "topic-id", 0, first, end):
        pass


def kept(url: str, start: int, end: int) -> list[Record]:
    return list(Archive(url).records("events", "topic-id", 0, start, end))


def test_what_was_kept_is_read(url):
    scan = FakeScan(0, 1, 2, 4, 5, 8)
    keep(url, scan, 0, 7)
    keep(url, scan, 7, 10)
    assert kept(url, 0, 10) == scan.records
    assert kept(url, 4, 8) == [record(4), record(5)]
    assert kept(url, 3, 3) == []


def test_a_log_is_kept_in_files_of_some_size(url, monkeypatch):
    monkeypatch.setattr(archives, "FILE_BYTES", 100)
    scan = FakeScan(*range(20), size=40)
    keep(url, scan, 0, 30)
    assert len(Folder(url).names(FOLDER)) > 5
    assert kept(url, 0, 30) == scan.records


def test_the_same_records_make_the_same_file(url):
    records = FakeScan(3, 4).records
    assert encode("t", records) == encode("t", records)


def test_another_try_goes_on_where_the_first_ended(url):
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 6)
    (first,) = Folder(url).names(FOLDER)
    keep(url, scan, 0, 10)
    assert Folder(url).names(FOLDER)[0] == first
    assert len(Folder(url).names(FOLDER)) == 2
    keep(url, scan, 0, 10)
    assert len(Folder(url).names(FOLDER)) == 2
    assert kept(url, 0, 10) == scan.records


def test_files_that_overlap_give_each_record_once(url):
    """As two owners leave them, of which one did not know yet that it was fenced."""
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 6)
    Folder(url).write(f"{FOLDER}/{name_of(3, 9, scan)}", encode("t", scan.records[3:9]))
    keep(url, scan, 0, 10)
    assert kept(url, 0, 10) == scan.records


def name_of(first: int, end: int, scan: FakeScan) -> str:
    digest = sha256(encode("t", scan.records[first:end])).hexdigest()
    return archives.Stretch(first, end, digest).name


def test_one_who_does_not_know_that_the_log_was_trimmed_leaves_no_file_without_its_records(url):
    """As a fenced owner: it would hide the one that its successor has written."""
    scan = FakeScan(*range(10))
    scan.begins = [8]
    with pytest.raises(Incomplete, match="begins at 8"):
        keep(url, scan, 2, 8)
    assert Folder(url).names(FOLDER) == []


def test_what_is_trimmed_while_the_archive_is_read_is_read_there_too(url, monkeypatch):
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 4)
    keep(url, scan, 4, 7)
    scan.begins = [4, 7]
    monkeypatch.setattr(past, "topic_id", lambda *_: "topic-id")
    read: Any = Past(config.load(bootstrap="nowhere:1"), url).records
    assert list(read(scan, "events", [0])) == scan.records


def test_a_file_that_is_not_what_it_was_ends_the_trimming(url):
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 6)
    (name,) = Folder(url).names(FOLDER)
    Folder(url).write(f"{FOLDER}/{name}", b"something else")
    with pytest.raises(FtjmError, match="as it was written"):
        keep(url, scan, 0, 10)
    with pytest.raises(FtjmError, match="as it was written"):
        kept(url, 0, 6)


def test_a_file_that_is_missing_is_missed(url):
    scan = FakeScan(*range(10))
    for first, end in ((0, 3), (3, 6), (6, 10)):
        keep(url, scan, first, end)
    folder = Folder(url)
    folder.delete(f"{FOLDER}/{folder.names(FOLDER)[1]}")
    with pytest.raises(FtjmError, match="from offset 3"):
        kept(url, 0, 10)
    with pytest.raises(FtjmError, match="from offset 10"):
        kept(url, 6, 12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 2**41)), max_size=9))
def test_records_come_back_as_they_were(rows):
    records = [Record(3, i, key, value, time, [("n", value)]) for i, (key, value, time) in enumerate(rows)]
    assert list(decode(encode("t", records))) == records

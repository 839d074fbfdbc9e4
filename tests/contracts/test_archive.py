"""The archive keeps exactly the records of the log, whatever fails on the way."""

from __future__ import annotations

import io
import uuid
import zlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.adapters.files import archive as archives
from ftjm.adapters.files.archive import Archive, decode, encode
from ftjm.adapters.files.folder import Folder
from ftjm.adapters.kafka.scan import Incomplete
from ftjm.adapters.records import Record
from ftjm.history import trimmed
from ftjm.history.trimmed import WholeLog
from ftjm.runtime import config
from ftjm.runtime.errors import FtjmError

FOLDER = "topic-id/events/0"


def record(offset: int, size: int = 3) -> Record:
    return Record(0, offset, b"k%d" % offset, b"v" * size, 1_700_000_000_000 + offset, [("h", b"\0"), ("h", b"")])


class FakeScan:
    """A log of given records, with gaps."""

    topic = "t.events"

    def __init__(self, *offsets: int, size: int = 3) -> None:
        self.records = [record(offset, size) for offset in offsets]
        self.begins = [0]
        """The first offset of the log, for this look-up and the next ones."""

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


def test_archived_records_are_read(url):
    scan = FakeScan(0, 1, 2, 4, 5, 8)
    keep(url, scan, 0, 7)
    keep(url, scan, 7, 10)
    assert kept(url, 0, 10) == scan.records
    assert kept(url, 4, 8) == [record(4), record(5)]
    assert kept(url, 3, 3) == []


def test_a_log_is_archived_in_files_of_limited_size(url, monkeypatch):
    monkeypatch.setattr(archives, "FILE_BYTES", 100)
    scan = FakeScan(*range(20), size=40)
    keep(url, scan, 0, 30)
    assert len(Folder(url).names(FOLDER)) > 5
    assert kept(url, 0, 30) == scan.records


def test_the_same_records_make_the_same_file(url):
    records = FakeScan(3, 4).records
    assert encode("t", records) == encode("t", records)


def test_a_second_try_goes_on_where_the_first_ended(url):
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
    """Two owners leave such files if one of them does not know yet that it is fenced."""
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 6)
    Folder(url).write(f"{FOLDER}/{name_of(3, 9, scan)}", encode("t", scan.records[3:9]))
    keep(url, scan, 0, 10)
    assert kept(url, 0, 10) == scan.records


def name_of(first: int, end: int, scan: FakeScan) -> str:
    digest = sha256(encode("t", scan.records[first:end])).hexdigest()
    return archives.ArchiveFile(first, end, digest).name


def test_a_fenced_owner_writes_no_file_without_the_trimmed_records(url):
    """Such an owner does not know that the log was trimmed. Its file would hide the file of its successor."""
    scan = FakeScan(*range(10))
    scan.begins = [8]
    with pytest.raises(Incomplete, match="begins at 8"):
        keep(url, scan, 2, 8)
    assert Folder(url).names(FOLDER) == []


def test_records_trimmed_while_the_archive_is_read_are_read_from_the_archive(url, monkeypatch):
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 4)
    keep(url, scan, 4, 7)
    scan.begins = [4, 7]
    monkeypatch.setattr(trimmed, "topic_id", lambda *_: "topic-id")
    read: Any = WholeLog(config.load(bootstrap="nowhere:1"), url).records
    assert list(read(scan, "events", [0])) == scan.records


def test_a_changed_file_stops_the_trimming(url):
    scan = FakeScan(*range(10))
    keep(url, scan, 0, 6)
    (name,) = Folder(url).names(FOLDER)
    Folder(url).write(f"{FOLDER}/{name}", b"something else")
    with pytest.raises(FtjmError, match="as it was written"):
        keep(url, scan, 0, 10)
    with pytest.raises(FtjmError, match="as it was written"):
        kept(url, 0, 6)


def test_a_missing_file_is_an_error(url):
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
def test_records_are_decoded_unchanged(rows):
    records = [Record(3, i, key, value, time, [("n", value)]) for i, (key, value, time) in enumerate(rows)]
    assert list(decode(encode("t", records))) == records


def container(schema: Any, rows: bytes, count: int = 1, codec: bytes = b"deflate") -> bytes:
    """An Avro container file of one block."""
    out, packing = io.BytesIO(), zlib.compressobj(wbits=-15)
    meta = {"avro.codec": codec, "avro.schema": schema}
    fastavro.schemaless_writer(out, archives._HEADER, {"magic": b"Obj\x01", "meta": meta, "sync": bytes(16)})
    block = {"count": count, "data": packing.compress(rows) + packing.flush(), "sync": bytes(16)}
    fastavro.schemaless_writer(out, archives._BLOCK, block)
    return out.getvalue()


def written_schema() -> bytes:
    metadata: Any = fastavro.reader(io.BytesIO(encode("t", [record(0)]))).metadata
    return metadata["avro.schema"].encode()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        container(b'"bytes"', b"\x02a"),
        container(b"[" * 4_000, b""),
        container(written_schema(), b"\x02a", codec=b"null"),
        container(written_schema(), b"", count=1 << 60),
        container(written_schema(), b"\xff" * 90),
        encode("t", [record(0)])[:-1],
        encode("t", [record(0)])[:-16] + bytes(16),
    ],
)
def test_other_bytes_are_no_archive(url: str, data: bytes) -> None:
    Folder(url).write(f"{FOLDER}/{archives.ArchiveFile(0, 1, sha256(data).hexdigest()).name}", data)
    with pytest.raises(FtjmError, match="as ftjm writes it"):
        kept(url, 0, 1)


def test_a_file_unfolds_to_no_more_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNFOLDED_BYTES_MAX", 1_000)
    assert list(decode(encode("t", [record(0, 900)]))) == [record(0, 900)]
    with pytest.raises(archives.NoArchive, match="at most 1000 bytes"):
        list(decode(encode("t", [record(0, 1_100)])))


def test_a_file_of_another_name_is_not_read(url: str) -> None:
    scan = FakeScan(*range(3))
    keep(url, scan, 0, 3)
    Folder(url).write(f"{FOLDER}/{0:020d}-{9:020d}.elsewhere.avro", b"x")
    assert kept(url, 0, 3) == scan.records

"""The archive: what was trimmed from the logs, as Avro object container files that any Avro library reads.

A file's name says what it holds: `<topic id>/<kind>/<partition>/<first offset>-<end>.<sha256>.avro`. It is read back
and compared with its hash before anything is deleted for it.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any, NamedTuple

import fastavro

from ftjm.adapters.folder import Folder
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.errors import FtjmError

FILE_BYTES = 8 * 1024 * 1024
"""Of keys and values in one file, about."""
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "ArchivedRecord",
        "namespace": "ftjm.archive",
        "fields": [
            {"name": "topic", "type": "string"},
            {"name": "partition", "type": "int"},
            {"name": "offset", "type": "long"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "key", "type": "bytes"},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": "bytes"}],
                    },
                },
            },
            {"name": "value", "type": "bytes"},
        ],
    }
)


class Stretch(NamedTuple):
    """A file of the archive: the offsets that it answers for, of which some may have no record."""

    first: int
    end: int
    digest: str

    @property
    def name(self) -> str:
        return f"{self.first:020d}-{self.end:020d}.{self.digest}.avro"


class Archive:
    """A folder of archived logs. Raises FtjmError where it cannot be read or written, or is not what it was."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Folder(url)

    def keep(self, scan: Scan, kind: str, topic_id: str, partition: int, first: int, end: int) -> Iterator[int]:
        """See to it that the records with first <= offset < end are in the archive, whole; a file at a time, with the
        offset before which it then has all.

        What an earlier try has left is read back like what is written now. Raises Incomplete where the log lacks any
        of it, since another owner has trimmed it: no file then says that there was nothing.
        """
        at = first
        for stretch in self._stretches(kind, topic_id, partition):
            if stretch.first <= at < min(stretch.end, end):
                self._read(kind, topic_id, partition, stretch)
                at = min(stretch.end, end)
                yield at
        if at < end:
            with closing(scan.read({partition: at}, ends={partition: end}, whole=True)) as records:
                for held, stretch_end in _pieces(records, end):
                    at = self._write(scan.topic, kind, topic_id, partition, held, at, stretch_end)
                    yield at

    def _write(
        self, topic: str, kind: str, topic_id: str, partition: int, held: list[Record], first: int, end: int
    ) -> int:
        data = encode(topic, held)
        stretch = Stretch(first, end, sha256(data).hexdigest())
        self._folder.write(f"{_path(kind, topic_id, partition)}/{stretch.name}", data)
        self._read(kind, topic_id, partition, stretch)
        return end

    def _read(self, kind: str, topic_id: str, partition: int, stretch: Stretch) -> bytes:
        name = f"{_path(kind, topic_id, partition)}/{stretch.name}"
        try:
            data = self._folder.read(name)
        except OSError as error:
            raise FtjmError(f"to read {name} from {self.url}", str(error), "mend the archive") from error
        if sha256(data).hexdigest() != stretch.digest:
            todo = "bring it back from a copy; until then nothing more is trimmed"
            raise FtjmError(f"{name} in {self.url} as it was written", "another content than its name says", todo)
        return data

    def _stretches(self, kind: str, topic_id: str, partition: int) -> list[Stretch]:
        found = []
        for name in self._folder.names(_path(kind, topic_id, partition)):
            offsets, _, rest = name.removesuffix(".avro").partition(".")
            first, _, end = offsets.partition("-")
            if first.isdigit() and end.isdigit():
                found.append(Stretch(int(first), int(end), rest))
        return sorted(found)

    def records(self, kind: str, topic_id: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """The archived records with start <= offset < end, in order. Raises FtjmError where some are missing."""
        at = start
        for stretch in self._stretches(kind, topic_id, partition):
            if stretch.end <= at or at >= end:
                continue
            if stretch.first > at:
                break
            for record in decode(self._read(kind, topic_id, partition, stretch)):
                if at <= record.offset < end:
                    yield record
            at = stretch.end
        if at < end:
            todo = "bring its files back from a copy, or look at what is left without --archive"
            raise FtjmError(f"{kind} of partition {partition} from offset {at} in {self.url}", "no such file", todo)


def _path(kind: str, topic_id: str, partition: int) -> str:
    return f"{topic_id}/{kind}/{partition}"


def _pieces(records: Iterable[Record], end: int) -> Generator[tuple[list[Record], int], None, None]:
    """Records by files, each with the offset behind it."""
    held: list[Record] = []
    size = 0
    for record in records:
        if size >= FILE_BYTES:
            yield held, record.offset
            held, size = [], 0
        held.append(record)
        size += len(record.key) + len(record.value)
    yield held, end


def encode(topic: str, records: Sequence[Record]) -> bytes:
    """An Avro object container file of these records, the same bytes every time."""
    out = io.BytesIO()
    place = f"{topic} {records[0].partition} {records[0].offset}" if records else topic
    rows = (
        {
            "topic": topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.time_ms,
            "key": record.key,
            "headers": [{"name": name, "value": value} for name, value in record.headers],
            "value": record.value,
        }
        for record in records
    )
    fastavro.writer(out, SCHEMA, rows, codec="deflate", sync_marker=sha256(place.encode()).digest()[:16])
    return out.getvalue()


def decode(data: bytes) -> Iterator[Record]:
    """The records of such a file."""
    rows: Iterator[Any] = iter(fastavro.reader(io.BytesIO(data)))
    for row in rows:
        taken_at = int(row["timestamp"].timestamp() * 1000 + 0.5)
        headers = [(header["name"], header["value"]) for header in row["headers"]]
        yield Record(row["partition"], row["offset"], row["key"], row["value"], taken_at, headers)

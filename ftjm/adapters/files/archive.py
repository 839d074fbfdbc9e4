"""The archive: records that were trimmed from the logs, as Avro object container files that any Avro library can read.

A file's name describes its content: `<topic id>/<kind>/<partition>/<first offset>-<end>.<sha256>.avro`. A file is read
back and compared with its hash before the log is trimmed. The same records always make the same bytes.

A file may have been made by somebody else, since an import reads the files that it is given. So the size of a file is
bounded, and so are the records that a block of it unfolds to; a file with another schema or codec is refused.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import fastavro
from fastavro.schema import SchemaParseException, to_parsing_canonical_form

from ftjm.adapters.files.folder import Folder
from ftjm.adapters.records import Record
from ftjm.runtime.errors import FtjmError

FILE_BYTES = 8 * 1024 * 1024
"""Bytes of keys and values in one file, about."""
UNFOLDED_BYTES_MAX = FILE_BYTES + 16 * 1024 * 1024
"""Bytes of the records of one file, at most: the last record may be as large as Kafka allows, and has headers."""
NAME = re.compile(r"(\d{20})-(\d{20})\.([0-9a-f]{64})\.avro", re.ASCII)
CODEC = "deflate"
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
SCHEMA_CHARACTERS_MAX = 8_192
"""Length of a schema in the head of a file, at most."""

# The frame of an Avro object container file (Avro 1.11, "Object Container Files").
_HEADER = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Header",
        "namespace": "org.apache.avro.file",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
        ],
    }
)
_BLOCK = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Block",
        "namespace": "org.apache.avro.file",
        "fields": [
            {"name": "count", "type": "long"},
            {"name": "data", "type": "bytes"},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
        ],
    }
)


class Source(Protocol):
    """A topic to archive, such as `adapters.kafka.scan.Scan`."""

    topic: str

    def read(self, starts: Mapping[int, int], *, ends: Mapping[int, int], whole: bool) -> Generator[Record, None, None]:
        """Yield records: see `Scan.read`."""
        ...


class ArchiveFile(NamedTuple):
    """A file of the archive, and the range of offsets that it covers. Some of them may have no record."""

    first: int
    end: int
    digest: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.first:020d}-{self.end:020d}.{self.digest}.avro"


class Archive:
    """A folder of archived logs.

    Methods raise FtjmError where the folder cannot be read or written, or a file has changed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Folder(url)

    def keep(self, source: Source, kind: str, topic_id: str, partition: int, first: int, end: int) -> Iterator[int]:
        """Bring the records with first <= offset < end into the archive, one file at a time.

        Files of an earlier try are read back and kept.

        Args:
            source: the topic.
            kind: the topic's kind: `events` or `commands`.
            topic_id: its id.
            partition: its partition.
            first: first offset to archive.
            end: offset behind the last one.

        Returns:
            After each file, the offset before which the archive has all records.

        Raises:
            Incomplete: the log lacks some of the records, since another owner has trimmed it. No file is written that
                would claim that there were none.
            FtjmError: a file cannot be written, or is not as it was written.
        """
        at = first
        for file in self._files(kind, topic_id, partition):
            if file.first <= at < min(file.end, end):
                self._read(kind, topic_id, partition, file)
                at = min(file.end, end)
                yield at
        if at < end:
            with closing(source.read({partition: at}, ends={partition: end}, whole=True)) as records:
                for held, file_end in _pieces(records, end):
                    at = self._write(source.topic, kind, topic_id, partition, held, at, file_end)
                    yield at

    def _write(
        self, topic: str, kind: str, topic_id: str, partition: int, held: list[Record], first: int, end: int
    ) -> int:
        data = encode(topic, held)
        file = ArchiveFile(first, end, sha256(data).hexdigest())
        self._folder.write(f"{_path(kind, topic_id, partition)}/{file.name}", data)
        self._read(kind, topic_id, partition, file)
        return end

    def _read(self, kind: str, topic_id: str, partition: int, file: ArchiveFile) -> bytes:
        name = f"{_path(kind, topic_id, partition)}/{file.name}"
        try:
            data = self._folder.read(name, UNFOLDED_BYTES_MAX)
        except OSError as error:
            raise FtjmError(f"to read {name} from {self.url}", str(error), "mend the archive") from error
        if sha256(data).hexdigest() != file.digest:
            todo = "bring it back from a copy; until then nothing more is trimmed"
            raise FtjmError(f"{name} in {self.url} as it was written", "other content than its name states", todo)
        return data

    def _files(self, kind: str, topic_id: str, partition: int) -> list[ArchiveFile]:
        names = map(NAME.fullmatch, self._folder.names(_path(kind, topic_id, partition)))
        return sorted(ArchiveFile(int(parts[1]), int(parts[2]), parts[3]) for parts in names if parts)

    def records(self, kind: str, topic_id: str, partition: int, start: int, end: int) -> Iterator[Record]:
        """Read the archived records with start <= offset < end, in order. Raises FtjmError where some are missing."""
        at = start
        for file in self._files(kind, topic_id, partition):
            if file.end <= at or at >= end:
                continue
            if file.first > at:
                break
            data = self._read(kind, topic_id, partition, file)
            try:
                records = list(decode(data))
            except NoArchive as error:
                name = f"{_path(kind, topic_id, partition)}/{file.name}"
                todo = "do not use it: it does not come from ftjm"
                raise FtjmError(f"{name} in {self.url} as ftjm writes it", str(error), todo) from error
            yield from (record for record in records if at <= record.offset < end)
            at = file.end
        if at < end:
            todo = "bring its files back from a copy, or look at what is left without --archive"
            raise FtjmError(f"{kind} of partition {partition} from offset {at} in {self.url}", "no such file", todo)


def _path(kind: str, topic_id: str, partition: int) -> str:
    return f"{topic_id}/{kind}/{partition}"


def _pieces(records: Iterable[Record], end: int) -> Generator[tuple[list[Record], int], None, None]:
    """Split records into files; with each, the offset behind its last record."""
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
    """Make an Avro object container file of records. The same records make the same bytes."""
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
    fastavro.writer(out, SCHEMA, rows, codec=CODEC, sync_marker=sha256(place.encode()).digest()[:16])
    return out.getvalue()


class NoArchive(Exception):
    """The bytes are no file that `encode` made."""


def decode(data: bytes) -> Iterator[Record]:
    """Yield the records of a file that `encode` made. Raises NoArchive for other bytes."""
    try:
        for count, rows in _blocks(data):
            for _ in range(count):
                yield _record(fastavro.schemaless_reader(rows, SCHEMA, None))
            if rows.read(1):
                raise NoArchive("expected the end of a block behind its records, but found more bytes")
    except (EOFError, IndexError, ValueError, OverflowError, zlib.error) as error:
        raise NoArchive(f"expected records, but {error or type(error).__name__}") from error


def _blocks(data: bytes) -> Iterator[tuple[int, io.BytesIO]]:
    """The blocks of a file, unfolded: the number of records in each, and their bytes."""
    file = io.BytesIO(data)
    header: Any = fastavro.schemaless_reader(file, _HEADER, None)
    if header["meta"].get("avro.codec") != CODEC.encode() or not _is_ours(header["meta"].get("avro.schema", b"")):
        raise NoArchive("expected the schema and the codec of an archive, but found others")
    left = UNFOLDED_BYTES_MAX
    while file.tell() < len(data):
        block: Any = fastavro.schemaless_reader(file, _BLOCK, None)
        if block["sync"] != header["sync"]:
            raise NoArchive("expected the file's marker behind a block, but found other bytes")
        # A block unfolds to up to a thousand times its size, so it must not be unfolded at once.
        unfolding = zlib.decompressobj(-zlib.MAX_WBITS)
        rows = unfolding.decompress(block["data"], left + 1)
        left -= len(rows)
        if left < 0 or not unfolding.eof:
            raise NoArchive(f"expected records of at most {UNFOLDED_BYTES_MAX} bytes, but found more")
        yield block["count"], io.BytesIO(rows)


def _is_ours(schema: bytes) -> bool:
    """Whether a file was written with `SCHEMA`, however its library spelt it."""
    if len(schema) > SCHEMA_CHARACTERS_MAX:
        return False
    try:
        return to_parsing_canonical_form(json.loads(schema)) == to_parsing_canonical_form(SCHEMA)
    except (SchemaParseException, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _record(row: Any) -> Record:
    taken_at = int(row["timestamp"].timestamp() * 1000 + 0.5)
    headers = [(header["name"], header["value"]) for header in row["headers"]]
    return Record(row["partition"], row["offset"], row["key"], row["value"], taken_at, headers)

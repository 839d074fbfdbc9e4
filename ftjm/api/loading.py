"""A partition of the projection from a snapshot, where the log does not begin at its beginning any more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.adapters.rocks import RocksStore
from ftjm.api.projection import OTHER, OWNERS, kind_of
from ftjm.api.tables import PARTITIONS_MAX, TRIMMED, Changes, Mention, Tables
from ftjm.core import events as e
from ftjm.core.keys import POSITION_KEY
from ftjm.core.model import Job, Session
from ftjm.core.state import load_position
from ftjm.repository import Repository

SLICE = 5_000
"""Jobs, or mentions, of one write."""
LAST = b"\xff"
_job = msgspec.msgpack.Decoder(Job).decode
_session = msgspec.msgpack.Decoder(Session).decode


def load(tables: Tables, repository: Repository, scan: Scan, partition: int) -> bool:
    """Replace what the tables hold of the partition by its newest snapshot; whether there was one.

    What the log still has from before the snapshot is mentioned, so that histories go back as far as the log does. The
    position is written last: a load that was broken off is made again. Raises KafkaException.
    """
    with tempfile.TemporaryDirectory(prefix="ftjm-load-") as directory:
        path = Path(directory) / "store"
        if repository.restore(partition, path) is None:
            return False
        store = RocksStore(path, read_only=True)
        try:
            tables.drop(partition)
            _Loading(tables, store, scan, partition).run()
        finally:
            store.close()
    return True


class _Loading:
    """One partition on its way."""

    def __init__(self, tables: Tables, store: RocksStore, scan: Scan, partition: int) -> None:
        self._tables = tables
        self._store = store
        self._scan = scan
        self._partition = partition
        self._end = load_position(store).applied_offset + 1

    def run(self) -> None:
        born = self._born()
        keys = self._store.scan(b"j", b"k")
        while jobs := list(islice(keys, SLICE)):
            self._bear(jobs, born)
        mentions = self._mentions()
        while some := list(islice(mentions, SLICE)):
            self._write({}, {}, some, {})
        skipped = (*OWNERS, *b"jsv", POSITION_KEY[0])
        rows: dict[bytes, bytes | None] = {
            key: value for key, value in self._store.scan(b"", LAST) if key[0] not in skipped
        }
        rows[POSITION_KEY] = self._store.get(POSITION_KEY) or b""
        self._write(rows, {}, [], {})

    def _records(self) -> Iterator[Record]:
        """What the log has left of what made the snapshot, without the ends of batches."""
        for record in self._scan.read({self._partition: 0}, ends={self._partition: self._end}):
            if record.key:
                yield record

    def _born(self) -> dict[str, int]:
        """Where the log has the submission of a job that is there."""
        found = {}
        for record in self._records():
            if codec.type_of(record.value) is e.JobSubmitted and self._store.get(b"j" + record.key) is not None:
                found[record.key.decode()] = record.offset
        return found

    def _bear(self, jobs: list[tuple[bytes, bytes]], born: dict[str, int]) -> None:
        rows: dict[bytes, bytes | None] = {}
        ids: dict[str, int] = {}
        workers: dict[str, str] = {}
        for key, value in jobs:
            name, job = key[1:], _job(value)
            text = name.decode()
            rows[key] = value
            for kind in (b"s", b"v"):
                if (row := self._store.get(kind + name)) is not None:
                    rows[kind + name] = row
            offset = born.get(text)
            ids[text] = (trimmed_place(text) if offset is None else offset) * PARTITIONS_MAX + self._partition
            if job.session and (session := self._store.get(b"w" + job.session.encode())) is not None:
                workers[text] = _session(session).worker
        self._write(rows, ids, [], workers)

    def _mentions(self) -> Iterator[Mention]:
        for record in self._records():
            kind = codec.type_of(record.value)
            yield Mention(record.key.decode(), record.offset, kind_of(kind) if kind else OTHER)

    def _write(
        self, rows: dict[bytes, bytes | None], born: dict[str, int], mentions: list[Mention], workers: dict[str, str]
    ) -> None:
        self._tables.write([Changes(self._partition, rows, born, [], mentions, workers)])


def trimmed_place(key: str) -> int:
    """Stands for the offset of a submission that the log does not have any more: the same in every instance."""
    return TRIMMED + int.from_bytes(sha256(key.encode()).digest()[:6]) % TRIMMED

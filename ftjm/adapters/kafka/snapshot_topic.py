"""The topic of snapshots: manifests, found from the end, and chunks, read at the offsets that a manifest names.

The topic is compacted by key. Each partition of it holds the snapshots of one partition, each of them as some chunks
and, behind them, their manifest:

    offset   0    1    2    3           4    5           6          7
             c1   c2   c3   manifest 1  c4   manifest 2  c2 = None  manifest 3

Chunks are named by their content and by the snapshot that they first came with, so manifest 2 may list c1 and c3 with
their offsets 0 and 2. A manifest is written in one transaction of the partition's fenced owner, together with the
tombstones (records with a key and no value) of the manifests and chunks that it makes superfluous. So an owner that was
fenced can neither publish nor delete. The newest manifest is found by reading windows backwards from the end; each
manifest names the offset of the one before it, since thousands of chunks may lie between the two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ftjm.adapters.kafka.connection import error_callback, make_consumer
from ftjm.adapters.kafka.errors import LogError, LogUnanswered, error_of, log_errors
from ftjm.adapters.kafka.messages import offset_of
from ftjm.adapters.kafka.offsets import bounds
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.records import Receipt
from ftjm.engine.snapshot import (
    KEEP,
    Chunk,
    DamagedSnapshot,
    Manifest,
    Published,
    chunk_key,
    decode,
    encode,
    is_manifest,
    manifest_key,
)

WINDOW = 8
"""Offsets that are read first, from the end: a manifest is the last record of its snapshot."""
GAP_MAX = 4
"""Up to this many offsets between two wanted chunks are read and dropped: that is faster than a new assignment."""
UNDER_WAY_MAX = 8
"""Chunks that wait for their delivery. More would only make the partitions' own records wait behind them."""
READ_SECONDS = 10.0


class _Seen(NamedTuple):
    """The part of a record that is kept in memory: of a chunk, only its name."""

    offset: int
    key: str
    there: bool
    """Whether the record has a value; False for a tombstone, which drops the records of its key."""
    manifest: bytes | None


class SnapshotTopic:
    """Finds manifests, and stores chunks unless a folder is configured for them. Any thread may use it.

    Methods raise LogError where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """

    url = ""

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        self._settings = settings
        self.topic = topic
        self._finder: Consumer | None = None
        self._finding = threading.Lock()
        self._producer: ConfirmingProducer | None = None

    def close(self) -> None:
        """Close the connections. No other thread may use it any more."""
        if self._finder is not None:
            self._finder.close()
        if self._producer is not None:
            self._producer.close(0)

    # -- manifests

    def find(self, partition: int) -> tuple[list[Published], list[str]]:
        """Find a partition's newest manifests.

        Returns:
            The manifests, newest first: at most `KEEP` that can be read, and those that the newest one keeps for an
            older build. And the names of the chunks behind the newest manifest: they were left by a snapshot that was
            never published, or belong to one that is being sent.
        """
        with self._finder_consumer() as consumer:
            return self._find(consumer, partition)

    def since(self, partition: int, start: int) -> tuple[list[Manifest], int]:
        """The manifests at this offset or behind it, oldest first, and the offset for the next call."""
        with self._finder_consumer() as consumer:
            low, end = bounds(consumer, self.topic, partition)
            if start >= end:
                return [], start
            found = [
                _published(partition, seen.offset, seen.manifest).manifest
                for seen in map(_seen, self._range(consumer, partition, max(low, start), end))
                if seen.manifest is not None
            ]
            return [manifest for manifest in found if manifest is not None], end

    def end(self, partition: int) -> int:
        """The last stable offset, as the partition's leader reports it."""
        with self._finder_consumer() as consumer:
            return bounds(consumer, self.topic, partition)[1]

    @contextmanager
    def _finder_consumer(self) -> Iterator[Consumer]:
        with self._finding, log_errors():
            if self._finder is None:
                self._finder = self._consumer(committed=True)
            try:
                yield self._finder
            except (LogError, KafkaException):
                self._finder = None  # a new client may know a broker that answers
                raise
            finally:
                if self._finder is not None:
                    self._finder.unassign()

    def _find(self, consumer: Consumer, partition: int) -> tuple[list[Published], list[str]]:
        low, end = bounds(consumer, self.topic, partition)
        found: list[Published] = []
        behind: dict[str, bool] = {}
        dropped: set[str] = set()
        window = WINDOW
        while end > low and _readable(found) < KEEP:
            start = max(low, end - window)
            for seen in reversed([_seen(record) for record in self._range(consumer, partition, start, end)]):
                if not is_manifest(seen.key):
                    if not found:
                        behind.setdefault(seen.key.partition("/")[2], seen.there)
                elif seen.manifest is None:
                    dropped.add(seen.key)
                elif seen.key not in dropped and seen.offset not in (p.offset for p in found):
                    if _readable(found) < KEEP:
                        found.append(_published(partition, seen.offset, seen.manifest))
                    if _readable(found) < KEEP:
                        found += self._before(consumer, partition, found[-1], low)
            end, window = start, window * 2
        newest = next((published.manifest for published in found if published.manifest is not None), None)
        for offset in newest.older if newest else ():
            if offset >= low and offset not in (published.offset for published in found):
                found += self._at(consumer, partition, offset)
        return found, [name for name, there in behind.items() if there]

    def _before(self, consumer: Consumer, partition: int, newest: Published, low: int) -> list[Published]:
        """The manifest before `newest`, at the offset that `newest` names."""
        at = newest.manifest.previous if newest.manifest else -1
        return self._at(consumer, partition, at) if at >= low else []

    def _at(self, consumer: Consumer, partition: int, offset: int) -> list[Published]:
        """The manifest at this offset, unless the log has dropped it."""
        return [
            _published(partition, offset, record.value() or b"")
            for record in self._range(consumer, partition, offset, offset + 1)
            if is_manifest(_key(record))
        ]

    def _range(self, consumer: Consumer, partition: int, start: int, end: int) -> Iterator[Message]:
        """The records with start <= offset < end that the log still has."""
        consumer.assign([TopicPartition(self.topic, partition, start)])
        while (message := _next(consumer)) is not None and offset_of(message) < end:
            yield message
            if offset_of(message) == end - 1:
                return

    # -- chunks

    def put(
        self, partition: int, chunks: Iterable[tuple[str, bytes]], stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, int]:
        """Write chunks.

        Args:
            partition: the partition that the chunks belong to.
            chunks: name and content of each.
            stopped: whether to give up.

        Returns:
            The offset of each chunk, by its name, once the log has all of them.

        Raises:
            TimeoutError: `stopped` before the log had all of them.
            LogError: Kafka refuses a chunk, or does not answer.
        """
        try:
            return self._put(self._connected(), partition, chunks, stopped)
        except LogError:
            # After some errors a producer sends nothing any more.
            if self._producer is not None:
                self._producer.close(0)
                self._producer = None
            raise

    def _connected(self) -> ConfirmingProducer:
        if self._producer is None:
            # Files of the store are compressed already. Records of owners must not wait behind chunks, so chunks have a
            # producer of their own.
            compact: dict[str, Any] = {"compression.type": "none", "queue.buffering.max.kbytes": 64 * 1024}
            self._producer = ConfirmingProducer({**self._settings, **compact})
        return self._producer

    def _put(
        self,
        producer: ConfirmingProducer,
        partition: int,
        chunks: Iterable[tuple[str, bytes]],
        stopped: Callable[[], bool],
    ) -> dict[str, int]:
        offsets: dict[str, int] = {}
        refused: list[LogError] = []
        room = threading.Semaphore(UNDER_WAY_MAX)
        for name, data in chunks:
            _acquire(room, producer, stopped)
            if refused:
                break

            def received(receipt: Receipt | LogError, name: str = name) -> None:
                if isinstance(receipt, LogError):
                    refused.append(receipt)
                else:
                    offsets[name] = receipt.offset
                room.release()

            key = chunk_key(partition, name).encode()
            producer.send_for_receipt(self.topic, data, partition=partition, key=key, received=received)
        else:
            for _ in range(UNDER_WAY_MAX):
                _acquire(room, producer, stopped)
        if refused:
            raise refused[0]
        return offsets

    def get(self, partition: int, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, bytes], None, None]:
        """Read chunks in the order of their offsets. Raises DamagedSnapshot if one is missing."""
        wanted = sorted({chunk.offset: chunk for chunk in chunks}.values(), key=lambda chunk: chunk.offset)
        consumer = self._consumer(committed=False)
        with closing(consumer), log_errors():
            low, end = bounds(consumer, self.topic, partition)
            at = -1
            for chunk in wanted:
                if not low <= chunk.offset < end:
                    raise DamagedSnapshot(f"chunk {chunk.name} is not in the topic any more")
                if at < 0 or chunk.offset > at + GAP_MAX:
                    consumer.assign([TopicPartition(self.topic, partition, chunk.offset)])
                message = _next(consumer)
                while message is not None and offset_of(message) < chunk.offset:
                    message = _next(consumer)
                if message is None or message.key() != chunk_key(partition, chunk.name).encode():
                    raise DamagedSnapshot(f"chunk {chunk.name} is not at its offset {chunk.offset} any more")
                at = chunk.offset + 1
                yield chunk, message.value() or b""

    def lacking(self, _manifest: Manifest) -> str:
        """Return an empty name: chunks are never missing from the topic, since only an owner deletes from it, in one
        transaction with its manifest."""
        return ""

    def sweep(self, partition: int, kept: Sequence[Any]) -> None:
        """Do nothing: a manifest's transaction deletes the chunks that it makes superfluous."""

    def _consumer(self, *, committed: bool) -> Consumer:
        special = {
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 32 * 1024,
            "check.crcs": committed,  # chunks, which are read uncommitted, have a better checksum in their names
        }
        return make_consumer(self._settings, error_callback("snapshots"), committed=committed, special=special)


def _acquire(room: threading.Semaphore, producer: ConfirmingProducer, stopped: Callable[[], bool]) -> None:
    while True:
        if producer.fault is not None:
            raise producer.fault
        if stopped():
            raise TimeoutError("stopped before all chunks were there")
        if room.acquire(timeout=0.1):
            return


def _next(consumer: Consumer) -> Message | None:
    """The next record; None at the end of the log. Raises LogError."""
    message = consumer.poll(READ_SECONDS)
    if message is None:
        raise LogUnanswered(f"no snapshot record within {READ_SECONDS:g} s")
    error = message.error()
    if error is None:
        return message
    if error.code() == KafkaError._PARTITION_EOF:
        return None
    raise error_of(error)


def _readable(found: Iterable[Published]) -> int:
    return sum(published.manifest is not None for published in found)


def _seen(record: Message) -> _Seen:
    key, value = _key(record), record.value()
    return _Seen(offset_of(record), key, value is not None, value if is_manifest(key) else None)


def _key(record: Message) -> str:
    return (record.key() or b"").decode(errors="replace")


def _published(partition: int, offset: int, data: bytes) -> Published:
    try:
        manifest = decode(data)
    except DamagedSnapshot:
        return Published(offset, None)
    return Published(offset, manifest if manifest.partition == partition else None)


def manifest_records(
    manifest: Manifest, gone: Iterable[Manifest], names: Iterable[str]
) -> list[tuple[str, bytes | None]]:
    """The records that publish a manifest, which is the last of them.

    Args:
        manifest: the new one.
        gone: manifests to delete.
        names: names of chunks to delete.

    Returns:
        Key and value of each; None as the value deletes.
    """
    tombstones: list[tuple[str, bytes | None]] = [(chunk_key(manifest.partition, name), None) for name in names]
    tombstones += [(manifest_key(one), None) for one in gone]
    return [*tombstones, (manifest_key(manifest), encode(manifest))]

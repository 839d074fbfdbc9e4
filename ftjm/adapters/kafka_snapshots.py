"""The topic of snapshots: manifests, found from its end, and chunks, read at the offsets that a manifest names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ftjm.adapters.kafka import CONSUMER, bounds, offset_of, say_errors
from ftjm.adapters.kafka_outlet import Outlet
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
"""Offsets that are looked at first, from the end: a manifest is the last record of its snapshot."""
GAP_MAX = 4
"""Offsets between two wanted chunks that are read and dropped rather than jumped over."""
UNDER_WAY_MAX = 8
"""Chunks that wait for their delivery: more would only make the partitions' own records wait behind them."""
READ_SECONDS = 10.0


class _Seen(NamedTuple):
    """What is held of a record that was met: of a chunk, only its name."""

    offset: int
    key: str
    there: bool
    """False where it tells that what has this key is dropped."""
    manifest: bytes | None


class SnapshotTopic:
    """Finds manifests, and is the place of chunks where no other is set. Any thread may use it.

    Raises KafkaException where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """

    url = ""

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        self._settings = settings
        self.topic = topic
        self._finder: Consumer | None = None
        self._finding = threading.Lock()
        self._outlet: Outlet | None = None

    def close(self) -> None:
        """To be called once nobody uses it any more."""
        if self._finder is not None:
            self._finder.close()
        if self._outlet is not None:
            self._outlet.close(0)

    # -- manifests

    def find(self, partition: int) -> tuple[list[Published], list[str]]:
        """The partition's newest manifests, newest first, and the names of chunks behind the newest of them.

        Of those that can be read at most `KEEP`. The chunks were left by a snapshot that never got its manifest, or
        belong to one that is on its way.
        """
        with self._looking() as consumer:
            return self._find(consumer, partition)

    def since(self, partition: int, start: int) -> tuple[list[Manifest], int]:
        """The manifests that came at this offset or behind it, oldest first, and the offset to look on from."""
        with self._looking() as consumer:
            low, end = bounds(consumer, self.topic, partition)
            if start >= end:
                return [], start
            found = [
                _published(seen.offset, seen.manifest).manifest
                for seen in map(_seen, self._range(consumer, partition, max(low, start), end))
                if seen.manifest is not None
            ]
            return [manifest for manifest in found if manifest is not None], end

    def end(self, partition: int) -> int:
        """The offset behind all that is committed, as the partition's leader knows it."""
        with self._looking() as consumer:
            return bounds(consumer, self.topic, partition)[1]

    @contextmanager
    def _looking(self) -> Iterator[Consumer]:
        with self._finding:
            if self._finder is None:
                self._finder = self._consumer("read_committed")
            try:
                yield self._finder
            except KafkaException:
                self._finder = None  # another one may know of a broker that answers
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
                        found.append(_published(seen.offset, seen.manifest))
                    if _readable(found) < KEEP:
                        found += self._before(consumer, partition, found[-1], low)
            end, window = start, window * 2
        return found, [name for name, there in behind.items() if there]

    def _before(self, consumer: Consumer, partition: int, newest: Published, low: int) -> list[Published]:
        """The manifest that a sound one says is before it: there may be thousands of chunks between the two."""
        at = newest.manifest.previous if newest.manifest else -1
        if at < low:
            return []
        return [
            _published(at, record.value() or b"")
            for record in self._range(consumer, partition, at, at + 1)
            if is_manifest(_key(record))
        ]

    def _range(self, consumer: Consumer, partition: int, start: int, end: int) -> Iterator[Message]:
        """What the log still has with start <= offset < end."""
        consumer.assign([TopicPartition(self.topic, partition, start)])
        while (message := _next(consumer)) is not None and offset_of(message) < end:
            yield message
            if offset_of(message) == end - 1:
                return

    # -- chunks

    def put(
        self, partition: int, chunks: Iterable[tuple[str, bytes]], stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, int]:
        """Write chunks by name; the offset of each, once the log has it. Raises TimeoutError if `stopped` before.

        Raises KafkaException where one is refused.
        """
        try:
            return self._put(self._connected(), partition, chunks, stopped)
        except KafkaException:
            # After some errors a producer takes nothing more.
            if self._outlet is not None:
                self._outlet.close(0)
                self._outlet = None
            raise

    def _connected(self) -> Outlet:
        if self._outlet is None:
            # Files of the store are compressed already; the outlet of the owners must not wait behind these.
            compact: dict[str, Any] = {"compression.type": "none", "queue.buffering.max.kbytes": 64 * 1024}
            self._outlet = Outlet({**self._settings, **compact})
        return self._outlet

    def _put(
        self, outlet: Outlet, partition: int, chunks: Iterable[tuple[str, bytes]], stopped: Callable[[], bool]
    ) -> dict[str, int]:
        offsets: dict[str, int] = {}
        refused: list[KafkaError] = []
        room = threading.Semaphore(UNDER_WAY_MAX)
        for name, data in chunks:
            _acquire(room, outlet, stopped)
            if refused:
                break

            def delivered(error: KafkaError | None, message: Message, name: str = name) -> None:
                if error is None:
                    offsets[name] = offset_of(message)
                else:
                    refused.append(error)
                room.release()

            key = chunk_key(partition, name).encode()
            outlet.send(self.topic, data, partition=partition, key=key, delivered=delivered)
        else:
            for _ in range(UNDER_WAY_MAX):
                _acquire(room, outlet, stopped)
        if refused:
            raise KafkaException(refused[0])
        return offsets

    def get(self, partition: int, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, bytes], None, None]:
        """The chunks with their bytes, in the order of their offsets. Raises DamagedSnapshot if one is not there."""
        wanted = sorted({chunk.offset: chunk for chunk in chunks}.values(), key=lambda chunk: chunk.offset)
        consumer = self._consumer("read_uncommitted")
        try:
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
        finally:
            consumer.close()

    def lacking(self, _manifest: Manifest) -> str:
        """Nothing: only an owner drops from the topic, in one transaction with its manifest."""
        return ""

    def sweep(self, partition: int, kept: Sequence[Any]) -> None:
        """Nothing: what is dropped from the topic goes with the manifest that it is dropped for."""

    def _consumer(self, isolation: str) -> Consumer:
        return Consumer(
            {
                **CONSUMER,
                "group.id": "unused",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "queued.max.messages.kbytes": 32 * 1024,
                "check.crcs": isolation == "read_committed",  # chunks carry a better one
                "error_cb": say_errors("snapshots"),
                **self._settings,
            }
        )


def _acquire(room: threading.Semaphore, outlet: Outlet, stopped: Callable[[], bool]) -> None:
    while True:
        if outlet.fault is not None:
            raise KafkaException(outlet.fault)
        if stopped():
            raise TimeoutError("stopped before all chunks were there")
        if room.acquire(timeout=0.1):
            return


def _next(consumer: Consumer) -> Message | None:
    """The next record; None at the end of the log."""
    message = consumer.poll(READ_SECONDS)
    if message is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    error = message.error()
    if error is None:
        return message
    if error.code() == KafkaError._PARTITION_EOF:
        return None
    raise KafkaException(error)


def _readable(found: Iterable[Published]) -> int:
    return sum(published.manifest is not None for published in found)


def _seen(record: Message) -> _Seen:
    key, value = _key(record), record.value()
    return _Seen(offset_of(record), key, value is not None, value if is_manifest(key) else None)


def _key(record: Message) -> str:
    return (record.key() or b"").decode(errors="replace")


def _published(offset: int, data: bytes) -> Published:
    try:
        return Published(offset, decode(data))
    except DamagedSnapshot:
        return Published(offset, None)


def manifest_records(
    manifest: Manifest, gone: Iterable[Manifest], names: Iterable[str]
) -> list[tuple[str, bytes | None]]:
    """What one publication writes: the word of what goes (manifests, and chunks by their names), and itself last."""
    tombstones: list[tuple[str, bytes | None]] = [(chunk_key(manifest.partition, name), None) for name in names]
    tombstones += [(manifest_key(one), None) for one in gone]
    return [*tombstones, (manifest_key(manifest), encode(manifest))]

"""Moves the state of a whole cluster to another: exports it to one place, and makes a new cluster from it.

An export holds, for each partition, what its state is made from: its newest snapshot, the events behind that, and the
commands that these events have not consumed. An import makes a store of the snapshot and the events, begins a new log
whose first snapshot is that store, and sends the commands to it. Older events stay in the old cluster.

    export.json    describes the export; written last: without it there is no export
    chunks/        the snapshots, in chunks
    and the records of events and commands, as `adapters/files/archive.py` keeps them

An import may be given an export that somebody else has made or changed. What it names is matched with patterns, its
numbers and sizes are bounded, and it is read from the named place alone: the places in its manifests are ignored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.files.archive import Archive
from ftjm.adapters.files.folder import ChunkFolder, Folder
from ftjm.adapters.kafka.delete_records import LogTrim
from ftjm.adapters.kafka.errors import LogError, LostPosition
from ftjm.adapters.kafka.offsets import topic_id
from ftjm.adapters.kafka.partition_log import KafkaLog, KafkaWriter
from ftjm.adapters.kafka.patience import QUIET, open_scan
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.kafka.snapshot_topic import manifest_records
from ftjm.adapters.kafka.truncation import resume_position
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.core.state.model import LogPosition
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import DamagedSnapshot, Manifest, why_not_restorable
from ftjm.history.batches import last_batch
from ftjm.ops.export_head import HEAD, Head, Part, read_head
from ftjm.ops.new_log import begin_log
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.snapshots.repository import Repository, open_repository
from ftjm.snapshots.upload import send

DELIVERY_SECONDS = 60.0

Progress = Callable[[str], None]
"""Called with each step as it begins."""


def export(settings: Settings, url: str, progress: Progress) -> Head:
    """Write the state of the whole cluster into an empty place.

    The cluster may keep working: the export has all decisions from before its beginning, and some later events.

    Args:
        settings: The settings of the cluster.
        url: The place: a folder, or a URL that fsspec can write to.
        progress: Called with each step as it begins.

    Raises:
        FtjmError: The place holds an export, a snapshot is damaged, or records are missing.
        Unreachable: Kafka does not answer.
    """
    folder = Folder(url)
    if folder.exists(HEAD):
        raise UsageError("a place without an export", f"an export in {url}", "name another place, or delete the export")
    kafka = QUIET | settings.kafka_settings("export")
    archive, chunks = Archive(url), ChunkFolder(f"{url.rstrip('/')}/chunks")
    with ExitStack() as stack:
        found = stack.enter_context(open_repository(settings))
        events = stack.enter_context(open_scan(settings, "events"))
        commands = stack.enter_context(open_scan(settings, "commands"))
        lanes = stack.enter_context(open_scan(settings, "replies", committed=False)).partitions
        ids = {"events": found.log_id, "commands": topic_id(kafka, commands.topic)}
        partitions = range(events.partitions)
        manifests = [_copied(found, chunks, p, progress) for p in partitions]
        tails, decided = [], []
        for p, one in enumerate(manifests):
            tails.append(_kept(archive, events, ids, p, one.applied_offset + 1 if one else 0))
            closed = last_batch(events, p, tails[-1])
            place = one.commands if one else LogPosition(0, -1)
            decided.append(LogPosition(closed.next_command, closed.command_epoch) if closed else place)
        # Commands last, so that they include what one partition sent to another before its events were read.
        sent = [
            _kept(archive, commands, ids, p, _next_offset(kafka, commands.topic, p, place))
            for p, place in enumerate(decided)
        ]
        progress("the list of all")
        parts = [Part(*part) for part in zip(manifests, tails, sent, strict=True)]
        head = Head(settings.cluster, wall_ms(), ids, lanes, parts)
        folder.write(HEAD, msgspec.json.format(msgspec.json.encode(head)))
    return head


def _copied(found: Repository, chunks: ChunkFolder, partition: int, progress: Progress) -> Manifest | None:
    progress(f"partition {partition}: its snapshot")
    manifest = _newest(found, partition)
    while manifest is not None:
        try:
            chunks.put(partition, ((chunk.name, data) for chunk, data in found.chunks(manifest)))
            break
        except DamagedSnapshot as error:
            tried, manifest = manifest, _newest(found, partition)
            if manifest == tried:  # else it was deleted meanwhile, since there is a newer one
                todo = "run `ftjm snapshot create --full`, and then the same again"
                raise FtjmError(f"a sound snapshot of partition {partition}", str(error), todo) from error
    return manifest


def _newest(found: Repository, partition: int) -> Manifest | None:
    return next((one for one in found.manifests(partition) if not why_not_restorable(one, found.log_id)), None)


def _next_offset(kafka: dict[str, Any], topic: str, partition: int, decided: LogPosition) -> int:
    try:
        return resume_position(kafka, topic, partition, decided).offset
    except LostPosition as error:
        raise FtjmError(f"{topic} of partition {partition} to continue", str(error), "run the same again") from error


def _kept(archive: Archive, scan: Scan, ids: dict[str, str], partition: int, start: int) -> tuple[int, int]:
    kind = scan.topic.rpartition(".")[2]
    begin, end = scan.bounds(partition)
    if begin > start:
        todo = "run `ftjm snapshot create`, and then the same again"
        raise FtjmError(f"{kind} of partition {partition} from offset {start}", f"they begin at {begin}", todo)
    for _ in archive.keep(scan, kind, ids[kind], partition, start, end):
        pass
    return start, end


def import_(settings: Settings, url: str, progress: Progress) -> Head:
    """Fill an empty cluster, which has as many partitions and lanes, from an export. Start its schedulers afterwards.

    An import that was interrupted must be repeated into another empty cluster.

    Args:
        settings: The settings of the cluster.
        url: The place of the export.
        progress: Called with each step as it begins.

    Raises:
        FtjmError: The cluster is not empty, or the export has another version of rows.
        Unreachable: Kafka does not answer.
    """
    head = read_head(url)
    _require_ours(head)
    kafka = QUIET | settings.kafka_settings("import")
    _require_empty(settings, head)
    with open_repository(settings) as found:
        log = KafkaLog(kafka, settings.cluster, found.log_id)
        for partition in range(len(head.parts)):
            with (
                tempfile.TemporaryDirectory(prefix="ftjm-import-") as directory,
                closing(log.fence(partition)) as writer,
            ):
                _Importing(settings, found, writer, url, head, partition, Path(directory)).run(progress)
    return head


def _require_ours(head: Head) -> None:
    """Refuse snapshots of another version of rows: batches of the new log would claim that they are of this version."""
    for partition, part in enumerate(head.parts):
        if part.manifest is not None and (wrong := why_not_restorable(part.manifest, head.ids["events"])):
            todo = "import it with the ftjm that made it"
            raise FtjmError(f"a snapshot of partition {partition} that this ftjm can read", wrong, todo)


def _require_empty(settings: Settings, head: Head) -> None:
    for kind in ("events", "commands", "snapshots"):
        with open_scan(settings, kind, committed=False) as scan:
            if scan.partitions != len(head.parts):
                todo = f"make them so: FTJM_PARTITIONS={len(head.parts)} ftjm topics create, in another --cluster"
                raise FtjmError(f"{scan.topic} with {len(head.parts)} partitions", f"it with {scan.partitions}", todo)
            if used := [p for p in range(scan.partitions) if scan.bounds(p)[1] > 0]:
                todo = "import into a cluster that was never used: another --cluster, with `ftjm topics create`"
                raise FtjmError(f"nothing in {scan.topic}", f"records in its partitions {used}", todo)
    for kind in ("dispatch", "replies"):
        with open_scan(settings, kind, committed=False) as scan:
            if scan.partitions < head.lanes:
                # Rows name lanes. An owner could never send to a lane that does not exist.
                todo = f"make them so: FTJM_LANES={head.lanes} ftjm topics create, in another --cluster"
                raise FtjmError(f"{scan.topic} with {head.lanes} lanes or more", f"it with {scan.partitions}", todo)


class _Importing:
    """Imports one partition."""

    def __init__(
        self,
        settings: Settings,
        found: Repository,
        writer: KafkaWriter,
        url: str,
        head: Head,
        partition: int,
        directory: Path,
    ) -> None:
        self._settings = settings
        self._found = found
        self._writer = writer
        self._url = url
        self._head = head
        self._part = head.parts[partition]
        self._partition = partition
        self._directory = directory
        self._archive = Archive(url)

    def run(self, progress: Progress) -> None:
        """Begin the new log, publish its first snapshot, and send the commands."""
        progress(f"partition {self._partition}: its state")
        with closing(self._store()) as store:
            self._fold(store)
            begin = begin_log(self._made(store, self._found.log_id), self._writer)
            progress(f"partition {self._partition}: its snapshot")
            store.checkpoint(self._directory / "checkpoint")
            sent = send(self._found.place, self._partition, self._directory / "checkpoint")
            self._writer.publish(self._settings.topic("snapshots"), manifest_records(sent.manifest, [], []))
        kafka = QUIET | self._settings.kafka_settings("import")
        # The log begins behind the snapshot, so that no reader takes it for a whole one.
        LogTrim(kafka, self._settings.topic("events"), committed=True).delete_before(self._partition, begin)
        progress(f"partition {self._partition}: its commands")
        self._send_commands()

    def _store(self) -> RocksStore:
        path, manifest = self._directory / "store", self._part.manifest
        if manifest is not None:
            chunks = ChunkFolder(f"{self._url.rstrip('/')}/chunks")
            try:
                with self._found.opened(manifest, path, place=chunks) as store:
                    store.verify()
            except DamagedSnapshot as error:
                todo = "bring it back from a copy, or make the export again"
                raise FtjmError(f"{self._url} as it was written", str(error), todo) from error
        return RocksStore(path)

    def _fold(self, store: RocksStore) -> None:
        """Fold the events behind the snapshot into the store."""
        partition = self._made(store, self._head.ids["events"])
        ids, (start, end) = self._head.ids, self._part.events
        for record in self._archive.records("events", ids["events"], self._partition, start, end):
            partition.fold(EventRecord(record.offset, record.value))

    def _made(self, store: RocksStore, log_id: str) -> Partition:
        policy = Policy(
            self._partition,
            len(self._head.parts),
            retention_ms=int(self._settings.retention_seconds * 1000),
            inline_bytes_max=self._settings.inline_limit_bytes,
        )
        return Partition(policy, store, codec, log_id)

    def _send_commands(self) -> None:
        producer = ConfirmingProducer(QUIET | self._settings.kafka_settings("import"))
        ids, (start, end) = self._head.ids, self._part.commands
        topic = self._settings.topic("commands")
        refused: list[str] = []

        def delivered(error: LogError | None) -> None:
            if error is not None:
                refused.append(str(error))

        try:
            for record in self._archive.records("commands", ids["commands"], self._partition, start, end):
                to: dict[str, Any] = {"partition": self._partition, "key": record.key, "headers": record.headers}
                producer.send(topic, record.value, delivered=delivered, **to)
        finally:
            left = producer.close(DELIVERY_SECONDS)
        if left or refused:
            todo = "import again, into a cluster that was never used"
            found = (
                f"{len(refused)} that Kafka refused ({refused[0]})" if refused else f"{left} that it did not confirm"
            )
            raise FtjmError("all commands in the log", found, todo)

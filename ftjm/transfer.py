"""Moving a whole cluster's state to another: all of it into one place, and a new cluster from it.

An export is what every partition is made from: its newest snapshot, the events behind it, and the commands that these
have not consumed. An import makes stores of the first two, begins new logs with them as snapshots, and sends the
commands again. What happened before stays where it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message

from ftjm.adapters import codec
from ftjm.adapters.archive import Archive
from ftjm.adapters.folder import ChunkFolder, Folder
from ftjm.adapters.kafka import topic_id
from ftjm.adapters.kafka_channel import LostPosition
from ftjm.adapters.kafka_log import KafkaLog, KafkaWriter
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.kafka_snapshots import manifest_records
from ftjm.adapters.kafka_tail import goes_on_at
from ftjm.adapters.kafka_trim import LogTrim
from ftjm.adapters.rocks import RocksStore
from ftjm.clock import wall_ms
from ftjm.config import Settings
from ftjm.core.decide import Policy
from ftjm.core.model import Place
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import DamagedSnapshot, Manifest, foreign
from ftjm.errors import FtjmError, UsageError
from ftjm.jobhistory import open_scan
from ftjm.partitionview import last_batch
from ftjm.past import repository
from ftjm.patience import QUIET
from ftjm.repository import Repository
from ftjm.sending import send

OWNER = "import"
FORMAT = 2
HEAD = "export.json"
"""Written last: a place without it holds no export."""
DELIVERY_SECONDS = 60.0

Progress = Callable[[str], None]
"""Told each step as it begins."""


class Part(msgspec.Struct, frozen=True):
    """One partition of an export."""

    manifest: Manifest | None
    """None if it had no snapshot: the events then begin at the log's beginning."""
    events: tuple[int, int]
    """The offsets that are in the place, from the first to before the second."""
    commands: tuple[int, int]


class Head(msgspec.Struct, frozen=True):
    """What an export holds."""

    cluster: str
    taken_at: int
    """ms."""
    ids: dict[str, str]
    """Of the topics `events` and `commands`."""
    lanes: int
    """Of the topics `dispatch` and `replies`, which rows name."""
    parts: list[Part]
    format: int = FORMAT


def export(settings: Settings, url: str, progress: Progress) -> Head:
    """Write the whole cluster's state into an empty place. It may go on working meanwhile: all is as of one moment or
    a little later, and nothing that was decided by its beginning is missing.

    Raises FtjmError, Unreachable.
    """
    folder = Folder(url)
    if folder.exists(HEAD):
        raise UsageError("a place without an export", f"one in {url}", "name another, or remove what is there")
    kafka = QUIET | settings.kafka_settings("export")
    archive, chunks = Archive(url), ChunkFolder(f"{url.rstrip('/')}/chunks")
    with ExitStack() as stack:
        found = stack.enter_context(repository(settings))
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
            place = one.commands if one else Place(0, -1)
            decided.append(Place(closed.next_command, closed.command_epoch) if closed else place)
        # Commands last: what one partition has sent to another before its events were read is among them.
        sent = [
            _kept(archive, commands, ids, p, _goes_on_at(kafka, commands.topic, p, place))
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
            if manifest == tried:  # else it was dropped meanwhile, for one that is newer
                todo = "run `ftjm snapshot create --full`, and then the same again"
                raise FtjmError(f"a sound snapshot of partition {partition}", str(error), todo) from error
    return manifest


def _newest(found: Repository, partition: int) -> Manifest | None:
    return next((one for one in found.manifests(partition) if not foreign(one, found.log_id)), None)


def _goes_on_at(kafka: dict[str, Any], topic: str, partition: int, decided: Place) -> int:
    try:
        return goes_on_at(kafka, topic, partition, decided).offset
    except LostPosition as error:
        raise FtjmError(f"{topic} of partition {partition} to go on", str(error), "run the same again") from error


def _kept(archive: Archive, scan: Scan, ids: dict[str, str], partition: int, start: int) -> tuple[int, int]:
    kind = scan.topic.rpartition(".")[2]
    begin, end = scan.bounds(partition)
    if begin > start:
        todo = "run `ftjm snapshot create`, and then the same again"
        raise FtjmError(f"{kind} of partition {partition} from offset {start}", f"they begin at {begin}", todo)
    for _ in archive.keep(scan, kind, ids[kind], partition, start, end):
        pass
    return start, end


def read_head(url: str) -> Head:
    """What the place holds. Raises FtjmError."""
    try:
        head = msgspec.json.decode(Folder(url).read(HEAD), type=Head)
    except FileNotFoundError as error:
        raise FtjmError(
            f"an export in {url}", f"no {HEAD}", "name the place that `ftjm snapshot export` wrote"
        ) from error
    except msgspec.MsgspecError as error:
        raise FtjmError(f"an export in {url}", str(error), "make it again") from error
    if head.format != FORMAT:
        raise FtjmError(f"an export of format {FORMAT}", f"one of {head.format}", "use the ftjm that made it")
    return head


def import_(settings: Settings, url: str, progress: Progress) -> Head:
    """Make an empty cluster, of as many partitions and lanes, from an export. Start its schedulers afterwards.

    Raises FtjmError where it is not empty, or the export is of another version of rows; one that was broken off must be
    made anew as well. Unreachable.
    """
    head = read_head(url)
    _require_ours(head)
    kafka = QUIET | settings.kafka_settings("import")
    _require_empty(settings, head)
    with repository(settings) as found:
        log = KafkaLog(kafka, settings.cluster, found.log_id)
        for partition in range(len(head.parts)):
            with (
                tempfile.TemporaryDirectory(prefix="ftjm-import-") as directory,
                closing(log.fence(partition)) as writer,
            ):
                _Importing(settings, found, writer, url, head, partition, Path(directory)).run(progress)
    return head


def _require_ours(head: Head) -> None:
    """Batches of the new log are made of the rows of the snapshots, and say that they are of this program's version."""
    for partition, part in enumerate(head.parts):
        if part.manifest is not None and (wrong := foreign(part.manifest, head.ids["events"])):
            todo = "import it with the ftjm that made it"
            raise FtjmError(f"a snapshot of partition {partition} that this ftjm can read", wrong, todo)


def _require_empty(settings: Settings, head: Head) -> None:
    for kind in ("events", "commands", "snapshots"):
        with open_scan(settings, kind, committed=False) as scan:
            if scan.partitions != len(head.parts):
                todo = f"make them so: FTJM_PARTITIONS={len(head.parts)} ftjm topics create, in another --cluster"
                raise FtjmError(f"{scan.topic} with {len(head.parts)} partitions", f"it with {scan.partitions}", todo)
            if used := [p for p in range(scan.partitions) if scan.bounds(p)[1] > 0]:
                todo = "import into a cluster that nobody has used: another --cluster, with `ftjm topics create`"
                raise FtjmError(f"nothing in {scan.topic}", f"records in its partitions {used}", todo)
    for kind in ("dispatch", "replies"):
        with open_scan(settings, kind, committed=False) as scan:
            if scan.partitions < head.lanes:
                # What an owner has to send to a lane that is not there, it can never send.
                todo = f"make them so: FTJM_LANES={head.lanes} ftjm topics create, in another --cluster"
                raise FtjmError(f"{scan.topic} with {head.lanes} lanes or more", f"it with {scan.partitions}", todo)


class _Importing:
    """One partition."""

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
        progress(f"partition {self._partition}: its state")
        with closing(self._store()) as store:
            self._fold(store)
            begin = self._begin(store)
            progress(f"partition {self._partition}: its snapshot")
            store.checkpoint(self._directory / "checkpoint")
            sent = send(self._found.place, self._partition, self._directory / "checkpoint")
            self._writer.publish(self._settings.topic("snapshots"), manifest_records(sent.manifest, [], []))
        kafka = QUIET | self._settings.kafka_settings("import")
        # The log begins where the snapshot stands, so that nobody takes it for one that is whole.
        LogTrim(kafka, self._settings.topic("events"), committed=True).delete_before(self._partition, begin)
        progress(f"partition {self._partition}: its commands")
        self._send_commands()

    def _store(self) -> RocksStore:
        path, manifest = self._directory / "store", self._part.manifest
        if manifest is not None:
            place = f"{self._url.rstrip('/')}/chunks"
            try:
                with self._found.opened(msgspec.structs.replace(manifest, place=place), path) as store:
                    store.verify()
            except DamagedSnapshot as error:
                todo = "bring it back from a copy, or make the export again"
                raise FtjmError(f"{self._url} as it was written", str(error), todo) from error
        return RocksStore(path)

    def _fold(self, store: RocksStore) -> None:
        """The events behind the snapshot."""
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

    def _begin(self, store: RocksStore) -> int:
        """Begin the new log with batches that hold nothing but their place; the offset of the last."""
        partition = self._made(store, self._found.log_id)
        # Of the new log nothing was applied, and its commands begin with those that were not consumed.
        partition.position.applied_offset = -1
        partition.position.next_command, partition.position.command_epoch = 0, -1
        for _ in range(2):
            # The second is what the log begins with once the first is trimmed.
            partition.lead(self._writer, OWNER)
            partition.work(partition.position.now)
            partition.reopen()
        return partition.position.applied_offset

    def _send_commands(self) -> None:
        outlet = Outlet(QUIET | self._settings.kafka_settings("import"))
        ids, (start, end) = self._head.ids, self._part.commands
        topic = self._settings.topic("commands")
        refused: list[str] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                refused.append(error.str())

        try:
            for record in self._archive.records("commands", ids["commands"], self._partition, start, end):
                to: dict[str, Any] = {"partition": self._partition, "key": record.key, "headers": record.headers}
                outlet.send(topic, record.value, delivered=delivered, **to)
        finally:
            left = outlet.close(DELIVERY_SECONDS)
        if left or refused:
            todo = "import again, into a cluster that nobody has used"
            found = f"{len(refused)} that Kafka refused ({refused[0]})" if refused else f"{left} that it has not taken"
            raise FtjmError("all commands in the log", found, todo)

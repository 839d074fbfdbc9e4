"""What is taken, trimmed and restored is sound: a damaged block must not outlive the log that could mend it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from ftjm.adapters.files import archive
from ftjm.adapters.files.folder import ChunkFolder
from ftjm.adapters.kafka.errors import LogUnanswered, LostPosition
from ftjm.adapters.records import Record
from ftjm.adapters.rocksdb import DamagedStore, RocksStore
from ftjm.core.state.model import STATE_VERSION, LogPosition, Position
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import POSITION_KEY
from ftjm.engine.snapshot import Manifest, Published, manifest_key, manifest_of
from ftjm.runtime import config
from ftjm.scheduler import log_trimmer
from ftjm.scheduler.log_trimmer import Trimmer
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.snapshotter import SnapshotState, Snapshotter
from ftjm.scheduler.status import SchedulerStatus
from ftjm.snapshots.repository import Repository
from ftjm.snapshots.upload import send

LOG = "log"
WAIT_SECONDS = 20.0
NOW_MS = 10_000_000
AUDIT_MS = 60_000


def store_at(path: Path, batch: int) -> RocksStore:
    store, draw = RocksStore(path), Random(batch)
    position = Position(log_id=LOG, applied_offset=batch * 3, batch_no=batch, owner_epoch=1, state_hash=bytes(16))
    store.write([(b"j%06d" % number, draw.randbytes(100)) for number in range(2_000)])
    store.write([(POSITION_KEY, encode(position))])
    store.flush()
    return store


def break_a_block(path: Path) -> None:
    [file] = path.glob("*.sst")
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 16] = bytes(16)
    file.write_bytes(data)


class Taking:
    """The snapshotter, and the snapshots of one partition."""

    def __init__(self, repository: Any, store: RocksStore, scratch: Path) -> None:
        self.trimmed: list[list[Manifest]] = []
        trimmer: Any = SimpleNamespace(trim=lambda _partition, kept, *_: self.trimmed.append(kept))
        metrics = SchedulerMetrics(CollectorRegistry(), SchedulerStatus())
        self.snapshotter = Snapshotter(repository, scratch, metrics, trimmer, threading.Event())
        self.state = SnapshotState(0, store)

    def order(self) -> None:
        self.snapshotter.order(self.state, NOW_MS)
        self._wait()

    def clean_up(self) -> None:
        self.snapshotter.clean_up(self.state, NOW_MS)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while self.state.busy:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture
def taking(tmp_path: Path) -> Iterator[Callable[[Any, RocksStore], Taking]]:
    made: list[Taking] = []

    def make(repository: Any, store: RocksStore) -> Taking:
        made.append(Taking(repository, store, tmp_path / "scratch"))
        return made[-1]

    yield make
    for one in made:
        one.snapshotter.close()
        one.state.store.close()


def test_a_store_with_a_damaged_block_is_not_taken_but_made_anew(tmp_path: Path, taking: Any) -> None:
    store_at(tmp_path / "store", 1).close()
    break_a_block(tmp_path / "store")
    place = ChunkFolder(str(tmp_path / "chunks"))
    repository = SimpleNamespace(place=place, find=lambda _partition: ([], []))
    taken = taking(repository, RocksStore(tmp_path / "store"))
    taken.state.kept = []
    taken.order()
    assert isinstance(taken.state.damage, DamagedStore)
    assert taken.state.draft is None
    assert not (tmp_path / "chunks").exists()


def test_one_that_could_not_be_restored_goes_with_the_next_and_the_sound_one_stays(tmp_path: Path, taking: Any) -> None:
    url = str(tmp_path / "chunks")
    older, newest = two_snapshots(tmp_path, url)
    (damaged, *_) = {c.name for c in newest.chunks} - {c.name for c in older.chunks}
    (tmp_path / "chunks" / "cluster-log" / "0" / damaged).write_bytes(b"x")
    repository = found(url, [newest, older])
    assert repository.restore(0, tmp_path / "made") == older
    taken = taking(repository, store_at(tmp_path / "3", 3))
    taken.order()
    assert (taken.state.kept, taken.state.unusable) == ([older], [newest])
    taken.order()
    draft = taken.state.draft
    assert draft is not None
    assert draft.manifest.previous == 1, "the offset of the one that is left"
    gone = [key for key, value in draft.records if value is None]
    assert gone == [manifest_key(newest)]
    taken.snapshotter.note_published(taken.state, draft, 2)
    assert (taken.state.kept, taken.state.unusable) == ([draft.manifest, older], [])


def test_of_logs_nothing_goes_for_a_snapshot_of_which_a_chunk_is_gone(tmp_path: Path, taking: Any) -> None:
    url = str(tmp_path / "chunks")
    older, newest = two_snapshots(tmp_path, url)
    taken = taking(found(url, [newest, older]), store_at(tmp_path / "3", 3))
    taken.order()
    taken.clean_up()
    assert taken.trimmed == [[newest, older]]
    (lost, *_) = {c.name for c in older.chunks} - {c.name for c in newest.chunks}
    (tmp_path / "chunks" / "cluster-log" / "0" / lost).unlink()
    taken.clean_up()
    assert len(taken.trimmed) == 1
    taken.order()
    assert (taken.state.kept, taken.state.unusable) == ([newest], [older])


def test_logs_are_trimmed_although_the_folder_cannot_be_swept(
    tmp_path: Path, taking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "chunks")
    older, newest = two_snapshots(tmp_path, url)
    taken = taking(found(url, [newest, older]), store_at(tmp_path / "3", 3))
    taken.order()

    def denied(*_: object) -> None:
        raise PermissionError("somebody else's file")

    monkeypatch.setattr(ChunkFolder, "sweep", denied)
    taken.clean_up()
    assert taken.trimmed == [[newest, older]]
    assert taken.state.failed_at > 0


def test_a_draft_is_handed_over_only_where_its_topic_has_a_leader(tmp_path: Path, taking: Any) -> None:
    repository = found(str(tmp_path / "chunks"), [])
    taken = taking(repository, store_at(tmp_path / "1", 1))
    taken.order()

    def away(partition: int) -> int:
        raise LogUnanswered(f"no leader of partition {partition}")

    repository.end = away  # type: ignore[method-assign]
    taken.order()
    assert taken.state.draft is None
    assert taken.state.failed_at > 0
    repository.end = lambda partition: 0  # type: ignore[method-assign]
    taken.order()
    taken.order()
    assert taken.state.draft is not None


def test_what_a_process_that_was_killed_had_taken_goes(tmp_path: Path, taking: Any) -> None:
    (tmp_path / "scratch" / "7").mkdir(parents=True)
    taking(found(str(tmp_path / "chunks"), []), store_at(tmp_path / "1", 1))
    assert not (tmp_path / "scratch").exists()


def two_snapshots(tmp_path: Path, url: str) -> tuple[Manifest, Manifest]:
    manifests = []
    for batch in (1, 2):
        store_at(tmp_path / f"{batch}", batch).close()
        manifests.append(send(ChunkFolder(f"{url}/cluster-{LOG}"), 0, tmp_path / f"{batch}").manifest)
    return manifests[0], manifests[1]


def test_a_snapshot_with_a_damaged_block_is_not_restored_but_the_one_before_it(tmp_path: Path) -> None:
    url = str(tmp_path / "chunks")
    place = ChunkFolder(f"{url}/cluster-{LOG}")
    manifests = []
    for batch in (1, 2):
        store_at(tmp_path / f"{batch}", batch).close()
        manifests.append(send(place, 0, tmp_path / f"{batch}").manifest)
    # As one that was taken without being read.
    break_a_block(tmp_path / "2")
    unread = pytest.MonkeyPatch()
    unread.setattr(RocksStore, "verify", lambda _: None)
    manifests.append(msgspec.structs.replace(send(place, 0, tmp_path / "2").manifest, taken_at=1))
    unread.undo()
    repository = found(url, [manifests[2], manifests[0]])
    made = repository.restore(0, tmp_path / "made")
    assert made == manifests[0]
    assert repository.damaged == 1


def test_of_another_log_or_version_nothing_is_restored(tmp_path: Path) -> None:
    url = str(tmp_path / "chunks")
    store_at(tmp_path / "store", 1).close()
    sound = send(ChunkFolder(f"{url}/cluster-{LOG}"), 0, tmp_path / "store").manifest
    replace = msgspec.structs.replace
    others = [replace(sound, log_id="other"), replace(sound, state_version=STATE_VERSION + 1)]
    assert found(url, others).restore(0, tmp_path / "made") is None
    assert found(url, [others[0], sound]).restore(0, tmp_path / "made") == sound


def test_a_snapshot_that_is_dropped_underneath_gives_way_to_the_newest(tmp_path: Path) -> None:
    url = str(tmp_path / "chunks")
    older, newest = two_snapshots(tmp_path, url)
    (lost, *_) = {c.name for c in older.chunks} - {c.name for c in newest.chunks}
    (tmp_path / "chunks" / f"cluster-{LOG}" / "0" / lost).unlink()
    repository = found(url, [newest])
    looks = [[Published(0, older)], [Published(1, newest)]]
    repository.find = lambda partition: (looks.pop(0), [])  # type: ignore[method-assign]
    assert repository.restore(0, tmp_path / "made") == newest
    assert repository.damaged == 0
    assert repository.usable(older)


def found(url: str, manifests: list[Manifest]) -> Repository:
    made = Repository({}, "cluster", LOG, url)
    published = [Published(n, m) for n, m in enumerate(manifests)]
    made.find = lambda partition: (published, [])  # type: ignore[method-assign]
    made.end = lambda partition: 0  # type: ignore[method-assign]
    return made


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Offsets that logs were trimmed to."""
    offsets: list[int] = []

    class Log:
        topic = "topic"

        def __init__(self, *_: object, **__: object) -> None: ...

        def range(self, _partition: int, before_ms: int) -> tuple[int, int]:
            return 0, 1_000 if before_ms == NOW_MS - AUDIT_MS else 0

        @contextmanager
        def scan(self) -> Iterator[Any]:
            yield SimpleNamespace(topic=self.topic, read=lambda *_, **__: (event(n) for n in range(20)))

        def delete_before(self, _partition: int, offset: int) -> None:
            offsets.append(offset)

    monkeypatch.setattr(log_trimmer, "LogTrim", Log)
    return offsets


def event(offset: int) -> Record:
    return Record(0, offset, b"", b"x" * 100, 0, [])


Kept = Callable[[Manifest], list[Manifest]]


@pytest.mark.parametrize(
    ("kept", "end"),
    [
        (lambda one: [one, msgspec.structs.replace(one, applied_offset=20)], [20, 6]),
        (lambda one: [one, msgspec.structs.replace(one, applied_offset=900, log_id="other")], []),
        (lambda one: [one, msgspec.structs.replace(one, applied_offset=20, state_version=STATE_VERSION + 1)], []),
        (
            lambda one: [
                one,
                msgspec.structs.replace(one, applied_offset=20),
                msgspec.structs.replace(one, applied_offset=9, next_command=4, state_version=STATE_VERSION - 1),
            ],
            [9, 3],
        ),
        (lambda one: [one], []),
    ],
)
def test_only_two_usable_snapshots_let_a_log_be_trimmed(deleted: list[int], kept: Kept, end: list[int]) -> None:
    at = Position(log_id=LOG, applied_offset=30, next_command=7, batch_no=10, owner_epoch=1, state_hash=bytes(16))
    trimmer = Trimmer(config.load(audit_retention_seconds=60), {}, {"events": LOG, "commands": "c"})
    trimmer.trim(0, kept(manifest_of(at, 0, 1, "", -1, [])), NOW_MS)
    assert deleted == end


@pytest.mark.parametrize(("goes_on", "end"), [([40, 25], [20, 24]), ([3, 25], [20, 2]), (None, [20])])
def test_commands_are_trimmed_to_where_they_go_on(
    deleted: list[int], monkeypatch: pytest.MonkeyPatch, goes_on: list[int] | None, end: list[int]
) -> None:
    """A log that has lost its tail since the snapshots has new ones before their places."""

    def found(*_: object) -> LogPosition:
        if goes_on is None:
            raise LostPosition("it begins behind that")
        return LogPosition(goes_on.pop(0), 1)

    monkeypatch.setattr(log_trimmer, "resume_position", found)
    at = Position(log_id=LOG, applied_offset=20, next_command=40, batch_no=10, owner_epoch=1, state_hash=bytes(16))
    one = manifest_of(at, 0, 1, "", -1, [])
    trimmer = Trimmer(config.load(audit_retention_seconds=60), {}, {"events": LOG, "commands": "c"})
    trimmer.trim(0, [one, one], NOW_MS)
    assert deleted == end


def test_what_is_archived_goes_a_file_at_a_time_and_no_more_once_it_is_over(
    deleted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "FILE_BYTES", 500)
    at = Position(log_id=LOG, applied_offset=20, next_command=0, batch_no=10, owner_epoch=1, state_hash=bytes(16))
    kept = [manifest_of(at, 0, 1, "", -1, [])] * 2
    settings = config.load(audit_retention_seconds=60, archive=str(tmp_path))
    trimmer = Trimmer(settings, {}, {"events": LOG, "commands": "c"})
    trimmer.trim(0, kept, NOW_MS, lambda: len(deleted) == 2)
    assert deleted == [5, 10]
    deleted.clear()
    trimmer.trim(0, kept, NOW_MS)
    assert deleted[-1] == 20

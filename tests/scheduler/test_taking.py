"""What is taken, trimmed and restored is sound: a damaged block must not outlive the log that could mend it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from ftjm import config
from ftjm.adapters.folder import ChunkFolder
from ftjm.adapters.rocks import DamagedStore, RocksStore
from ftjm.core.keys import POSITION_KEY
from ftjm.core.model import STATE_VERSION, Position
from ftjm.core.rows import encode
from ftjm.engine.snapshot import Manifest, Published, about
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.repository import Repository
from ftjm.scheduler import trimming
from ftjm.scheduler.inside import Inside
from ftjm.scheduler.snapshots import Shelf, Snapshotter
from ftjm.scheduler.trimming import Trimmer
from ftjm.sending import send

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


def test_a_store_with_a_damaged_block_is_not_taken_but_made_anew(tmp_path: Path) -> None:
    store_at(tmp_path / "store", 1).close()
    break_a_block(tmp_path / "store")
    store = RocksStore(tmp_path / "store")
    place, stop = ChunkFolder(str(tmp_path / "chunks")), threading.Event()
    repository: Any = SimpleNamespace(place=place, find=lambda _partition: ([], []))
    nothing: Any = None
    metrics = SchedulerMetrics(CollectorRegistry(), Inside())
    snapshotter = Snapshotter(repository, tmp_path / "scratch", metrics, nothing, stop)
    shelf = Shelf(0, store)
    try:
        shelf.kept = []
        snapshotter.order(shelf, 1)
    finally:
        snapshotter.close()
        store.close()
    assert isinstance(shelf.damage, DamagedStore)
    assert shelf.draft is None
    assert not (tmp_path / "chunks").exists()


def test_a_snapshot_with_a_damaged_block_is_not_restored_but_the_one_before_it(tmp_path: Path) -> None:
    url = str(tmp_path / "chunks")
    place = ChunkFolder(url)
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
    sound = send(ChunkFolder(url), 0, tmp_path / "store").manifest
    replace = msgspec.structs.replace
    others = [replace(sound, log_id="other"), replace(sound, state_version=STATE_VERSION + 1)]
    assert found(url, others).restore(0, tmp_path / "made") is None
    assert found(url, [others[0], sound]).restore(0, tmp_path / "made") == sound


def found(url: str, manifests: list[Manifest]) -> Repository:
    made = Repository({}, "cluster", LOG, url)
    published = [Published(n, m) for n, m in enumerate(manifests)]
    made.find = lambda partition: (published, [])  # type: ignore[method-assign]
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

        def delete_before(self, _partition: int, offset: int) -> None:
            offsets.append(offset)

    monkeypatch.setattr(trimming, "LogTrim", Log)
    return offsets


Kept = Callable[[Manifest], list[Manifest]]


@pytest.mark.parametrize(
    ("kept", "end"),
    [
        (lambda one: [one, msgspec.structs.replace(one, applied_offset=20)], [20, 7]),
        (lambda one: [one, msgspec.structs.replace(one, applied_offset=900, log_id="other")], []),
        (lambda one: [one, msgspec.structs.replace(one, applied_offset=20, state_version=STATE_VERSION - 1)], []),
        (lambda one: [one], []),
    ],
)
def test_only_two_usable_snapshots_let_a_log_be_trimmed(deleted: list[int], kept: Kept, end: list[int]) -> None:
    at = Position(log_id=LOG, applied_offset=30, next_command=7, batch_no=10, owner_epoch=1, state_hash=bytes(16))
    trimmer = Trimmer(config.load(audit_retention_seconds=60), {}, {"events": LOG, "commands": "c"})
    trimmer.trim(0, kept(about(at, 0, 1, "", -1, [])), NOW_MS)
    assert deleted == end

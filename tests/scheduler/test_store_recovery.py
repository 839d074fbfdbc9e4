"""A store or a snapshot of an earlier version of the rows is migrated where it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from ftjm.adapters.avro import codec
from ftjm.adapters.files.folder import ChunkFolder
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.migrations import MIGRATING, migrate_store
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.tables import load_position
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import Published
from ftjm.history import store_rows
from ftjm.history.replay import difference
from ftjm.scheduler.store_recovery import open_store
from ftjm.snapshots.repository import Repository
from ftjm.snapshots.upload import send
from tests.core.consistency import all_rows
from tests.core.test_migrations import Golden

LOGGER: Any = structlog.get_logger()


def progress(_done: int, _all: int) -> None:
    """Nothing waits for it."""


def store_of_version_3(path: Path) -> None:
    with closing(RocksStore(path)) as store:
        store.write(list(Golden().rows.items()))


def context(repository: Any = None) -> Any:
    golden = Golden()

    def events(_partition: int, start: int, end: int) -> Iterator[EventRecord]:
        return (record for record in golden.log if start <= record.offset < end)

    log = SimpleNamespace(log_id=golden.log_id, events=events, begin=lambda _partition: 0)
    metrics = SimpleNamespace(restore_seconds=SimpleNamespace(observe=lambda _seconds: None))
    return SimpleNamespace(log=log, codec=codec, repository=repository, metrics=metrics)


def repository_of_version_3(path: Path) -> Repository:
    """A snapshot that a program of version 3 took."""
    store_of_version_3(path / "taken")
    found = Repository({}, "cluster", Golden().log_id, str(path / "chunks"))
    place: Any = found.place
    assert isinstance(place, ChunkFolder)
    manifest = send(place, 0, path / "taken").manifest
    assert manifest.state_version == 3
    found.find = lambda partition: ([Published(0, manifest)], [])  # type: ignore[method-assign]
    return found


def test_a_store_of_version_3_opens_with_rows_of_this_version(tmp_path: Path) -> None:
    store_of_version_3(tmp_path / "store")
    with closing(open_store(context(), 0, tmp_path / "store", LOGGER, progress)) as store:
        assert all_rows(store) == all_rows(Golden().folded().store)


def test_a_store_whose_migration_was_broken_off_is_migrated_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_of_version_3(tmp_path / "store")
    monkeypatch.setattr("ftjm.core.state.migrations.WRITE_ROWS_MAX", 2)
    with closing(RocksStore(tmp_path / "store")) as store:
        write, writes = store.write, iter(range(3))

        def dies(changes: Any) -> None:
            if next(writes, None) is None:
                raise KeyboardInterrupt
            write(changes)

        monkeypatch.setattr(store, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            migrate_store(store)
        assert load_position(store).state_version == MIGRATING
    with closing(open_store(context(), 0, tmp_path / "store", LOGGER, progress)) as store:
        assert all_rows(store) == all_rows(Golden().folded().store)


def test_a_snapshot_of_version_3_is_restored_with_rows_of_this_version(tmp_path: Path) -> None:
    found = repository_of_version_3(tmp_path)
    with closing(open_store(context(found), 0, tmp_path / "store", LOGGER, progress)) as store:
        assert all_rows(store) == all_rows(Golden().folded().store)
    assert found.damaged == 0


def test_a_store_of_version_3_is_shown_and_verified_before_it_is_migrated(tmp_path: Path) -> None:
    store_of_version_3(tmp_path / "store")
    with closing(store_rows.open_read_only(tmp_path / "store")) as store:
        assert difference(Golden().folded().store, store) is None
        (position,) = store_rows.rows(store, "position")
        assert position.value.state_version == STATE_VERSION
        shown = [row.value for row in store_rows.rows(store, "outbox")]
        assert shown == [message for _, message in Golden().folded().state.outbox(0)]

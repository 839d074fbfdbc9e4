"""What a store costs: memory within the size of its contents, and a number of steps that grows with its open scans."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any
from weakref import ref

import pytest

from ftjm.adapters import rocksdb
from ftjm.adapters.rocksdb import RocksStore

KEYS = 10_000


def test_cached_blocks_of_deleted_files_are_dropped(tmp_path: Path) -> None:
    """If the blocks were kept, they would take six times as much here, and in the end the whole cache."""
    before, draw = rocksdb.CACHE.get_usage(), Random(1)
    stores = [RocksStore(tmp_path / name) for name in "ab"]
    for _ in range(40):
        for store in stores:
            store.write([(b"%06d" % draw.randrange(KEYS), draw.randbytes(200)) for _ in range(400)])
            store.flush()
            for _ in range(200):
                store.get(b"%06d" % draw.randrange(KEYS))
    held = sum(int(store._db.property_value("rocksdb.total-sst-files-size") or 0) for store in stores)
    used = rocksdb.CACHE.get_usage() - before
    for store in stores:
        store.close()
    assert 0 < used < 1.5 * held, "both stores share one cache"


def test_a_row_that_is_missing_is_not_looked_for_in_the_files(tmp_path: Path) -> None:
    """Each new job is such a row. Only filters are read for it, and not a block of each file."""
    draw, store = Random(1), RocksStore(tmp_path / "a")
    store.write([(b"%06d" % key, draw.randbytes(200)) for key in range(2 * KEYS)])
    store.flush()
    held = int(store._db.property_value("rocksdb.total-sst-files-size") or 0)
    before = rocksdb.CACHE.get_usage()
    assert not any(store.get(b"%06d-" % key) for key in range(2 * KEYS))
    missing = rocksdb.CACHE.get_usage() - before
    assert all(store.get(b"%06d" % key) for key in range(2 * KEYS))
    present = rocksdb.CACHE.get_usage() - before
    store.close()
    assert missing < held / 4 < held / 2 < present


def test_scans_that_are_open_are_looked_at_a_bounded_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Placement keeps a scan open for each queue with jobs that wait: thousands of them."""
    looks = 0

    class CountedRef(ref[Any]):
        def __call__(self) -> Any:
            nonlocal looks
            looks += 1
            return super().__call__()

    monkeypatch.setattr(rocksdb, "ref", CountedRef)
    store = RocksStore(tmp_path / "a")
    scans = [store.scan(b"a", b"z") for _ in range(20 * rocksdb.SCANS_MAX)]
    assert looks <= 2 * len(scans)
    store.close()

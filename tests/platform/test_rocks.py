"""What the stores of a process hold in memory is bounded by what they hold."""

from __future__ import annotations

from pathlib import Path
from random import Random

from ftjm.adapters import rocks
from ftjm.adapters.rocks import RocksStore

KEYS = 10_000


def test_blocks_of_files_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    """Kept, they would be six times as much here, and so much as the cache takes in the end."""
    before, draw = rocks.CACHE.get_usage(), Random(1)
    stores = [RocksStore(tmp_path / name) for name in "ab"]
    for _ in range(40):
        for store in stores:
            store.write([(b"%06d" % draw.randrange(KEYS), draw.randbytes(200)) for _ in range(400)])
            store.flush()
            for _ in range(200):
                store.get(b"%06d" % draw.randrange(KEYS))
    held = sum(int(store._db.property_value("rocksdb.total-sst-files-size") or 0) for store in stores)
    used = rocks.CACHE.get_usage() - before
    for store in stores:
        store.close()
    assert 0 < used < 1.5 * held, "one cache for both"

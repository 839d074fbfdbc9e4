"""The log in memory and both stores keep the contracts. Further tests check the promises of one of them only."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from ftjm.adapters import rocksdb
from ftjm.adapters.memory import MemoryLog, MemoryStore
from ftjm.adapters.rocksdb import DamagedStore, RocksStore
from ftjm.engine.ports import Store
from ftjm.runtime.errors import FtjmError
from tests.contracts.log_contract import Log, LogContract, batch
from tests.contracts.store_contract import StoreContract


class TestMemoryLog(LogContract):
    @pytest.fixture
    def make_log(self) -> Callable[[], Log]:
        return lambda: MemoryLog(2)

    def test_a_transaction_that_lost_its_marker_is_lost_as_a_whole(self) -> None:
        log = MemoryLog(1)
        writer = log.fence(0)
        kept = writer.commit(batch("a", "b"))
        lost = writer.commit(batch("c", "d"))
        log.truncate(0, lost)
        assert self.values(log) == ["a", "b"]
        log.truncate(0, kept + 2)
        assert self.values(log) == ["a", "b"]
        log.fence(0).commit(batch("e"))
        assert self.values(log) == ["a", "b", "e"]
        log.truncate(0, kept)
        assert self.values(log) == []


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make_store(self) -> Callable[[], Store]:
        return MemoryStore


class TestRocksStore(StoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> Iterator[Callable[[], Store]]:
        made: list[RocksStore] = []

        def make() -> Store:
            made.append(RocksStore(tmp_path / f"store-{len(made)}"))
            return made[-1]

        yield make
        for store in made:
            store.close()

    def test_a_store_on_a_full_disk_closes_its_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It must not block the thread of the partition for ever.

        `capsys` is needed because pytest would write the log to a file, which cannot grow either.
        """
        path = tmp_path / "store"
        store = RocksStore(path)
        store.write([(b"a", b"flushed")])
        store.flush()
        store.write([(b"b", b"not flushed")])
        _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(Exception, match="File too large"):
                store.flush()
            store.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        store = RocksStore(path)
        assert (store.get(b"a"), store.get(b"b")) == (b"flushed", None)
        store.close()

    def test_rows_survive_a_close(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.close()
        store = RocksStore(tmp_path / "store")
        assert list(store.scan(b"", b"\xff")) == [(b"a", b"1")]
        store.close()

    def test_rows_survive_a_hard_exit_after_a_while(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rocksdb, "FLUSH_SECONDS", 0.0)
        store = RocksStore(tmp_path / "store")
        deadline = time.monotonic() + 60
        found = None
        while found is None:
            assert time.monotonic() < deadline, "nothing was flushed"
            store.write([(b"a", b"1")])
            # The store has no log of its own: rows that are in memory only are lost.
            flushed = RocksStore(tmp_path / "store", read_only=True)
            found = flushed.get(b"a")
            flushed.close()
        store.close()

    def test_cleared_rows_never_return(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.flush()
        store.clear()
        store.close()
        store = RocksStore(tmp_path / "store")
        assert store.get(b"a") is None
        store.close()

    def test_a_store_is_cleared_and_closed_during_a_scan(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1"), (b"b", b"2")])
        left = store.scan(b"", b"\xff")
        next(left)
        store.clear()
        store.write([(b"c", b"3")])
        other = store.scan(b"", b"\xff")
        next(other)
        store.close()
        RocksStore(tmp_path / "store").close()

    def test_only_one_process_at_a_time_opens_a_store(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        with pytest.raises(FtjmError, match="store"):
            RocksStore(tmp_path / "store")
        store.close()

    def test_a_store_can_be_read_while_its_owner_writes(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.flush()
        reader = RocksStore(tmp_path / "store", read_only=True)
        assert reader.get(b"a") == b"1"
        reader.close()
        store.close()

    def test_a_hard_exit_leaves_a_prefix_of_whole_batches(self, tmp_path: Path) -> None:
        """The store has no log of its own: flushed batches are there, and each later one whole or not at all."""
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from ftjm.adapters.rocksdb import RocksStore\n"
            "store = RocksStore(Path(sys.argv[1]))\n"
            "for i in range(300):\n"
            "    store.write([(b'j%d' % j, b'%d' % i) for j in range(20)] + [(b'p', b'%d' % i)])\n"
            "    if i == 200:\n"
            "        store.flush()\n"
            "os._exit(9)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=False, timeout=60)
        assert done.returncode == 9
        store = RocksStore(tmp_path / "store")
        position = store.get(b"p")
        assert position is not None
        assert int(position) >= 200
        assert {value for _, value in store.scan(b"j", b"k")} == {position}
        store.close()

    def test_opening_a_store_with_damaged_files_raises_damaged_store(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.close()
        for manifest in (tmp_path / "store").glob("MANIFEST-*"):
            manifest.write_bytes(b"garbage" * 100)
        with pytest.raises(DamagedStore):
            RocksStore(tmp_path / "store")

    @pytest.mark.parametrize("missing", ["CURRENT", "MANIFEST-*", "*.sst", "OPTIONS-*", "IDENTITY"])
    def test_a_store_with_a_missing_file_opens_or_is_reported_as_damaged(self, tmp_path: Path, missing: str) -> None:
        """With any other error the owner would try to open the store for ever."""
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.close()
        for file in (tmp_path / "store").glob(missing):
            file.unlink()
        try:
            store = RocksStore(tmp_path / "store")
        except DamagedStore:
            return
        # Without `CURRENT` the store is empty, and the owner folds the log from its beginning.
        assert store.get(b"a") in ({None} if missing == "CURRENT" else {b"1"})
        store.close()

    def test_a_file_missing_from_an_open_store_is_found_by_a_checkpoint(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.flush()
        [file] = (tmp_path / "store").glob("*.sst")
        file.unlink()
        with pytest.raises(DamagedStore):
            store.checkpoint(tmp_path / "checkpoint")
        store.close()

    def test_a_damaged_block_is_an_error_and_not_the_end_of_a_scan(self, tmp_path: Path) -> None:
        """If a scan left out rows silently, their jobs would never run."""
        path = tmp_path / "store"
        store = RocksStore(path)
        draw = Random(1)
        store.write([(b"%06d" % number, draw.randbytes(100)) for number in range(5_000)])
        store.close()
        [file] = path.glob("*.sst")
        data = bytearray(file.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 16] = bytes(16)
        file.write_bytes(data)
        store = RocksStore(path)
        assert store.get(b"000000") is not None
        with pytest.raises(DamagedStore, match="checksum"):
            list(store.scan(b"", b"z"))
        with pytest.raises(DamagedStore, match="checksum"):
            [store.get(b"%06d" % number) for number in range(5_000)]
        with pytest.raises(DamagedStore, match="checksum"):
            store.verify()
        store.close()

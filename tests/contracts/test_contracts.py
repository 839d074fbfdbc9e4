"""The log in memory and both stores keep the contracts; what only one of them can promise comes after."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from ftjm.adapters import rocks
from ftjm.adapters.memory import MemoryLog, MemoryStore
from ftjm.adapters.rocks import DamagedStore, RocksStore
from ftjm.engine.ports import Store
from ftjm.errors import FtjmError
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

    def test_a_store_on_a_full_disk_lets_go_of_its_files(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It must not take the partition's thread along: that would never come back.

        `capsys`: what is logged would go to a file of pytest's, which cannot grow either.
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

    def test_rows_outlive_a_close(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.close()
        store = RocksStore(tmp_path / "store")
        assert list(store.scan(b"", b"\xff")) == [(b"a", b"1")]
        store.close()

    def test_what_is_written_outlives_a_hard_exit_after_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rocks, "FLUSH_SECONDS", 0.0)
        store = RocksStore(tmp_path / "store")
        deadline = time.monotonic() + 20
        found = None
        while found is None:
            assert time.monotonic() < deadline, "nothing was flushed"
            store.write([(b"a", b"1")])
            # There is no log to read rows from that are in memory only.
            flushed = RocksStore(tmp_path / "store", read_only=True)
            found = flushed.get(b"a")
            flushed.close()
        store.close()

    def test_clearing_forgets_for_ever(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.flush()
        store.clear()
        store.close()
        store = RocksStore(tmp_path / "store")
        assert store.get(b"a") is None
        store.close()

    def test_a_store_is_cleared_and_closed_while_somebody_scans_it(self, tmp_path: Path) -> None:
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

    def test_one_process_at_a_time_has_it_open(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        with pytest.raises(FtjmError, match="store"):
            RocksStore(tmp_path / "store")
        store.close()

    def test_it_can_be_read_beside_its_owner(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.flush()
        reader = RocksStore(tmp_path / "store", read_only=True)
        assert reader.get(b"a") == b"1"
        reader.close()
        store.close()

    def test_a_hard_exit_leaves_a_prefix_of_the_batches_and_each_whole(self, tmp_path: Path) -> None:
        """The store has no log of its own: what was flushed is there, and of later batches all or nothing."""
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from ftjm.adapters.rocks import RocksStore\n"
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

    def test_a_store_whose_files_are_damaged_says_so(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.close()
        for manifest in (tmp_path / "store").glob("MANIFEST-*"):
            manifest.write_bytes(b"garbage" * 100)
        with pytest.raises(DamagedStore):
            RocksStore(tmp_path / "store")

    @pytest.mark.parametrize("gone", ["CURRENT", "MANIFEST-*", "*.sst", "OPTIONS-*", "IDENTITY"])
    def test_a_file_that_is_gone_never_stands_in_the_way(self, tmp_path: Path, gone: str) -> None:
        """It is damage, or does no harm; anything else would have the owner try to open it for ever."""
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.close()
        for file in (tmp_path / "store").glob(gone):
            file.unlink()
        try:
            store = RocksStore(tmp_path / "store")
        except DamagedStore:
            return
        # Without a trace of what there was, it begins anew, and folds the log from its beginning.
        assert store.get(b"a") in ({None} if gone == "CURRENT" else {b"1"})
        store.close()

    def test_a_file_that_is_gone_from_an_open_store_is_found_when_it_is_taken(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "store")
        store.write([(b"a", b"1")])
        store.flush()
        [file] = (tmp_path / "store").glob("*.sst")
        file.unlink()
        with pytest.raises(DamagedStore):
            store.checkpoint(tmp_path / "checkpoint")
        store.close()

    def test_a_damaged_block_is_told_of_and_not_read_as_the_end(self, tmp_path: Path) -> None:
        """Rows that a scan leaves out in silence would be jobs that nobody runs."""
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

"""A snapshot whose files are as they were uploaded, and were damaged before: told as damaged, and not restored."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ftjm.adapters.rocks import RocksStore
from ftjm.engine.snapshot import DamagedSnapshot
from ftjm.repository import Repository


class Local(Repository):
    """Its snapshots are copies of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def fetch(self, manifest: Any, directory: Path, progress: Any = None) -> None:
        shutil.copytree(self._directory, directory, dirs_exist_ok=True)


def test_a_snapshot_of_damaged_rows_is_a_damaged_snapshot(tmp_path):
    store = RocksStore(tmp_path / "store")
    store.write([(b"%c" % number, Random(number).randbytes(500)) for number in range(128)])
    store.close()
    [file] = (tmp_path / "store").glob("*.sst")
    data = bytearray(file.read_bytes())
    for block in range(0, 128 * 500 - 16, 1_000):
        data[block : block + 16] = bytes(16)
    file.write_bytes(data)
    anything: Any = None
    with (
        pytest.raises(DamagedSnapshot, match="cannot be read"),
        Local(tmp_path / "store").opened(anything, tmp_path / "copy"),
    ):
        pytest.fail("it was opened")

"""The soak measures the disk space of files that a scheduler makes and deletes meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjm.lab.bench.soak import BLOCK_BYTES, MIB, used_mb


def test_a_directory_that_is_deleted_counts_as_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept", "gone"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 100_000)
    blocks = (tmp_path / "kept" / "file").lstat().st_blocks
    scandir = os.scandir

    def deleting(path: Any) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deleting)
    assert used_mb(tmp_path) == blocks * BLOCK_BYTES / MIB

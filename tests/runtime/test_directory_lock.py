"""Only one process at a time uses a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjm.runtime.directory_lock import DirectoryLock
from ftjm.runtime.errors import FtjmError


def test_a_directory_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path, "lock"), DirectoryLock(tmp_path, "lock")
    first.acquire()
    with pytest.raises(FtjmError, match=r"in use by process \d+"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FtjmError, match="--data-dir"):
        DirectoryLock(tmp_path / "file", "lock").acquire()


def test_a_lock_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/dev/full")
    with pytest.raises(FtjmError, match="make room"):
        DirectoryLock(tmp_path, "lock").acquire()

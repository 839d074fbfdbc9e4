"""Files and directories are private, whatever the umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.adapters.files.folder import Folder
from ftjm.adapters.rocksdb import RocksStore
from ftjm.local import broker_settings
from ftjm.local.broker_settings import Node
from ftjm.readmodel.tables import Tables
from ftjm.runtime import child_processes, endpoint, private_files
from ftjm.runtime.directory_lock import DirectoryLock
from ftjm.runtime.errors import FtjmError
from ftjm.worker.guard.scratch import Scratch
from tests.runtime.endpoints import ENDPOINT


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def open_to_others(top: Path) -> list[tuple[str, str]]:
    """The files and directories below `top`, and itself, that others may use in any way."""
    return [(str(path), oct(mode(path))) for path in (top, *top.rglob("*")) if mode(path) & 0o077]


@pytest.mark.usefixtures("umask")
def test_what_is_made_by_hand_is_private(tmp_path: Path) -> None:
    top = tmp_path / "a" / "data"
    endpoint.write(top, ENDPOINT)
    lock = DirectoryLock(top / "kafka", "lock")
    lock.acquire()
    broker_settings.write(Node(0, 1, 1, top / "kafka" / "broker-0"))
    child_processes.spawn([sys.executable, "-c", ""], output=top / "console.log").wait()
    Folder(str(top / "export")).write("chunks/0/x", b"1")
    scratch = Scratch(top / "attempts")
    assert open_to_others(tmp_path / "a") == []
    scratch.close()
    lock.release()


@pytest.mark.usefixtures("umask")
def test_what_libraries_make_is_private_in_a_process_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_files, "_of_user", None)
    private_files.set_umask()
    store = RocksStore(tmp_path / "top" / "store")
    store.write([(b"j", b"1")])
    store.checkpoint(tmp_path / "top" / "checkpoint")
    store.close()
    tables = Tables(tmp_path / "top" / "api" / "projection.db")
    assert open_to_others(tmp_path / "top") == []
    tables.close()


def test_a_child_has_the_umask_of_the_user(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_files, "_of_user", None)
    assert private_files.users_umask() == -1
    private_files.set_umask()
    private_files.set_umask()
    assert private_files.users_umask() == umask
    program = [sys.executable, "-c", "import os; print(os.umask(0))"]
    child_processes.spawn(program, output=tmp_path / "out").wait()
    assert int((tmp_path / "out").read_text()) == umask
    child_processes.spawn(program, output=tmp_path / "out", umask=0o077).wait()
    assert int((tmp_path / "out").read_text()) == 0o077


def test_the_command_line_makes_private_files(tmp_path: Path) -> None:
    """`doctor` makes the data directory, and fails since there is no Kafka."""
    command = [sys.executable, "-m", "ftjm", "doctor", "--bootstrap", "127.0.0.1:1", "--data-dir", str(tmp_path / "d")]
    subprocess.run(command, check=False, capture_output=True, umask=0, timeout=60)
    assert mode(tmp_path / "d") == 0o700


@pytest.mark.parametrize("mark", [None, "up.lock", "kafka/identity.json", "scheduler-1/partition-0"])
def test_a_data_directory_of_an_earlier_version_is_closed_to_others(tmp_path: Path, mark: str | None) -> None:
    top = tmp_path / "data"
    top.mkdir()
    if mark:
        (top / mark).mkdir(parents=True)
    top.chmod(0o755)
    private_files.claim_data_directory(top)
    assert mode(top) == 0o700


def test_a_directory_of_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    tmp_path.chmod(0o755)
    private_files.claim_data_directory(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_data_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FtjmError, match="data directory"):
        private_files.claim_data_directory(tmp_path / "file" / "data")

"""Folders keep the contract of places; and what only they can promise."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ftjm.adapters.folder import ChunkFolder, Folder
from ftjm.core.model import Position
from ftjm.engine.snapshot import DamagedSnapshot, File, about
from ftjm.errors import FtjmError, UsageError
from tests.contracts.place_contract import PlaceContract, named, put


@pytest.fixture(params=["file", "plain", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    name = uuid.uuid4().hex
    yield {"file": f"file://{tmp_path}/{name}", "plain": f"{tmp_path}/{name}", "memory": f"memory://{name}"}[
        request.param
    ]
    fsspec.filesystem("memory").store.clear()


class TestChunkFolder(PlaceContract):
    @pytest.fixture
    def place(self, url: str) -> ChunkFolder:
        return ChunkFolder(url)

    def test_sweeping_leaves_what_is_needed_and_what_came_later(self, place: ChunkFolder) -> None:
        (kept,) = put(place, b"a")
        place.put(0, [named(b"dropped", "1.0"), named(b"later", "2.5")])
        place.put(1, [named(b"dropped", "1.0")])
        manifest = about(Position(batch_no=1, owner_epoch=1), 0, 0, place.url, -1, [File("x", [kept])])
        place.sweep(0, [manifest])
        later, dropped = (named(b"later", "2.5")[0], named(b"dropped", "1.0")[0])
        assert place._folder.names("0") == sorted([kept.name, later])
        assert place._folder.names("1") == [dropped]
        with pytest.raises(DamagedSnapshot):
            list(ChunkFolder(f"{place.url}/nowhere").get(0, [kept]))


def test_files_are_written_read_listed_and_deleted(url: str) -> None:
    folder = Folder(url)
    assert folder.names() == folder.names("deep/er") == []
    folder.write("deep/er/b", b"1")
    folder.write("deep/er/a", b"2")
    folder.write("deep/er/a", b"3")
    assert folder.names("deep/er") == ["a", "b"]
    assert folder.names("deep") == []
    assert folder.read("deep/er/a") == b"3"
    assert folder.exists("deep/er/a")
    folder.delete("deep/er/a")
    folder.delete("deep/er/a")
    assert not folder.exists("deep/er/a")
    with pytest.raises(FileNotFoundError):
        folder.read("deep/er/a")


def test_a_file_that_was_half_written_is_none(url: str) -> None:
    folder = Folder(url)
    folder.write("d/.tmp-x-a", b"half")
    assert folder.names("d") == []


def test_a_local_file_is_on_the_disk_before_it_is_there_and_so_is_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs are trimmed for it: what a power cut leaves must have it."""
    told: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        told.append(("fsync", "file" if path.is_file() else str(path.relative_to(tmp_path))))
        fsync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        told.append(("rename", str(to.relative_to(tmp_path))))
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    folder = Folder(str(tmp_path))
    folder.write("a/b/name", b"1")
    assert told == [("fsync", "file"), ("rename", "a/b/name"), ("fsync", "a/b"), ("fsync", "a"), ("fsync", ".")]
    told.clear()
    folder.write("a/b/other", b"1")
    assert told == [("fsync", "file"), ("rename", "a/b/other"), ("fsync", "a/b")]


def test_a_place_that_nobody_knows_says_what_to_write() -> None:
    with pytest.raises(UsageError, match="file:///srv"):
        Folder("gopher://x/y")


def test_a_place_that_takes_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FtjmError, match="permissions"):
        Folder(f"{tmp_path}/file").write("a", b"1")

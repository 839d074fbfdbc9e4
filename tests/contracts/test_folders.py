"""Folders keep the contract of chunk stores. Further tests check the promises of folders only."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ftjm.adapters.files.folder import ChunkFolder, Folder
from ftjm.core.state.model import Position
from ftjm.engine.snapshot import DamagedSnapshot, File, manifest_of
from ftjm.runtime.errors import FtjmError, UsageError
from tests.contracts.chunk_store_contract import ChunkStoreContract, named, put


@pytest.fixture(params=["file", "plain", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    name = uuid.uuid4().hex
    yield {"file": f"file://{tmp_path}/{name}", "plain": f"{tmp_path}/{name}", "memory": f"memory://{name}"}[
        request.param
    ]
    fsspec.filesystem("memory").store.clear()


class TestChunkFolder(ChunkStoreContract):
    @pytest.fixture
    def place(self, url: str) -> ChunkFolder:
        return ChunkFolder(url)

    def test_sweeping_leaves_needed_and_newer_files(self, place: ChunkFolder) -> None:
        (kept,) = put(place, b"a")
        place.put(0, [named(b"dropped", "1.0"), named(b"later", "2.5")])
        place.put(1, [named(b"dropped", "1.0")])
        manifest = manifest_of(Position(batch_no=1, owner_epoch=1), 0, 0, place.url, -1, [File("x", [kept])])
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
    assert folder.read("deep/er/a", 9) == b"3"
    assert folder.exists("deep/er/a")
    folder.delete("deep/er/a")
    folder.delete("deep/er/a")
    assert not folder.exists("deep/er/a")
    with pytest.raises(FileNotFoundError):
        folder.read("deep/er/a", 9)


def test_a_half_written_file_is_not_listed(url: str) -> None:
    folder = Folder(url)
    folder.write("d/.tmp-x-a", b"half")
    assert folder.names("d") == []


def test_a_local_file_is_synced_before_its_rename_and_its_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs are trimmed when the file exists, so it must survive a power cut."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append(("fsync", "file" if path.is_file() else str(path.relative_to(tmp_path))))
        fsync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        calls.append(("rename", str(to.relative_to(tmp_path))))
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    folder = Folder(str(tmp_path))
    folder.write("a/b/name", b"1")
    assert calls == [("fsync", "file"), ("rename", "a/b/name"), ("fsync", "a/b"), ("fsync", "a"), ("fsync", ".")]
    calls.clear()
    folder.write("a/b/other", b"1")
    assert calls == [("fsync", "file"), ("rename", "a/b/other"), ("fsync", "a/b")]


def test_an_unknown_scheme_is_an_error_with_advice() -> None:
    with pytest.raises(UsageError, match="file:///srv"):
        Folder("gopher://x/y")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FtjmError, match="permissions"):
        Folder(f"{tmp_path}/file").write("a", b"1")


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "a/..", "..", ".", "/../x", "a/./b", "a\0", "a\nb", "~/x", "a\\b"]
)
def test_a_name_that_leaves_the_folder_is_refused(url: str, name: str) -> None:
    folder = Folder(url)
    for use in (lambda: folder.read(name, 9), lambda: folder.write(name, b"1"), lambda: folder.delete(name)):
        with pytest.raises(FtjmError, match="the name of a file"):
            use()


def test_a_file_is_read_up_to_a_bound(url: str) -> None:
    folder = Folder(url)
    folder.write("a", b"x" * 1_000)
    assert folder.read("a", 10) == b"x" * 11


@pytest.mark.parametrize("topic_id", ["AABwSIYPkYD//6YsYYC7Jw", "/a+b/", "-_"])
def test_the_id_of_a_topic_may_name_a_folder(url: str, topic_id: str) -> None:
    """Kafka's ids are in base64, whose letters are `+` and `/` as well."""
    folder = Folder(url)
    folder.write(f"{topic_id}/events/0/a", b"1")
    assert folder.read(f"{topic_id}/events/0/a", 9) == b"1"
    assert folder.names(f"{topic_id}/events/0") == ["a"]

"""Snapshots that cannot be used: damaged ones, and manifests that were made to write or read elsewhere."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.model import STATE_VERSION, Position
from ftjm.engine import snapshot
from ftjm.engine.snapshot import Chunk, DamagedSnapshot, File, Manifest, decode, encode
from ftjm.snapshots.repository import Repository

DATA = b"ssh-ed25519 AAAA attacker\n"
NAME = f"{sha256(DATA).hexdigest()}.1.1.1"


class Local(Repository):
    """A repository whose snapshots are copies of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def fetch(self, manifest: Any, into: Path, *_: Any) -> None:
        shutil.copytree(self._directory, into, dirs_exist_ok=True)


def test_a_snapshot_of_damaged_rows_is_reported_as_damaged(tmp_path):
    store = RocksStore(tmp_path / "store")
    store.write([(b"%c" % number, Random(number).randbytes(500)) for number in range(128)])
    store.close()
    [file] = (tmp_path / "store").glob("*.sst")
    data = bytearray(file.read_bytes())
    for block in range(0, 128 * 500 - 16, 1_000):
        data[block : block + 16] = bytes(16)
    file.write_bytes(data)
    anything: Any = SimpleNamespace(state_version=STATE_VERSION)
    with (
        pytest.raises(DamagedSnapshot, match="cannot be read"),
        Local(tmp_path / "store").opened(anything, tmp_path / "copy"),
    ):
        pytest.fail("the damaged snapshot was opened")


def manifest_of(place: str, *names: str, chunks: int = 1) -> Manifest:
    """A manifest with files of these names; each has the same content."""
    position = Position(log_id="log", applied_offset=1, batch_no=1, owner_epoch=1)
    files = [File(name, [Chunk(NAME, len(DATA))] * chunks) for name in names]
    return snapshot.manifest_of(position, 0, 1, place, -1, files)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "place" / "c-log" / "0").mkdir(parents=True)
    (tmp_path / "place" / "c-log" / "0" / NAME).write_bytes(DATA)
    return Repository({}, "c", "log", str(tmp_path / "place"))


def test_a_file_is_written_below_the_directory_alone(repository: Repository, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    into = tmp_path / "a" / "b" / "store"
    into.mkdir(parents=True)
    (into / "link").symlink_to(tmp_path / "victim")
    for name in (str(tmp_path / "victim"), "../victim", "../../victim", "link"):
        with pytest.raises(DamagedSnapshot):
            repository.fetch(manifest_of(f"{tmp_path}/place/c-log", name), into)
    assert not (tmp_path / "victim").exists()
    assert set(tmp_path.rglob("*")) - set(before) == {into, into / "link", into.parent, into.parent.parent}
    repository.fetch(manifest_of(f"{tmp_path}/place/c-log", "CURRENT"), into)
    assert (into / "CURRENT").read_bytes() == DATA
    assert (into / "CURRENT").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "place",
    ["/etc", "{}/other/c-log/x", "{}/place/../place/c-log", "http://127.0.0.1:1/c-log", "simplecache::{}/place/c-log"],
)
def test_chunks_are_read_from_no_other_place(repository: Repository, tmp_path: Path, place: str) -> None:
    manifest = manifest_of(place.format(tmp_path), "CURRENT")
    (tmp_path / "store").mkdir()
    with pytest.raises(DamagedSnapshot, match="no place of this cluster"):
        repository.fetch(manifest, tmp_path / "store")
    with pytest.raises(DamagedSnapshot, match="no place of this cluster"):
        list(repository.chunks(manifest))
    assert repository.lacking(manifest) == NAME


def test_a_place_of_this_cluster_that_was_configured_before_is_read(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "place").rename(tmp_path / "earlier")
    assert len(list(repository.chunks(manifest_of(f"{tmp_path}/earlier/c-log", "CURRENT")))) == 1


def test_a_manifest_unfolds_to_no_more_than_a_bound(repository: Repository, tmp_path: Path) -> None:
    manifest = manifest_of(f"{tmp_path}/place/c-log", "CURRENT", chunks=1_000)
    with pytest.raises(DamagedSnapshot, match="of chunks that hold"):
        repository.fetch(manifest, tmp_path)
    with pytest.raises(DamagedSnapshot, match="of chunks that hold"):
        decode(encode(manifest))


def test_a_snapshot_that_does_not_fit_on_the_disk_is_not_begun(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(OSError, match="the disk has 3"):
        repository.fetch(manifest_of(f"{tmp_path}/place/c-log", "CURRENT"), tmp_path)
    assert not (tmp_path / "CURRENT").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/b", "", ".", "CURRENT\n", "x" * 200])
def test_a_manifest_with_another_name_of_a_file_is_damaged(name: str) -> None:
    with pytest.raises(DamagedSnapshot, match="cannot be read"):
        decode(encode(manifest_of("", name)))
    with pytest.raises(DamagedSnapshot, match="twice"):
        decode(encode(manifest_of("", "CURRENT", "CURRENT")))


def test_odd_bytes_are_no_manifest() -> None:
    whole = json.loads(encode(manifest_of("", "CURRENT")))
    for data in (b"\xff", b"[" * 100_000, json.dumps(whole | {"log_id": "a\udcff"}).encode(), b'{"x":' * 100_000):
        with pytest.raises(DamagedSnapshot):
            decode(data)


@pytest.mark.parametrize("log_id", ["AABwSIYPkYD//6YsYYC7Jw", "/a+b/", "-_", ""])
def test_the_id_of_a_topic_may_have_every_letter_of_base64(tmp_path: Path, log_id: str) -> None:
    (place,) = [Repository({}, "c", log_id, str(tmp_path / "place")).place]
    place.put(0, [(NAME, DATA)])
    manifest = msgspec.structs.replace(manifest_of(place.url, "CURRENT"), log_id=log_id)
    assert decode(encode(manifest)) == manifest
    elsewhere = Repository({}, "c", log_id, str(tmp_path / "later"))
    assert len(list(elsewhere.chunks(manifest))) == 1

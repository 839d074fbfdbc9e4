"""Exports, imports and verifications of snapshots with faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ftjm.adapters.files.folder import ChunkFolder, Folder
from ftjm.adapters.kafka.errors import LogRefused
from ftjm.adapters.records import Record
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.model import STATE_VERSION, Position
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import POSITION_KEY
from ftjm.engine.snapshot import Chunk, File, Manifest
from ftjm.ops import snapshots, transfer
from ftjm.ops.export_head import HEAD, Head, Part, read_head
from ftjm.runtime import config
from ftjm.runtime.errors import FtjmError
from ftjm.snapshots.repository import Repository
from ftjm.snapshots.upload import send

LOG = "old-log"
UNUSED: Any = None


def exported(url: Path, **changes: Any) -> Head:
    """Export one partition. `changes` make its manifest differ from its store."""
    store = RocksStore(url / "store")
    position = Position(log_id=LOG, applied_offset=8, batch_no=3, owner_epoch=1, state_hash=bytes(16))
    store.write([(POSITION_KEY, encode(position))])
    store.close()
    sent = send(ChunkFolder(f"{url}/chunks"), 0, url / "store").manifest
    manifest: Manifest = msgspec.structs.replace(sent, **changes)
    head = Head("old", 1, {"events": LOG, "commands": "c"}, 2, [Part(manifest, (9, 9), (0, 0))])
    Folder(str(url)).write(HEAD, msgspec.json.encode(head))
    return head


class Refusing:
    """A producer whose Kafka takes only the first record."""

    def __init__(self, *_: object) -> None:
        self.sent = 0

    def send(self, *_: object, delivered: Any = None, **__: object) -> None:
        self.sent += 1
        if delivered:
            delivered(LogRefused("Topic authorization failed") if self.sent > 1 else None)

    def close(self, _seconds: float) -> int:
        return 0


def nowhere() -> config.Settings:
    return config.load(bootstrap="127.0.0.1:1", cluster="new")


def renamed(name: str) -> Callable[[Any], None]:
    """A change of an export: its first file gets this name."""

    def change(head: Any) -> None:
        head["parts"][0]["manifest"]["files"][0][0] = name

    return change


def changed(path: list[Any], value: Any) -> Callable[[Any], None]:
    """A change of an export: a value of its description."""

    def change(head: Any) -> None:
        *above, last = path
        for step in above:
            head = step(head) if callable(step) else head[step]
        head[last] = value

    return change


MANIFEST = ["parts", 0, "manifest"]
CHUNK = [*MANIFEST, "files", lambda files: next(chunks[0] for _, chunks in files if chunks)]


@pytest.mark.parametrize(
    "change",
    [
        *(
            renamed(name)
            for name in ("/etc/cron.d/x", "../../outside", "a/b", "..", "", "x\0", "x\n", "n" * 300, ".ssh")
        ),
        changed([*MANIFEST, "partition"], 1),
        changed([*MANIFEST, "log_id"], "../.."),
        changed([*MANIFEST, "applied_offset"], 1 << 80),
        changed([*MANIFEST, "place"], "x" * 5_000),
        changed([*CHUNK, 0], "../../../etc/passwd"),
        changed([*CHUNK, 0], "0" * 64 + ".1.1.1/../../x"),
        changed([*CHUNK, 1], 1 << 40),
        changed([*CHUNK, 1], -1),
        changed(["ids", "events"], "../../elsewhere"),
        changed(["ids"], {}),
        changed(["lanes"], 1 << 40),
        changed(["parts", 0, "events"], [9, 3]),
        changed(["parts", 0, "commands"], [-5, 3]),
        changed([*MANIFEST, "files", 1, 0], "CURRENT"),
        changed([*MANIFEST, "files", 0, 1], [[f"{'0' * 64}.1.1.1", 900_000, -1]] * 100),
    ],
)
def test_an_export_that_names_what_it_must_not_is_refused(tmp_path: Path, change: Callable[[Any], None]) -> None:
    exported(tmp_path)
    head = json.loads(Folder(str(tmp_path)).read(HEAD, 1 << 20))
    change(head)
    (tmp_path / HEAD).write_text(json.dumps(head))
    with pytest.raises(FtjmError, match="an export in"):
        read_head(str(tmp_path))


@pytest.mark.parametrize("text", [b"\xff", b"[" * 100_000, b'{"x":' * 5_000])
def test_a_description_that_is_none_is_an_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / HEAD).write_bytes(text)
    with pytest.raises(FtjmError, match="an export in"):
        read_head(str(tmp_path))


@pytest.mark.parametrize("changes", [{"state_version": STATE_VERSION + 1}, {"log_id": "another"}])
def test_an_export_of_other_rows_is_refused_before_a_request_to_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    exported(tmp_path, **changes)

    def asked(*_: object) -> None:
        pytest.fail("a request was sent to Kafka")

    monkeypatch.setattr(transfer, "_require_empty", asked)
    with pytest.raises(FtjmError, match="that this ftjm can read"):
        transfer.import_(nowhere(), str(tmp_path), lambda _: None)


def test_a_store_that_differs_from_its_manifest_is_refused(tmp_path: Path) -> None:
    head = exported(tmp_path, batch_no=4)
    found = Repository({}, "new", "new-log", "")
    importing = transfer._Importing(nowhere(), found, UNUSED, str(tmp_path), head, 0, tmp_path / "import")
    with pytest.raises(FtjmError, match="stands elsewhere"):
        importing._store()


def test_commands_that_kafka_refuses_are_an_error_of_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = exported(tmp_path)
    found = Repository({}, "new", "new-log", "")
    importing = transfer._Importing(nowhere(), found, UNUSED, str(tmp_path), head, 0, tmp_path / "import")
    commands: Any = SimpleNamespace(records=lambda *_: [Record(0, n, b"k", b"v", 0, []) for n in range(3)])
    importing._archive = commands
    monkeypatch.setattr(transfer, "ConfirmingProducer", Refusing)
    with pytest.raises(FtjmError, match="2 that Kafka refused"):
        importing._send_commands()


def test_an_export_whose_snapshot_is_deleted_meanwhile_takes_the_newest(tmp_path: Path) -> None:
    (part,) = exported(tmp_path).parts
    assert part.manifest is not None
    dropped = msgspec.structs.replace(part.manifest, files=[File("x", [Chunk(f"{'0' * 64}.1.1.1", 1)])])
    place = f"{tmp_path}/old-{LOG}"
    (tmp_path / "chunks").rename(place)
    sound = msgspec.structs.replace(part.manifest, place=place)
    looks = [dropped, sound]
    found = Repository({}, "old", LOG, f"{tmp_path}/elsewhere")
    found.manifests = lambda partition: [looks.pop(0)]  # type: ignore[method-assign]
    assert transfer._copied(found, ChunkFolder(f"{tmp_path}/copy"), 0, lambda _: None) == sound
    looks = [dropped, dropped]
    with pytest.raises(FtjmError, match="a sound snapshot"):
        transfer._copied(found, ChunkFolder(f"{tmp_path}/copy"), 0, lambda _: None)


def test_a_snapshot_that_is_deleted_during_verify_is_not_called_damaged(tmp_path: Path) -> None:
    (part,) = exported(tmp_path).parts
    assert part.manifest is not None
    lost = msgspec.structs.replace(
        part.manifest, files=[File("x", [Chunk(f"{'0' * 64}.1.1.1", 1)])], place=f"{tmp_path}/old-{LOG}"
    )
    found = Repository({}, "old", LOG, "")
    found.manifests = lambda partition: [lost]  # type: ignore[method-assign]
    (verdict,) = snapshots.verify(nowhere(), found, UNUSED, [lost], lambda *_: None)
    assert "not in" in verdict.problem
    found.manifests = lambda partition: []  # type: ignore[method-assign]
    assert snapshots.verify(nowhere(), found, UNUSED, [lost], lambda *_: None) == []

"""Exports, imports and proofs of snapshots that are not what they should be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError

from ftjm import config, snapshotting, transfer
from ftjm.adapters.folder import ChunkFolder, Folder
from ftjm.adapters.kafka_scan import Record
from ftjm.adapters.rocks import RocksStore
from ftjm.core.keys import POSITION_KEY
from ftjm.core.model import STATE_VERSION, Position
from ftjm.core.rows import encode
from ftjm.engine.snapshot import Chunk, File, Manifest
from ftjm.errors import FtjmError
from ftjm.repository import Repository
from ftjm.sending import send
from ftjm.transfer import HEAD, Head, Part

LOG = "old-log"
NOBODY: Any = None


def exported(url: Path, **changes: Any) -> Head:
    """An export of one partition, whose manifest says something else than its store."""
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
    """An outlet whose Kafka takes the first record, and no other."""

    def __init__(self, *_: object) -> None:
        self.sent = 0

    def send(self, *_: object, delivered: Any = None, **__: object) -> None:
        self.sent += 1
        if delivered:
            delivered(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED) if self.sent > 1 else None, NOBODY)

    def close(self, _seconds: float) -> int:
        return 0


def nowhere() -> config.Settings:
    return config.load(bootstrap="127.0.0.1:1", cluster="new")


@pytest.mark.parametrize("changes", [{"state_version": STATE_VERSION + 1}, {"log_id": "another"}])
def test_an_export_of_other_rows_is_refused_before_kafka_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    exported(tmp_path, **changes)

    def asked(*_: object) -> None:
        pytest.fail("Kafka was asked")

    monkeypatch.setattr(transfer, "_require_empty", asked)
    with pytest.raises(FtjmError, match="that this ftjm can read"):
        transfer.import_(nowhere(), str(tmp_path), lambda _: None)


def test_a_store_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path) -> None:
    head = exported(tmp_path, batch_no=4)
    found = Repository({}, "new", "new-log", "")
    importing = transfer._Importing(nowhere(), found, NOBODY, str(tmp_path), head, 0, tmp_path / "import")
    with pytest.raises(FtjmError, match="stands elsewhere"):
        importing._store()


def test_commands_that_kafka_refuses_are_not_taken_for_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = exported(tmp_path)
    found = Repository({}, "new", "new-log", "")
    importing = transfer._Importing(nowhere(), found, NOBODY, str(tmp_path), head, 0, tmp_path / "import")
    commands: Any = SimpleNamespace(records=lambda *_: [Record(0, n, b"k", b"v", 0, []) for n in range(3)])
    importing._archive = commands
    monkeypatch.setattr(transfer, "Outlet", Refusing)
    with pytest.raises(FtjmError, match="2 that Kafka refused"):
        importing._send_commands()


def test_an_export_whose_snapshot_is_dropped_underneath_takes_the_newest(tmp_path: Path) -> None:
    (part,) = exported(tmp_path).parts
    assert part.manifest is not None
    dropped = msgspec.structs.replace(part.manifest, files=[File("x", [Chunk(f"{'0' * 64}.1.1.1", 1)])])
    sound = msgspec.structs.replace(part.manifest, place=f"{tmp_path}/chunks")
    looks = [dropped, sound]
    found = Repository({}, "old", LOG, f"{tmp_path}/elsewhere")
    found.manifests = lambda partition: [looks.pop(0)]  # type: ignore[method-assign]
    assert transfer._copied(found, ChunkFolder(f"{tmp_path}/copy"), 0, lambda _: None) == sound
    looks = [dropped, dropped]
    with pytest.raises(FtjmError, match="a sound snapshot"):
        transfer._copied(found, ChunkFolder(f"{tmp_path}/copy"), 0, lambda _: None)


def test_what_is_dropped_while_it_is_proved_is_not_called_damaged(tmp_path: Path) -> None:
    (part,) = exported(tmp_path).parts
    assert part.manifest is not None
    lost = msgspec.structs.replace(
        part.manifest, files=[File("x", [Chunk(f"{'0' * 64}.1.1.1", 1)])], place=str(tmp_path)
    )
    found = Repository({}, "old", LOG, "")
    found.manifests = lambda partition: [lost]  # type: ignore[method-assign]
    (verdict,) = snapshotting.verify(nowhere(), found, NOBODY, [lost], lambda *_: None)
    assert "not in" in verdict.problem
    found.manifests = lambda partition: []  # type: ignore[method-assign]
    assert snapshotting.verify(nowhere(), found, NOBODY, [lost], lambda *_: None) == []

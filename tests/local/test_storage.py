"""The storage of a new broker."""

from __future__ import annotations

from pathlib import Path

from ftjm.local import storage

CLUSTER = "ACM-L0mrTgWOAWpXHKArVQ"


def test_a_new_directory_names_cluster_and_node_and_is_private(tmp_path: Path) -> None:
    data = tmp_path / "broker-0" / "data"
    storage.ensure_formatted(data, CLUSTER, 3)
    meta = dict(line.split("=") for line in (data / storage.META).read_text().splitlines())
    assert meta.pop("directory.id")
    assert meta == {"version": "1", "cluster.id": CLUSTER, "node.id": "3"}
    assert {path.name for path in data.iterdir()} == {storage.META, storage.CHECKPOINT}
    assert {path.stat().st_mode & 0o777 for path in data.iterdir()} == {0o600}
    assert data.stat().st_mode & 0o777 == 0o700


def test_a_formatted_directory_is_kept(tmp_path: Path) -> None:
    storage.ensure_formatted(tmp_path, CLUSTER, 1)
    before = (tmp_path / storage.META).read_bytes()
    storage.ensure_formatted(tmp_path, CLUSTER, 1)
    assert (tmp_path / storage.META).read_bytes() == before


def test_a_directory_whose_formatting_was_cut_short_is_formatted(tmp_path: Path) -> None:
    (tmp_path / storage.CHECKPOINT).write_bytes(b"half")
    storage.ensure_formatted(tmp_path, CLUSTER, 1)
    assert (tmp_path / storage.CHECKPOINT).stat().st_size > 100
    assert (tmp_path / storage.META).exists()


def test_ids_differ_and_are_ones_that_kafka_takes() -> None:
    ids = {storage.new_id() for _ in range(200)}
    assert len(ids) == 200
    assert {len(one) for one in ids} == {22}
    assert not [one for one in ids if one.startswith("-")]

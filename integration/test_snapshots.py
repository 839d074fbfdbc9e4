"""Snapshots on a real Kafka: taken under load, restored, damaged, half uploaded, and protected from a zombie."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.messages import offset_of
from ftjm.adapters.kafka.partition_log import KafkaLog, KafkaWriter
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.kafka.snapshot_topic import SnapshotTopic, manifest_records
from ftjm.core.state.model import Position
from ftjm.engine.ports import Fenced
from ftjm.engine.snapshot import File, Manifest, chunk_key, encode, manifest_key, manifest_of
from ftjm.history.replay import verify
from ftjm.history.trimmed import WholeLog
from ftjm.local.kafka import EmbeddedKafka
from ftjm.ops import snapshots
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from ftjm.snapshots.repository import open_repository
from integration.clusters import cluster_on
from integration.harness import Cluster
from integration.test_metrics import ask
from integration.waiting import LIMIT_SECONDS, until
from tests.contracts.chunk_store_contract import ChunkStoreContract, put

PARTITIONS = range(4)


def topic_of(settings: Settings) -> SnapshotTopic:
    return SnapshotTopic(settings.kafka_settings("test"), settings.topic("snapshots"))


class TestSnapshotTopic(ChunkStoreContract):
    @pytest.fixture
    def place(self, cluster: Settings) -> Iterator[SnapshotTopic]:
        with closing(topic_of(cluster)) as topic:
            until(lambda: readable(topic), "the new topic has its leaders")
            yield topic


def readable(topic: SnapshotTopic) -> bool:
    try:
        topic.find(0)
        topic.find(1)
    except LogError:
        return False
    return True


def create(cluster: Cluster, *, full: bool = False) -> list[Manifest]:
    return snapshots.create(cluster.settings, PARTITIONS, full=full, actor="test", within_seconds=LIMIT_SECONDS)


def test_snapshots_are_taken_under_load_and_a_lost_store_is_restored(
    kafka: EmbeddedKafka, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = cluster_on(kafka, tmp_path / "data", snapshot_events=120, snapshot_seconds=3600)
    with Cluster(settings, tmp_path) as cluster:
        scheduler, worker = cluster.scheduler("a"), cluster.worker()
        with cluster.load(per_second=40) as load:
            until(lambda: twice(settings), "two snapshots of every partition", 400)
        cluster.until_done(load.acknowledged)
        assert worker.stop() == 0
        create(cluster)
        assert_equal_to_the_log(settings)

        def repeated() -> bool:
            # The partition may still have something to write, as that the worker has left.
            before = create(cluster)[0].batch_no
            return [row["batch"] for row in ftjm(settings, "create", "-p", "0")] == [before]

        until(repeated, "the snapshot of a log that rests to be the same again")
        assert len(ftjm(settings, "list")) == 8
        assert {row["result"] for row in ftjm(settings, "verify", "-p", "1")} == {"equal"}
        for name in ("ftjm_step_seconds", "ftjm_snapshot_seconds", "ftjm_snapshot_pause_seconds"):
            record_property(name, spread(ask(scheduler, "/metrics")[1], name))
        assert scheduler.stop() == 0
        with open_repository(settings) as found:
            newest = [found.manifests(p)[0] for p in PARTITIONS]
        for p in PARTITIONS:
            shutil.rmtree(cluster.store("a", p))
        scheduler.start()
        cluster.until_owners("a")
        restored = until(lambda: four(scheduler.log_lines("store_restored")), "every store from its snapshot")
        assert {line["partition"]: line["offset"] for line in restored} == {
            m.partition: m.applied_offset for m in newest
        }
        assert scheduler.stop() == 0
        assert_stores_are_the_logs(cluster, "a")
        cluster.log().check(load.acknowledged)
        assert scheduler.error_lines() == []


def test_a_snapshot_without_its_manifest_or_with_a_damaged_chunk_is_not_used(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cluster_on(kafka, tmp_path / "data", partitions=1)
    monkeypatch.setenv("FTJM_TEST_SNAPSHOTS", "2")
    with Cluster(settings, tmp_path) as cluster:
        scheduler = cluster.scheduler("a", module="integration.planted_snapshots")
        cluster.worker(queues=["q"])
        jobs = []
        manifests: list[Manifest] = []
        for _ in range(2):
            with cluster.load(queues=["q"], per_second=100) as load:
                load.until(20)
            jobs = load.acknowledged
            cluster.until_done(jobs)
            manifests += snapshots.create(settings, [0], full=False, actor="test", within_seconds=LIMIT_SECONDS)
        ask_for_one(settings)
        assert scheduler.popen.wait(120) == -9
        with open_repository(settings) as found:
            _, strays = found.find(0)
            assert strays, "half of a snapshot was uploaded"
            assert [m.batch_no for m in found.manifests(0)] == [m.batch_no for m in reversed(manifests)]
        damage(settings, manifests[1])
        shutil.rmtree(cluster.store("a", 0))
        monkeypatch.setenv("FTJM_TEST_SNAPSHOTS", "99")
        again = cluster.scheduler("a")
        (restored,) = until(lambda: again.log_lines("store_restored"), "the store from the older snapshot")
        assert restored["batch"] == manifests[0].batch_no
        (unusable,) = again.log_lines("snapshot_unusable")
        assert unusable["batch"] == manifests[1].batch_no
        assert "other content" in unusable["reason"]
        # A full snapshot uses no damaged chunk, and cleans up the chunks of the half upload.
        (mended,) = snapshots.create(settings, [0], full=True, actor="test", within_seconds=LIMIT_SECONDS)
        assert not {c.name for c in mended.chunks} & {c.name for c in manifests[1].chunks}
        until(lambda: not strays_of(settings), "the chunks of the half upload to go")
        # So does another full one, although nothing was decided meanwhile.
        (repeated,) = snapshots.create(settings, [0], full=True, actor="test", within_seconds=LIMIT_SECONDS)
        assert repeated.batch_no == mended.batch_no
        assert not {c.name for c in repeated.chunks} & {c.name for c in mended.chunks}
        assert again.stop() == 0
        assert_stores_are_the_logs(cluster, "a")


def test_a_zombie_can_neither_publish_nor_delete(cluster: Settings) -> None:
    log = KafkaLog(cluster.kafka_settings("test"), cluster.cluster, "log")
    with closing(topic_of(cluster)) as topic:
        until(lambda: readable(topic), "the new topic has its leaders")
        zombie = log.fence(0)
        first, second = published(topic, zombie, 1, b"a"), published(topic, zombie, 2, b"b")
        owner = log.fence(0)
        names = [chunk.name for manifest in (first, second) for chunk in manifest.chunks]
        with pytest.raises(Fenced):
            zombie.publish(topic.topic, manifest_records(manifest_at(3, []), [first], names))
        assert [p.manifest for p in topic.find(0)[0]] == [second, first]
        assert {data for m in (first, second) for _, data in topic.get(0, list(m.chunks))} == {b"a", b"b"}
        third = published(topic, owner, 3, b"c", first)
        assert [p.manifest for p in topic.find(0)[0]] == [third, second]


def test_an_unreadable_manifest_is_no_predecessor(cluster: Settings) -> None:
    log = KafkaLog(cluster.kafka_settings("test"), cluster.cluster, "log")
    with closing(topic_of(cluster)) as topic:
        until(lambda: readable(topic), "the new topic has its leaders")
        owner = log.fence(0)
        first = published(topic, owner, 1, b"a")
        owner.publish(topic.topic, [("0/m/2.2", b"of a format that is to come")])
        until(lambda: len(topic.find(0)[0]) == 2, "the newer snapshot to be visible to readers")
        # As an owner that cannot read it does: name the newest manifest that it can read.
        third = manifest_at(3, [File("x", put(topic, b"c"))], topic.find(0)[0][1].offset)
        owner.publish(topic.topic, manifest_records(third, [], []))
        until(lambda: topic.find(0)[0][0].manifest == third, "the snapshot to be visible to readers")
        assert [p.manifest for p in topic.find(0)[0]] == [third, first]
        owner.publish(topic.topic, [("0/m/4.4", b"another one")])
        until(lambda: topic.find(0)[0][0].manifest is None, "the other snapshot to be visible to readers")
        assert [p.manifest for p in topic.find(0)[0]] == [None, third, first]


# ---- helpers


def ftjm(settings: Settings, *words: str) -> list[dict[str, Any]]:
    """Run a verb of `ftjm snapshot`. Return its rows."""
    command = [sys.executable, "-m", "ftjm", "snapshot", *words, "-o", "json"]
    environment = {**os.environ, **settings.environment()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def spread(metrics: str, name: str) -> dict[str, float]:
    """The histogram's buckets that are not empty, for the report: no test asserts speed."""
    (family,) = [f for f in text_string_to_metric_families(metrics) if f.name == name]
    counts = [(s.labels["le"], s.value) for s in family.samples if s.name.endswith("_bucket")]
    shown = {le: count - before for (le, count), before in zip(counts, [0.0, *(c for _, c in counts)], strict=False)}
    assert sum(shown.values()) > 0
    print(name, {le: count for le, count in shown.items() if count})
    return shown


def strays_of(settings: Settings) -> list[str]:
    """The chunks of no snapshot. Those of one that is being taken are among them: a request may have been repeated."""
    with open_repository(settings) as found:
        return found.find(0)[1]


def twice(settings: Settings) -> bool:
    with open_repository(settings) as found:
        return all(len(found.manifests(p)) == 2 for p in PARTITIONS)


def four(found: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return found if len(found) == 4 else None


def assert_equal_to_the_log(settings: Settings) -> None:
    with open_repository(settings) as found, Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for p in range(settings.partitions):
            verdicts = snapshots.verify(settings, found, scan, found.manifests(p), lambda _done, _all: None)
            assert [(v.problem, v.folded) for v in verdicts] == [("", True)] * 2


def assert_stores_are_the_logs(cluster: Cluster, name: str) -> None:
    settings = cluster.settings
    with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for p in range(settings.partitions):
            position, difference = verify(scan, p, cluster.store(name, p), whole_log=WholeLog(settings))
            assert position.applied_offset >= 0
            assert difference is None


def ask_for_one(settings: Settings) -> None:
    with pytest.raises(FtjmError, match="none within"):
        snapshots.create(settings, [0], full=True, actor="test", within_seconds=3)


def damage(settings: Settings, manifest: Manifest) -> None:
    """Put other content under the name of one of the manifest's chunks, and point the manifest to it."""
    (sound, *_) = [chunk for chunk in manifest.chunks if chunk.origin == manifest.origin]
    producer = Producer(settings.kafka_settings("test"))
    where: list[int] = []
    topic = settings.topic("snapshots")
    key = chunk_key(0, sound.name)
    producer.produce(topic, b"x" * sound.size, key, 0, on_delivery=lambda _, m: where.append(offset_of(m)))
    producer.flush(120)
    text = encode(manifest).replace(
        msgspec.json.encode(sound), msgspec.json.encode(msgspec.structs.replace(sound, offset=where[0]))
    )
    producer.produce(topic, text, manifest_key(manifest), 0)
    producer.flush(120)


def manifest_at(batch: int, files: list[File], previous: int = -1) -> Manifest:
    return manifest_of(Position(batch_no=batch, owner_epoch=1, log_id="log"), 0, batch, "", previous, files)


def published(topic: SnapshotTopic, writer: KafkaWriter, batch: int, data: bytes, *gone: Manifest) -> Manifest:
    found, _ = topic.find(0)
    manifest = manifest_at(batch, [File("x", put(topic, data))], found[0].offset if found else -1)
    writer.publish(topic.topic, manifest_records(manifest, gone, []))
    # A commit is answered before its markers are in the partitions, but readers need the markers.
    until(lambda: manifest in [p.manifest for p in topic.find(0)[0]], "the snapshot to be visible to readers")
    return manifest

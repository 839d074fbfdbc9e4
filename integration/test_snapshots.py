"""Snapshots on a real Kafka: taken beside the load, restored, damaged, half sent, and out of a zombie's reach."""

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
from confluent_kafka import KafkaException, Producer
from prometheus_client.parser import text_string_to_metric_families

from ftjm import snapshotting
from ftjm.adapters.kafka import offset_of
from ftjm.adapters.kafka_log import KafkaLog, KafkaWriter
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.kafka_snapshots import SnapshotTopic, manifest_records
from ftjm.config import Settings
from ftjm.core.model import Position
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.engine.ports import Fenced
from ftjm.engine.snapshot import File, Manifest, about, chunk_key, encode, manifest_key
from ftjm.errors import FtjmError
from ftjm.past import Past, repository
from ftjm.replay import verify
from integration.clusters import cluster_on
from integration.harness import Cluster
from integration.test_metrics import ask
from integration.waiting import until
from tests.contracts.place_contract import PlaceContract, put

pytestmark = pytest.mark.timeout(300)
PARTITIONS = range(4)


def topic_of(settings: Settings) -> SnapshotTopic:
    return SnapshotTopic(settings.kafka_settings("test"), settings.topic("snapshots"))


class TestSnapshotTopic(PlaceContract):
    @pytest.fixture
    def place(self, cluster: Settings) -> Iterator[SnapshotTopic]:
        with closing(topic_of(cluster)) as topic:
            until(lambda: readable(topic), "the new topic has its leaders")
            yield topic


def readable(topic: SnapshotTopic) -> bool:
    try:
        topic.find(0)
        topic.find(1)
    except KafkaException:
        return False
    return True


def create(cluster: Cluster, *, full: bool = False) -> list[Manifest]:
    return snapshotting.create(cluster.settings, PARTITIONS, full=full, actor="test", within_seconds=60)


def test_snapshots_are_taken_beside_the_load_and_a_lost_store_is_restored(
    kafka: EmbeddedKafka, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = cluster_on(kafka, tmp_path / "data", snapshot_events=120, snapshot_seconds=3600)
    with Cluster(settings, tmp_path) as cluster:
        scheduler, worker = cluster.scheduler("a"), cluster.worker()
        with cluster.load(per_second=120) as load:
            until(lambda: twice(settings), "two snapshots of every partition")
        cluster.until_done(load.acknowledged)
        assert worker.stop() == 0
        newest = create(cluster)
        assert_equal_to_the_log(settings)
        assert {row["batch"] for row in ftjm(settings, "create", "-p", "0")} == {newest[0].batch_no}
        assert len(ftjm(settings, "list")) == 8
        assert {row["result"] for row in ftjm(settings, "verify", "-p", "1")} == {"equal"}
        for name in ("ftjm_step_seconds", "ftjm_snapshot_seconds", "ftjm_snapshot_pause_seconds"):
            record_property(name, spread(ask(scheduler, "/metrics")[1], name))
        assert scheduler.stop() == 0
        for p in PARTITIONS:
            shutil.rmtree(cluster.store("a", p))
        scheduler.start()
        cluster.until_owners("a")
        restored = until(lambda: four(scheduler.said("store_restored")), "every store from its snapshot")
        assert {line["partition"]: line["offset"] for line in restored} == {
            m.partition: m.applied_offset for m in newest
        }
        assert scheduler.stop() == 0
        assert_stores_are_the_logs(cluster, "a")
        cluster.log().check(load.acknowledged)
        assert scheduler.complaints() == []


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
            manifests += snapshotting.create(settings, [0], full=False, actor="test", within_seconds=60)
        ask_for_one(settings)
        assert scheduler.popen.wait(30) == -9
        with repository(settings) as found:
            _, strays = found.find(0)
            assert strays, "half of a snapshot is there"
            assert [m.batch_no for m in found.manifests(0)] == [m.batch_no for m in reversed(manifests)]
        damage(settings, manifests[1])
        shutil.rmtree(cluster.store("a", 0))
        monkeypatch.setenv("FTJM_TEST_SNAPSHOTS", "99")
        again = cluster.scheduler("a")
        (restored,) = until(lambda: again.said("store_restored"), "the store from the older snapshot")
        assert restored["batch"] == manifests[0].batch_no
        (unusable,) = again.said("snapshot_unusable")
        assert unusable["batch"] == manifests[1].batch_no
        assert "other content" in unusable["reason"]
        # A full one uses nothing of what is damaged, and takes what was left half sent with it.
        (mended,) = snapshotting.create(settings, [0], full=True, actor="test", within_seconds=60)
        assert not {c.name for c in mended.chunks} & {c.name for c in manifests[1].chunks}
        with repository(settings) as found:
            assert found.find(0)[1] == []
        # So does another one, although nothing was decided meanwhile.
        (anew,) = snapshotting.create(settings, [0], full=True, actor="test", within_seconds=60)
        assert anew.batch_no == mended.batch_no
        assert not {c.name for c in anew.chunks} & {c.name for c in mended.chunks}
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
            zombie.publish(topic.topic, manifest_records(stands(3, []), [first], names))
        assert [p.manifest for p in topic.find(0)[0]] == [second, first]
        assert {data for m in (first, second) for _, data in topic.get(0, list(m.chunks))} == {b"a", b"b"}
        third = published(topic, owner, 3, b"c", first)
        # A commit is answered before its markers are in the partitions, and only then do readers see it.
        until(lambda: topic.find(0)[0][0].manifest == third, "the snapshot to be there for readers")
        assert [p.manifest for p in topic.find(0)[0]] == [third, second]


def test_a_manifest_that_cannot_be_read_is_none_of_the_two(cluster: Settings) -> None:
    log = KafkaLog(cluster.kafka_settings("test"), cluster.cluster, "log")
    with closing(topic_of(cluster)) as topic:
        until(lambda: readable(topic), "the new topic has its leaders")
        owner = log.fence(0)
        first = published(topic, owner, 1, b"a")
        owner.publish(topic.topic, [("0/m/2.2", b"of a format that is to come")])
        # As an owner that cannot read it: it names the newest that it can.
        third = stands(3, [File("x", put(topic, b"c"))], topic.find(0)[0][1].offset)
        owner.publish(topic.topic, manifest_records(third, [], []))
        until(lambda: topic.find(0)[0][0].manifest == third, "the snapshot to be there for readers")
        assert [p.manifest for p in topic.find(0)[0]] == [third, first]
        owner.publish(topic.topic, [("0/m/4.4", b"another one")])
        until(lambda: topic.find(0)[0][0].manifest is None, "the other to be there for readers")
        assert [p.manifest for p in topic.find(0)[0]] == [None, third, first]


# ---- what is done and looked at


def ftjm(settings: Settings, *words: str) -> list[dict[str, Any]]:
    """A verb of `ftjm snapshot`, as people call it."""
    command = [sys.executable, "-m", "ftjm", "snapshot", *words, "-o", "json"]
    environment = {**os.environ, **settings.environment()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def spread(metrics: str, name: str) -> dict[str, float]:
    """A histogram's buckets that hold anything, for the report: no test asserts speed."""
    (family,) = [f for f in text_string_to_metric_families(metrics) if f.name == name]
    counts = [(s.labels["le"], s.value) for s in family.samples if s.name.endswith("_bucket")]
    shown = {le: count - before for (le, count), before in zip(counts, [0.0, *(c for _, c in counts)], strict=False)}
    assert sum(shown.values()) > 0
    print(name, {le: count for le, count in shown.items() if count})
    return shown


def twice(settings: Settings) -> bool:
    with repository(settings) as found:
        return all(len(found.manifests(p)) == 2 for p in PARTITIONS)


def four(found: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    return found if len(found) == 4 else None


def assert_equal_to_the_log(settings: Settings) -> None:
    with repository(settings) as found, Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for p in range(settings.partitions):
            verdicts = snapshotting.verify(settings, found, scan, found.manifests(p), lambda _done, _all: None)
            assert [(v.problem, v.folded) for v in verdicts] == [("", True)] * 2


def assert_stores_are_the_logs(cluster: Cluster, name: str) -> None:
    settings = cluster.settings
    with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for p in range(settings.partitions):
            position, difference = verify(scan, p, cluster.store(name, p), past=Past(settings))
            assert position.applied_offset >= 0
            assert difference is None


def ask_for_one(settings: Settings) -> None:
    with pytest.raises(FtjmError, match="none within"):
        snapshotting.create(settings, [0], full=True, actor="test", within_seconds=3)


def damage(settings: Settings, manifest: Manifest) -> None:
    """Another content under the name of one of its own chunks, and the manifest points to it."""
    (sound, *_) = [chunk for chunk in manifest.chunks if chunk.birth == manifest.birth]
    producer = Producer(settings.kafka_settings("test"))
    where: list[int] = []
    topic = settings.topic("snapshots")
    key = chunk_key(0, sound.name)
    producer.produce(topic, b"x" * sound.size, key, 0, on_delivery=lambda _, m: where.append(offset_of(m)))
    producer.flush(10)
    text = encode(manifest).replace(
        msgspec.json.encode(sound), msgspec.json.encode(msgspec.structs.replace(sound, offset=where[0]))
    )
    producer.produce(topic, text, manifest_key(manifest), 0)
    producer.flush(10)


def stands(batch: int, files: list[File], previous: int = -1) -> Manifest:
    return about(Position(batch_no=batch, owner_epoch=1, log_id="log"), 0, batch, "", previous, files)


def published(topic: SnapshotTopic, writer: KafkaWriter, batch: int, data: bytes, *gone: Manifest) -> Manifest:
    found, _ = topic.find(0)
    manifest = stands(batch, [File("x", put(topic, data))], found[0].offset if found else -1)
    writer.publish(topic.topic, manifest_records(manifest, gone, []))
    return manifest

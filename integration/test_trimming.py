"""Trimmed logs: what goes is archived first, what stays is enough, and a gap is never passed over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from confluent_kafka import Producer

from ftjm import snapshotting
from ftjm.adapters.kafka_scan import Scan
from ftjm.api import once
from ftjm.api.feed import encode_position
from ftjm.api.queries import Filter
from ftjm.config import Settings
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.engine.snapshot import Manifest, manifest_key
from ftjm.errors import FtjmError
from ftjm.heard import listen_back
from ftjm.jobhistory import from_snapshot, open_scan, read_jobs, view
from ftjm.past import Past, repository
from ftjm.replay import Until, replayed, verify
from integration.apis import start_api
from integration.clusters import cluster_on
from integration.harness import QUICK, Cluster, Process
from integration.waiting import until
from tests.core.consistency import state_rows

pytestmark = pytest.mark.timeout(300)
QUEUES = ["qa", "qb", "qc", "qd"]
JOB = ("qa", "load-0")


@pytest.mark.parametrize("place", ["topic", "folder"])
def test_a_trimmed_log_its_archive_and_its_snapshots_tell_the_same(
    kafka: EmbeddedKafka, tmp_path: Path, place: str
) -> None:
    archive = f"file://{tmp_path}/archive"
    settings = cluster_on(
        kafka,
        tmp_path / "data",
        partitions=1,
        audit_retention_seconds=0,
        archive=archive,
        snapshot_place=f"{tmp_path}/snapshots" if place == "folder" else "",
    )
    with Cluster(settings, tmp_path) as cluster:
        first, second = cluster.scheduler("a"), cluster.scheduler("b")
        cluster.worker(queues=QUEUES)
        done = work(cluster, "qa")
        until(lambda: has_folded(settings, "b"), "the other one to have a store")
        assert second.stop() == 0
        story, before, before_at = read_jobs(settings, [JOB])[JOB], rows(settings, Until()), newest(settings)
        done += work(cluster, "qb")
        oldest = create(settings)
        done += work(cluster, "qc")
        create(settings)
        until(lambda: begins(settings, "events") == oldest.applied_offset, "events to be trimmed")
        until(lambda: begins(settings, "commands") == oldest.next_command - 1, "commands to be trimmed")

        # The archive has the rest, and the two together make what the snapshots and the log make.
        told: dict[int, int] = {}
        assert read_jobs(settings, [JOB], gap=told.__setitem__)[JOB] == []
        assert told == {0: oldest.applied_offset}
        assert read_jobs(settings, [JOB], archive)[JOB] == story
        assert from_snapshot(settings, JOB) == view(recorded.event for recorded in story)
        assert rows(settings, Until()) == rows(settings, Until(), archive)
        assert rows(settings, Until(offset=before_at), archive) == before
        with pytest.raises(FtjmError, match="no such snapshot"):
            rows(settings, Until(offset=oldest.applied_offset - 1))

        if place == "topic":
            assert_the_api_goes_on(cluster, done)
        stores_come_back(cluster, first, second, archive)
        if place == "topic":
            nobody_decides_over_a_gap(cluster, first)


def assert_the_api_goes_on(cluster: Cluster, done: list[tuple[str, str]]) -> None:
    """It shows all jobs, and histories as far as the log goes back; a listener learns that it missed some."""
    settings, names = cluster.settings, {f"{queue}/{job_id}" for queue, job_id in done}
    api = start_api(cluster)
    jobs = api.get("/jobs?limit=1000").json["jobs"]
    assert {job["job"] for job in jobs} == names
    assert {job["state"] for job in jobs} == {"SUCCEEDED"}
    assert api.get(f"/jobs/{JOB[0]}/{JOB[1]}").json["command"] == QUICK
    assert api.get(f"/jobs/{JOB[0]}/{JOB[1]}/history").json["events"] == []
    newer = done[-1]
    events = api.get(f"/jobs/{newer[0]}/{newer[1]}/history").json["events"]
    assert len(events) == len(read_jobs(settings, [newer])[newer]) > 0
    gone = api.get("/events", Last_Event_ID=encode_position([0]))
    assert (gone.status, gone.json["code"]) == (410, "TRIMMED")
    assert api.stop() == 0
    with once.folded(settings) as (reader, _):
        assert {listed.key for listed in reader.jobs(Filter(), 1_000).jobs} == names


def has_folded(settings: Settings, name: str) -> bool:
    """Whether the scheduler of this name, owner or standby, has told that it has something of the log."""
    heard, _ = listen_back(settings)
    beats = [beat for instance, beat in heard.schedulers.items() if instance.startswith(f"{name}@")]
    return any(report.applied_offset > 0 for beat in beats for report in beat.partitions)


def stores_come_back(cluster: Cluster, first: Process, second: Process, archive: str) -> None:
    """One that is behind the log, and one that is gone."""
    second.start()
    until(lambda: second.said("store_restored"), "the store that was behind the log")
    (discarded,) = second.said("store_discarded")
    assert "cannot be read" in discarded["reason"]
    assert first.stop() == 0
    shutil.rmtree(cluster.store("a", 0))
    first.start()
    until(lambda: first.said("store_restored"), "the store that was gone")
    work(cluster, "qd")
    assert [scheduler.stop() for scheduler in (first, second)] == [0, 0]
    with open_scan(cluster.settings, "events") as scan:
        for name in "ab":
            _, difference = verify(scan, 0, cluster.store(name, 0), past=Past(cluster.settings, archive))
            assert difference is None


def nobody_decides_over_a_gap(cluster: Cluster, scheduler: Process) -> None:
    """Without a snapshot and without a store."""
    drop_all_snapshots(cluster.settings)
    end = newest(cluster.settings)
    for name in "ab":
        shutil.rmtree(cluster.store(name, 0))
    scheduler.start()
    (stopped, *_) = until(lambda: scheduler.said("partition_stopped"), "the partition to stop, loudly")
    assert "a log that begins at offset" in str(stopped["error"])
    assert "snapshot import" in str(stopped["todo"])
    scheduler.kill()
    assert newest(cluster.settings) == end


# ---- what is done and looked at


def work(cluster: Cluster, queue: str) -> list[tuple[str, str]]:
    with cluster.load(queues=[queue], per_second=100) as load:
        load.until(25)
    cluster.until_done(load.acknowledged)
    return load.acknowledged


def create(settings: Settings) -> Manifest:
    (manifest,) = snapshotting.create(settings, [0], full=False, actor="test", within_seconds=60)
    return manifest


def begins(settings: Settings, kind: str) -> int:
    with Scan(settings.kafka_settings("test"), settings.topic(kind), committed=False) as scan:
        return scan.bounds(0)[0]


def newest(settings: Settings) -> int:
    with open_scan(settings, "events") as scan:
        return scan.bounds(0)[1]


def rows(settings: Settings, limit: Until, archive: str | None = None) -> dict[bytes, bytes]:
    with open_scan(settings, "events") as scan, replayed(scan, 0, limit, past=Past(settings, archive)) as folded:
        return state_rows(folded.store)


def drop_all_snapshots(settings: Settings) -> None:
    producer = Producer(settings.kafka_settings("test"))
    with repository(settings) as found:
        for manifest in found.manifests(0):
            producer.produce(settings.topic("snapshots"), None, manifest_key(manifest), 0)
    assert producer.flush(10) == 0

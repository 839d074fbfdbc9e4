"""Trimmed logs: records are archived before they are deleted, the rest is enough, and a gap is never skipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from ftjm.adapters.kafka.patience import open_scan
from ftjm.adapters.kafka.scan import Scan
from ftjm.api.routes.events import encode_position
from ftjm.engine.snapshot import Manifest, manifest_key
from ftjm.history.jobs import from_snapshot, read_jobs, view
from ftjm.history.replay import Until, replayed, verify
from ftjm.history.trimmed import WholeLog
from ftjm.local.kafka import EmbeddedKafka
from ftjm.ops import snapshots
from ftjm.readmodel import one_shot
from ftjm.readmodel.presence import read_presence
from ftjm.readmodel.queries import Filter
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from ftjm.snapshots.repository import open_repository
from integration.apis import start_api
from integration.clusters import cluster_on
from integration.harness import QUICK, Cluster, Process
from integration.waiting import LIMIT_SECONDS, until
from tests.core.consistency import state_rows

QUEUES = ["qa", "qb", "qc", "qd"]
JOB = ("qa", "load-0")


@pytest.mark.parametrize("place", ["topic", "folder"])
def test_archive_plus_log_equals_snapshot_plus_log(kafka: EmbeddedKafka, tmp_path: Path, place: str) -> None:
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

        # Folding the archive and the log gives the same rows as folding the log on top of the snapshots.
        gaps: dict[int, int] = {}
        assert read_jobs(settings, [JOB], gap=gaps.__setitem__)[JOB] == []
        assert gaps == {0: oldest.applied_offset}
        assert read_jobs(settings, [JOB], archive)[JOB] == story
        by_events = view(recorded.event for recorded in story)
        assert by_events is not None
        # Only events name the worker of an attempt that has ended, and none of the job's events is left.
        assert from_snapshot(settings, JOB) == msgspec.structs.replace(by_events, worker="")
        assert rows(settings, Until()) == rows(settings, Until(), archive)
        assert rows(settings, Until(offset=before_at), archive) == before
        with pytest.raises(FtjmError, match="no such snapshot"):
            rows(settings, Until(offset=oldest.applied_offset - 1))

        if place == "topic":
            assert_the_api_goes_on(cluster, done)
        stores_come_back(cluster, first, second, archive)
        if place == "topic":
            no_scheduler_decides_over_a_gap(cluster, first)


def assert_the_api_goes_on(cluster: Cluster, done: list[tuple[str, str]]) -> None:
    """The API shows all jobs, and histories as far as the log goes back; a listener learns that it missed events."""
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
    with one_shot.folded_log(settings) as (reader, _):
        assert {listed.key for listed in reader.jobs(Filter(), 1_000).jobs} == names


def has_folded(settings: Settings, name: str) -> bool:
    """Whether a heartbeat of this scheduler, owner or standby, reports that it has applied a part of the log."""
    presence, _ = read_presence(settings)
    found = [one for one in presence.live_schedulers() if one.heartbeat.instance.startswith(f"{name}@")]
    return any(report.applied_offset > 0 for one in found for report in one.heartbeat.partitions)


def stores_come_back(cluster: Cluster, first: Process, second: Process, archive: str) -> None:
    """Restore one store that is behind the log's beginning and one that was deleted."""
    second.start()
    until(lambda: second.log_lines("store_restored"), "the store that was behind the log")
    (discarded,) = second.log_lines("store_discarded")
    assert "cannot be read" in discarded["reason"]
    assert first.stop() == 0
    shutil.rmtree(cluster.store("a", 0))
    first.start()
    until(lambda: first.log_lines("store_restored"), "the store that was deleted")
    work(cluster, "qd")
    assert [scheduler.stop() for scheduler in (first, second)] == [0, 0]
    with open_scan(cluster.settings, "events") as scan:
        for name in "ab":
            _, difference = verify(scan, 0, cluster.store(name, 0), whole_log=WholeLog(cluster.settings, archive))
            assert difference is None


def no_scheduler_decides_over_a_gap(cluster: Cluster, scheduler: Process) -> None:
    """Without a snapshot and without a store, a scheduler stops instead of skipping the gap."""
    drop_all_snapshots(cluster.settings)
    end = newest(cluster.settings)
    for name in "ab":
        shutil.rmtree(cluster.store(name, 0))
    scheduler.start()
    (stopped, *_) = until(lambda: scheduler.log_lines("partition_stopped"), "the partition to stop with an error")
    assert "a log that begins at offset" in str(stopped["error"])
    assert "snapshot import" in str(stopped["todo"])
    scheduler.kill()
    assert newest(cluster.settings) == end


# ---- helpers


def work(cluster: Cluster, queue: str) -> list[tuple[str, str]]:
    with cluster.load(queues=[queue], per_second=100) as load:
        load.until(25)
    cluster.until_done(load.acknowledged)
    return load.acknowledged


def create(settings: Settings) -> Manifest:
    (manifest,) = snapshots.create(settings, [0], full=False, actor="test", within_seconds=LIMIT_SECONDS)
    return manifest


def begins(settings: Settings, kind: str) -> int:
    with Scan(settings.kafka_settings("test"), settings.topic(kind), committed=False) as scan:
        return scan.bounds(0)[0]


def newest(settings: Settings) -> int:
    with open_scan(settings, "events") as scan:
        return scan.bounds(0)[1]


def rows(settings: Settings, limit: Until, archive: str | None = None) -> dict[bytes, bytes]:
    with (
        open_scan(settings, "events") as scan,
        replayed(scan, 0, limit, whole_log=WholeLog(settings, archive)) as folded,
    ):
        return state_rows(folded.store)


def drop_all_snapshots(settings: Settings) -> None:
    producer = Producer(settings.kafka_settings("test"))
    with open_repository(settings) as found:
        for manifest in found.manifests(0):
            producer.produce(settings.topic("snapshots"), None, manifest_key(manifest), 0)
    assert producer.flush(120) == 0

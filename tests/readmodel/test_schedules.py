"""Schedules as they are read: which there are, what is stored of each, and what their events tell."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.partition_buffer import EventBuffer
from ftjm.api.routes.events import _Stream, _take
from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.core.records.events import BatchClosed
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import Overlap, Schedule, ScheduleSpec
from ftjm.history.jobs import view
from ftjm.readmodel import row_queries
from ftjm.readmodel.documents.event import event_document
from ftjm.readmodel.documents.fields import plain_document
from ftjm.readmodel.documents.schedule import schedule_document
from ftjm.runtime.durations import format_time
from tests.cli.cluster import PARTITIONS, Cluster
from tests.readmodel.test_documents import Arrived
from tests.readmodel.test_projection import send
from tests.readmodel.test_queues import reader

SPEC = ScheduleSpec(JobSpec(command=["load"]), every_ms=60_000, overlap=Overlap.QUEUE)
SHOWN = {
    "interval": "1m",
    "starting_deadline": "5m",
    "catch_up": "none",
    "overlap": "queue",
    "jitter": "0s",
    "job": {"command": ["load"]},
}


def apply(queue: str, name: str, spec: ScheduleSpec = SPEC, **others: Any) -> c.ApplySchedule:
    return c.ApplySchedule(queue=queue, name=name, spec=spec, **others)


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    send(cluster, apply("etl", "nightly", labels={"app": "etl"}, actor="bob@host"))
    send(cluster, apply("etl", "hourly"))
    send(cluster, apply("etl-2", "nightly"))
    send(cluster, apply("mail", "digest"))
    send(cluster, apply("mail", "gone"))
    send(cluster, c.DeleteSchedule(queue="mail", name="gone"))
    send(cluster, c.PauseSchedule(queue="mail", name="digest", reason="repair", actor="ann@host"))
    return cluster


def fire(cluster: Cluster, queue: str, name: str) -> Schedule:
    partition = partition_for(queue, PARTITIONS)
    cluster.now += 120_000
    for _ in range(3):  # the first instant fires, and the second waits for its job
        cluster.decide(partition)
    found = cluster.partitions[partition].state.schedule(f"{queue}/{name}")
    assert found is not None
    return found


def test_schedules_are_listed_page_by_page_and_by_queue(cluster, monkeypatch) -> None:
    everything = ["etl-2/nightly", "etl/hourly", "etl/nightly", "mail/digest"]
    read = reader(cluster).schedules

    def names(*arguments: Any) -> tuple[list[str], bool]:
        found, more = read(*arguments)
        return [key for key, _ in found], more

    assert names("", 10) == (everything, False)
    assert names("", 4) == (everything, False)
    assert names("", 3) == (everything[:3], True)
    assert names("etl/hourly", 10) == (everything[2:], False)
    assert names("", 10, "etl") == (["etl/hourly", "etl/nightly"], False)
    assert names("etl/hourly", 10, "etl") == (["etl/nightly"], False)
    assert names("zzz", 10, "etl") == ([], False)
    monkeypatch.setattr(row_queries, "PAGE_BYTES_MAX", 1)
    assert names("", 10) == (everything[:1], True), "a page ends with what makes it large"


def test_the_document_of_a_schedule_has_its_declaration_its_instants_and_its_pause(cluster) -> None:
    row = fire(cluster, "etl", "nightly")
    stored = reader(cluster).schedule("etl/nightly")
    assert stored == row
    document = plain_document(schedule_document("etl/nightly", row))
    assert document == {
        "schedule": "etl/nightly",
        "queue": "etl",
        "name": "nightly",
        "next_at": format_time(row.next_at),
        "waiting_at": format_time(row.waiting_instant),
        "last_at": format_time(row.last_instant),
        "last_job": f"etl/{row.last_job}",
        "tzdata": row.tzdata,
        "declaration": {
            "revision": row.revision,
            "labels": {"app": "etl"},
            "spec": SHOWN,
            "applied_at": format_time(row.applied_at),
            "actor": "bob@host",
        },
    }
    paused = reader(cluster).schedule("mail/digest")
    assert paused is not None
    document = plain_document(schedule_document("mail/digest", paused))
    assert (document["paused"], document["paused_by"], document["pause_reason"]) == (True, "ann@host", "repair")
    assert document.keys().isdisjoint({"next_at", "last_at", "last_job", "waiting_at"})
    assert reader(cluster).schedule("mail/gone") is None


def test_events_of_schedules_are_told_as_users_write_them_and_followed_by_their_queue(cluster) -> None:
    fire(cluster, "etl", "nightly")
    told: dict[str, list[dict[str, Any]]] = {}
    for writer in cluster.writers:
        for record in writer.records:
            event = codec.decode(record.value)
            if not isinstance(event, BatchClosed):
                document = plain_document(event_document(event, record.partition, record.offset))
                told.setdefault(event.queue, []).append(document)
    applied = told["etl"][0]
    assert (applied["event"], applied["queue"], "job" in applied) == ("ScheduleApplied", "etl", False)
    assert (applied["details"]["name"], applied["details"]["spec"]) == ("nightly", SHOWN)
    assert applied["details"]["decided_to"].endswith("Z")
    fired = next(one for one in told["etl"] if one["event"] == "ScheduleFired")
    assert fired["job"].startswith("etl/")
    assert (fired["details"]["instant"].endswith("Z"), fired["details"]["by"]) == (True, "DUE")
    assert [one["event"] for one in told["mail"]][-2:] == ["ScheduleDeleted", "SchedulePaused"]
    for queue in ("etl", "etl-2", "mail"):
        buffers: dict[int, EventBuffer] = {w.partition: Arrived(w.records) for w in cluster.writers}  # type: ignore[misc]
        texts = _take(_Stream(buffers, frozenset({f"{queue}/".encode()}), [0] * PARTITIONS))
        assert len(texts) == len(told[queue]), queue


def test_a_job_of_a_schedule_is_known_by_its_own_events_alone(cluster) -> None:
    fired = fire(cluster, "etl", "nightly").last_job
    records = [record for writer in cluster.writers for record in writer.records]
    found = view(codec.decode(record.value) for record in records if record.key == f"etl/{fired}".encode())
    assert found is not None
    assert found.document().schedule == "etl/nightly"
    stored = reader(cluster).job("etl", fired)
    assert stored is not None
    assert stored.fields()["schedule"] == "etl/nightly"

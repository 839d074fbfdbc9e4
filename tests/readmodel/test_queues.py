"""Queues as they are read: which there are, what is stored of each, and what their events tell."""

from __future__ import annotations

from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.partition_buffer import EventBuffer
from ftjm.api.routes.events import _Stream, _take
from ftjm.core.limits import AGEING_MS_MAX
from ftjm.core.queue_gates import QueueRows
from ftjm.core.records import commands as c
from ftjm.core.records.events import BatchClosed
from ftjm.core.state.model import JobSpec
from ftjm.core.state.queues import QueueSpec, Share
from ftjm.readmodel.cluster import queue_renderer
from ftjm.readmodel.documents.event import event_document
from ftjm.readmodel.documents.fields import plain_document
from ftjm.readmodel.documents.queue import QueueSpecDocument
from ftjm.readmodel.explain import explanation_document, standing_of
from ftjm.readmodel.presence import Presence
from ftjm.readmodel.projection import Projection
from ftjm.readmodel.queries import Reader
from ftjm.readmodel.share_standing import ShareFacts, share_standing
from ftjm.readmodel.tables import Tables
from ftjm.runtime.durations import format_time
from ftjm.specs.queue import QueueFields
from tests.cli.cluster import PARTITIONS, Cluster
from tests.readmodel.test_documents import Arrived
from tests.readmodel.test_projection import feed, send, submit

SPEC = QueueSpec(concurrency=3, rate_limit=100, rate_per_ms=60_000, rate_burst=10, ageing_ms=AGEING_MS_MAX)
SHOWN = {"concurrency": 3, "rate": {"limit": 100, "per": "1m", "burst": 10}, "ageing": "off"}


def declared() -> Cluster:
    cluster = Cluster()
    submit(cluster, "busy", "a")
    send(cluster, c.PauseQueue(queue="paused", reason="the disk is full", actor="ann@host"))
    send(cluster, c.ApplyQueue(queue="declared", spec=SPEC, labels={"app": "etl"}, actor="bob@host"))
    send(cluster, c.ApplyQueue(queue="busy", spec=QueueSpec()))
    send(cluster, c.ApplyQueue(queue="gone", spec=SPEC))
    send(cluster, c.DeleteQueue(queue="gone"))
    return cluster


def reader(cluster: Cluster) -> Reader:
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    projection.flush()
    return Reader(tables.connection)


def test_queues_are_listed_by_name_if_they_have_jobs_or_a_pause_or_a_declaration() -> None:
    found = reader(declared())
    assert [name for name, _ in found.queues("", 10)] == ["busy", "declared", "paused"]
    assert [name for name, _ in found.queues("busy", 1)] == ["declared"]
    assert [name for name, _ in found.queues("", 10, declared=True)] == ["busy", "declared"]
    assert dict(found.queues("", 10))["busy"] == found.queue_rows("busy")


def test_the_document_of_a_queue_has_its_declaration_and_its_pause() -> None:
    cluster = declared()
    render, stored = queue_renderer(Presence(), PARTITIONS), dict(reader(cluster).queues("", 10))
    documents = {name: plain_document(render(name, rows, 0)) for name, rows in stored.items()}
    row = stored["declared"].declaration
    assert row is not None
    assert documents["declared"]["declaration"] == {
        "revision": row.revision,
        "labels": {"app": "etl"},
        "spec": SHOWN,
        "applied_at": format_time(row.applied_at),
        "actor": "bob@host",
    }
    assert set(documents["busy"]["declaration"]) == {"revision", "spec", "applied_at"}, "without what has no value"
    assert documents["busy"]["ready"] == 1
    paused = documents["paused"]
    assert (paused["paused"], paused["paused_by"], paused["pause_reason"]) == (True, "ann@host", "the disk is full")
    assert "declaration" not in paused
    assert "paused_at" not in documents["busy"]


def test_the_document_of_a_declaration_has_every_field_that_users_write() -> None:
    """A field that it lacks would be lost by `ftjm queue describe -o yaml | ftjm apply -f -`."""
    assert QueueFields.model_fields.keys() <= {*QueueSpecDocument.__struct_fields__}


def test_events_of_declarations_are_told_as_users_write_them_and_followed_by_their_queue() -> None:
    cluster = declared()
    send(cluster, c.ApplyQueue(queue="declared", spec=SPEC, labels={"app": "etl"}))
    told: dict[str, list[dict[str, Any]]] = {}
    for writer in cluster.writers:
        for record in writer.records:
            event = codec.decode(record.value)
            if isinstance(event, BatchClosed):
                continue
            document = plain_document(event_document(event, record.partition, record.offset))
            told.setdefault(document.get("queue", ""), []).append(document)
    applied, unchanged = told["declared"]
    assert (applied["event"], applied["actor"], "job" in applied) == ("QueueApplied", "bob@host", False)
    revision = applied["details"]["revision"]
    assert applied["details"] == {"revision": revision, "spec": SHOWN, "labels": {"app": "etl"}}
    assert (unchanged["event"], unchanged["details"]) == ("QueueUnchanged", {"revision": revision})
    assert [one["event"] for one in told["gone"]] == ["QueueApplied", "QueueDeleted"]
    assert told["gone"][0]["details"].keys() == {"revision", "spec"}
    for queue, events in {"declared": 2, "gone": 2, "paused": 1, "busy": 2}.items():
        buffers: dict[int, EventBuffer] = {w.partition: Arrived(w.records) for w in cluster.writers}  # type: ignore[misc]
        texts = _take(_Stream(buffers, frozenset({f"{queue}/".encode()}), [0] * PARTITIONS))
        assert len(texts) == events, queue


def test_jobs_of_a_share_are_counted_apart_and_shares_tell_what_they_have_used() -> None:
    cluster = Cluster()
    send(cluster, c.ApplyQueue(queue="q", spec=QueueSpec(shares=[Share("x", 3)])))
    for number, share in enumerate(("x", "y", "x", "", "x")):
        spec = JobSpec(command=["true"], share_identifier=share)
        send(cluster, c.SubmitJob(queue="q", job_id=f"j{number}", spec=spec))
    found = reader(cluster)
    jobs = {f"j{number}": found.job("q", f"j{number}") for number in range(5)}
    last = jobs["j4"]
    assert last is not None
    job = last.listed.job
    assert [found.ahead("q", job, share) for share in (None, "x", "y", "")] == [4, 2, 1, 1]
    assert [found.waits_in_share("q", share) for share in ("x", "y", "z", "")] == [True, True, False, True]
    assert {name: row.jobs for name, row in found.shares("q").items()} == {"x": 3, "y": 1}
    standing = standing_of(found, last)
    assert standing.ahead == 2
    assert standing.share is not None
    assert standing.share.own == ShareFacts("x", 3, 0, 0)
    assert (standing.share.first, standing.share.weights) == (None, 4)
    document = explanation_document(last, standing, Presence())
    assert document.share is not None
    assert (document.share.identifier, document.share.weight, document.ahead) == ("x", 3, 2)
    assert share_standing(found, "q", job, QueueRows(None, None, None, None), 0) is None

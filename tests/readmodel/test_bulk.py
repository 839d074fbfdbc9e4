"""Bulk requests as they are read: which there are, how far each has come, and what their events tell."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.partition_buffer import EventBuffer
from ftjm.api.routes.events import _Stream, _take
from ftjm.core.decide import bulk as rules
from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import TERMINAL, JobState
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.history import store_rows
from ftjm.readmodel import bulk_requests
from ftjm.readmodel.documents.bulk import bulk_document
from ftjm.readmodel.documents.event import event_document
from ftjm.readmodel.documents.fields import plain_document
from ftjm.runtime.durations import format_time
from tests.cli.cluster import PARTITIONS, Cluster
from tests.readmodel.test_documents import Arrived
from tests.readmodel.test_projection import send, submit
from tests.readmodel.test_queues import reader

FILTER = JobFilter(states=["READY"], labels={}, submitted_after=1_000)
SHOWN = {"states": ["READY"], "submitted_after": format_time(1_000)}


def bulk(queue: str, name: str, action: BulkAction = BulkAction.PRIORITIZE, **fields: Any) -> c.BulkJobs:
    return c.BulkJobs(queue=queue, command_id=name, action=action, **{"filter": JobFilter(), **fields})


def requested() -> Cluster:
    """Requests about two queues: one is done, one is stopped, one under way."""
    cluster = Cluster()
    for number in range(3):
        submit(cluster, "etl", f"j{number}")
    send(cluster, bulk("etl", "done", reason="late", filter=FILTER, actor="ann@host"))
    cluster.decide(partition_for("etl", PARTITIONS))
    with patch.object(rules, "CHANGED_MAX", 1):
        send(cluster, bulk("etl", "stopped", BulkAction.HOLD))
        send(cluster, c.StopBulk(queue="etl", bulk="stopped"))  # behind a slice
    send(cluster, bulk("web", "under-way", BulkAction.CANCEL))
    return cluster


def test_requests_are_found_while_they_are_under_way_and_behind_their_end() -> None:
    found = reader(requested())
    assert [name for name, _ in bulk_requests.find_all(found, "", "", 10)] == [
        "etl/done",
        "etl/stopped",
        "web/under-way",
    ]
    assert [name for name, _ in bulk_requests.find_all(found, "", "etl/done", 1)] == ["etl/stopped"]
    assert [name for name, _ in bulk_requests.find_all(found, "etl", "", 10)] == ["etl/done", "etl/stopped"]
    assert [name for name, _ in bulk_requests.find_all(found, "etl", "etl/done", 10)] == ["etl/stopped"]
    assert bulk_requests.find_all(found, "et", "", 10) == []
    for name, row in bulk_requests.find_all(found, "", "", 10):
        assert bulk_requests.find(found, *name.split("/")) == row
    assert bulk_requests.find(found, "etl", "don") is None
    assert bulk_requests.find(found, "web", "done") is None


def test_the_document_of_a_request_tells_what_is_asked_for_and_how_far_it_has_come() -> None:
    rows = dict(bulk_requests.find_all(reader(requested()), "", "", 10))
    documents = {name: plain_document(bulk_document(name, row)) for name, row in rows.items()}
    row = rows["etl/done"]
    assert documents["etl/done"] == {
        "request": "etl/done",
        "queue": "etl",
        "id": "done",
        "action": "prioritize",
        "filter": SHOWN,
        "reason": "late",
        "priority": 0,
        "status": "DONE",
        "jobs": 3,
        "looked": 3,
        "changed": 3,
        "refused": 0,
        "begun_at": format_time(row.begun_at),
        "ended_at": format_time(row.ended_at),
        "actor": "ann@host",
    }
    stopped, under_way = documents["etl/stopped"], documents["web/under-way"]
    assert (stopped["status"], stopped["looked"], stopped["filter"], "priority" in stopped) == ("STOPPED", 1, {}, False)
    assert (under_way["status"], under_way["jobs"], "ended_at" in under_way) == ("UNDER_WAY", 0, False)


def test_events_of_requests_are_told_as_users_write_them_and_followed_by_their_queue() -> None:
    cluster = requested()
    told: list[dict[str, Any]] = []
    for writer in cluster.writers:
        for record in writer.records:
            event = codec.decode(record.value)
            if isinstance(event, e.BulkBegun | e.BulkAdvanced | e.BulkStopped | e.JobPrioritized):
                told.append(plain_document(event_document(event, record.partition, record.offset)))
    begun = next(one for one in told if one["event"] == "BulkBegun" and one["details"]["bulk"] == "done")
    assert (begun["queue"], begun["actor"], "job" in begun) == ("etl", "ann@host", False)
    assert begun["details"] == {
        "bulk": "done",
        "action": "prioritize",
        "filter": SHOWN,
        "reason": "late",
        "priority": 0,
        "jobs": 3,
    }
    changed = [one for one in told if one["event"] == "JobPrioritized"]
    assert [one["details"] for one in changed] == [{"priority": 0}] * 3
    assert {(one["cause"], one["cause_ref"]) for one in changed} == {("CONTINUATION", "BULK/etl/done")}
    advanced, _ = [one for one in told if one["event"] == "BulkAdvanced" and one["queue"] == "etl"]
    assert advanced["details"] == {"bulk": "done", "looked": 3, "changed": 3}
    hold = next(one for one in told if one["event"] == "BulkBegun" and one["details"]["bulk"] == "stopped")
    assert "priority" not in hold["details"]
    buffers: dict[int, EventBuffer] = {w.partition: Arrived(w.records) for w in cluster.writers}  # type: ignore[misc]
    texts = "".join(_take(_Stream(buffers, frozenset({b"etl/"}), [0] * PARTITIONS)))
    assert [texts.count(f"event: {name}\n") for name in ("BulkBegun", "BulkAdvanced", "BulkStopped")] == [2, 2, 1]


def test_rows_of_requests_are_shown_in_words() -> None:
    cluster = requested()
    shown = [row for partition in cluster.partitions for row in store_rows.rows(partition.store)]
    assert [row.key for row in shown if row.kind == "process"] == ["BULK web/under-way"]
    assert [(row.key, row.value.changed) for row in shown if row.kind == "bulk_result"] == [
        ("etl/done", 3),
        ("etl/stopped", 1),
    ]


@pytest.mark.parametrize("action", BulkAction)
def test_a_request_without_states_is_about_those_in_which_its_action_makes_sense(action: BulkAction) -> None:
    found = bulk_requests.states_of(action, JobFilter())
    assert {JobState[name] for name in found} == rules.STATES[action]
    assert set(bulk_requests.states_of(action, JobFilter(states=["READY"]))) == {"READY"}
    assert (set(found) <= {state.name for state in TERMINAL}) == (action in (BulkAction.RERUN, BulkAction.PURGE))

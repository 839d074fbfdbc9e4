"""The documents: one shape for each thing in HTTP, CLI and Python, without fields that have no value."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.records import Record
from ftjm.api.http.openapi import openapi_document
from ftjm.api.routes.events import _Stream, _take
from ftjm.api.server import OPERATIONS
from ftjm.cli.history import _row
from ftjm.cli.inspect import describe
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from ftjm.history.jobs import JobView, Recorded, outputs, view
from ftjm.history.newest_attempt import NewestAttempts
from ftjm.readmodel.documents.event import attempt_output, event_document
from ftjm.readmodel.documents.fields import plain_document
from ftjm.readmodel.documents.job import JobDocument, LoggedJobDocument
from ftjm.readmodel.projection import OUTPUT, Projection, kind_of
from ftjm.readmodel.queries import Reader
from ftjm.readmodel.tables import Tables
from tests.adapters.avro.golden import sample
from tests.cli.cluster import PARTITIONS, Cluster
from tests.cli.conftest import without_value
from tests.readmodel.test_projection import feed, send, submit


def by_projection(cluster: Cluster, queue: str, job_id: str) -> JobDocument:
    """The job as HTTP shows it."""
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    projection.flush()
    found = Reader(tables.connection).job(queue, job_id)
    assert found is not None
    return JobDocument(**found.fields())


def by_log(cluster: Cluster, queue: str, job_id: str) -> LoggedJobDocument:
    """The job as the command line and the Python client show it."""
    found: JobView | None = view(events_of(cluster, queue, job_id))
    assert found is not None
    return found.document()


def events_of(cluster: Cluster, queue: str, job_id: str) -> list[e.Event]:
    key = f"{queue}/{job_id}".encode()
    return [codec.decode(r.value) for writer in cluster.writers for r in writer.records if r.key == key]


@pytest.mark.parametrize("status", [0, 3, -9])
def test_every_interface_shows_the_same_job(status: int) -> None:
    cluster = Cluster()
    cluster.outcomes = [(status, b"out", b"")]
    submit(cluster, "default", "a", labels={"team": "x"}, payload=b'{"n":1}', environment={"A": "b"})
    cluster.work()
    document = by_projection(cluster, "default", "a")
    assert plain_document(document) == plain_document(by_log(cluster, "default", "a"))
    assert (document.worker, document.payload, document.env) == ("worker-1", {"n": 1}, {"A": "b"})


@pytest.mark.parametrize(
    ("status", "shown"), [(0, {"exit_code": 0}), (3, {"exit_code": 3}), (-9, {"signal": 9})], ids=["0", "3", "SIGKILL"]
)
def test_a_process_has_an_exit_code_or_a_signal(status: int, shown: dict[str, int]) -> None:
    cluster = Cluster()
    cluster.outcomes = [(status, b"out", b"")]
    submit(cluster, "default", "a")
    cluster.work()
    last = events_of(cluster, "default", "a")[2]
    assert isinstance(last, e.AttemptSucceeded | e.AttemptFailed)
    for document in (by_projection(cluster, "default", "a"), attempt_output(last)):
        plain = plain_document(document)
        assert {name: plain[name] for name in ("exit_code", "signal") if name in plain} == shown


def test_the_signal_is_removed_when_the_job_runs_again() -> None:
    cluster = Cluster()
    cluster.outcomes = [(-9, b"", b""), (0, b"", b"")]
    submit(cluster, "default", "a")
    cluster.work()
    send(cluster, c.RerunJob(queue="default", job_id="a", command_id="again"))
    send(cluster, c.CancelJob(queue="default", job_id="a"))
    for document in (by_projection(cluster, "default", "a"), by_log(cluster, "default", "a")):
        assert (document.state, document.signal, document.exit_code) == ("CANCELLED", None, None)


def test_a_field_without_a_value_is_left_out() -> None:
    cluster = Cluster()
    submit(cluster, "default", "a")
    document = plain_document(by_log(cluster, "default", "a"))
    assert not [name for name, value in document.items() if value in (None, "", {}, [])]
    assert not {"reason", "ended_at", "exit_code", "result", "labels", "worker"} & set(document)
    assert document["submitted_at"].endswith("Z")


def test_every_interface_shows_the_same_event() -> None:
    """The feed, as HTTP's history does, `ftjm history` and `ftjm inspect events`."""
    cluster = Cluster()
    cluster.outcomes = [(3, b"out", b"\xff"), (0, b"", b"")]
    submit(cluster, "default", "a", labels={"team": "x"}, max_attempts=2, backoff_ms=0)
    cluster.work()
    cluster.work()
    seen = []
    for writer in cluster.writers:
        records = [record for record in writer.records if record.key]
        buffers: Any = {writer.partition: Arrived(records)}
        texts = _take(_Stream(buffers, frozenset(), [0] * PARTITIONS))
        for record, text in zip(records, texts, strict=True):
            data = json.loads(text.partition("\ndata: ")[2])
            event = codec.decode(record.value)
            assert data == _row(Recorded(record.partition, record.offset, event)) == describe(record)
            assert not list(without_value(data))
            seen.append(data["event"])
    assert {"JobSubmitted", "AttemptDispatched", "AttemptFailed", "AttemptSucceeded"} <= set(seen)


class Arrived:
    """A buffer of the feed, with records that have arrived."""

    def __init__(self, records: list[Record]) -> None:
        self._arrived = records

    def take(self, _most: int) -> list[Record]:
        return self._arrived


@pytest.mark.parametrize("kind", get_args(e.OutputEvent))
def test_every_event_that_ends_an_attempt_with_its_output_is_found_by_it(kind: type[e.Event]) -> None:
    ended = codec.decode(codec.encode(sample(kind)))
    assert kind_of(kind) == OUTPUT
    assert list(outputs([ended, e.AttemptDeclined(attempt=1, session="s")])) == [ended]
    document = attempt_output(ended)
    assert (document.stdout.encode(), document.stderr_cut, document.attempt) == (
        ended.stdout.decode(errors="replace").encode(), ended.stderr_cut, ended.attempt
    )  # fmt: skip
    newest = NewestAttempts()
    newest.fold("q/a", codec.encode(ended))
    assert newest.signals.get("q/a", None) == getattr(ended, "signal", None) == document.signal


def test_an_event_has_the_length_of_the_output() -> None:
    cluster = Cluster()
    cluster.outcomes = [(3, b"out", b"err")]
    submit(cluster, "default", "a")
    cluster.work()
    event = events_of(cluster, "default", "a")[2]
    document = event_document(event, 0, 7)
    assert (document.event, document.offset, document.attempt) == ("AttemptFailed", 7, 1)
    assert (document.details["stdout_bytes"], document.details["stderr_bytes"]) == (3, 3)
    assert not {"stdout", "stderr"} & set(document.details)


def test_the_openapi_document_has_the_documents_fields_and_no_null() -> None:
    document: dict[str, Any] = json.loads(msgspec.json.encode(openapi_document(OPERATIONS, (), token=False)))
    answers = document["components"]["schemas"]
    assert set(answers["JobAnswer"]["properties"]) == {*JobDocument.__struct_fields__, "freshness"}
    assert "forgotten_at" not in answers["JobAnswer"]["properties"], "HTTP does not know forgotten jobs"
    assert "exit_code" not in answers["JobAnswer"]["required"]
    documents = [name for name in answers if name.endswith(("Document", "Answer", "Page", "Summary"))]
    assert len(documents) > 10
    assert '"null"' not in json.dumps([answers[name] for name in documents])
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"].endswith(".")


def test_a_spec_shows_only_what_differs_from_the_defaults() -> None:
    cluster = Cluster()
    submit(cluster, "default", "a", priority=70)
    spec = event_document(events_of(cluster, "default", "a")[0], 0, 0).details["spec"]
    assert (spec["priority"], "max_attempts" in spec) == (70, False)
    assert JobSpec().max_attempts == 1

"""Jobs whose submission was trimmed from the log: every interface knows them, and shows the same."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ftjm.adapters.records import Record
from ftjm.cli.options import load_settings
from ftjm.client import answers
from ftjm.core.identity import partition_for
from ftjm.core.placement import Offer
from ftjm.history.jobs import JobView, view
from ftjm.readmodel.documents.fields import plain_document
from ftjm.readmodel.documents.job import JobDocument
from ftjm.readmodel.loading import load
from ftjm.readmodel.projection import Projection
from ftjm.readmodel.queries import Reader
from ftjm.readmodel.tables import Tables
from ftjm.sdk.client import Client
from tests.cli.cluster import PARTITIONS, SESSION, Cluster, FakeScan
from tests.client.no_answers import NoAnswers
from tests.readmodel.test_documents import by_projection, events_of
from tests.readmodel.test_projection import feed, submit

HOME = partition_for("default", PARTITIONS)
OFFER = Offer(SESSION, "worker-1", 0, 5_000, ("default",), 1, 100)
SHAPES = ("succeeded", "killed", "waits for its retry", "dispatched", "never dispatched")


def make(cluster: Cluster, shape: str) -> None:
    """Bring the job default/a into the wanted shape."""
    cluster.outcomes = [(-9, b"out", b"")] if shape in ("killed", "waits for its retry") else [(0, b"out", b"")]
    submit(cluster, "default", "a", max_attempts=2 if shape == "waits for its retry" else 1)
    if shape == "dispatched":
        cluster.decide(HOME, [OFFER])
    elif shape != "never dispatched":
        cluster.work()


def by_events(cluster: Cluster) -> dict[str, Any]:
    """The job by all its events."""
    found: JobView | None = view(events_of(cluster, "default", "a"))
    assert found is not None
    return plain_document(found.document())


class Snapshots:
    """The repository of the cluster's snapshots."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def restore(self, partition: int, path: Path) -> object:
        return self._cluster.restore(partition, path) or None


def by_loaded_projection(cluster: Cluster) -> dict[str, Any]:
    """The job as an API shows it that had to load the snapshot."""
    tables = Tables(None)
    scan: Any = FakeScan(cluster, "ftjm.events")
    snapshots: Any = Snapshots(cluster)
    projection = Projection(tables, "log", PARTITIONS)
    for partition in projection.trimmed({p: scan.bounds(p)[0] for p in range(PARTITIONS)}):
        assert load(tables, snapshots, scan, partition)
    projection.reopen()
    feed(cluster, projection)
    projection.flush()
    found = Reader(tables.connection).job("default", "a")
    assert found is not None
    return plain_document(JobDocument(**found.fields()))


@pytest.fixture
def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(answers, "LaneReader", NoAnswers)
    with Client(settings=load_settings()) as client:
        yield client


@pytest.mark.parametrize("shape", SHAPES)
def test_every_interface_shows_all_of_a_job_while_the_log_has_its_attempts(cluster, ftjm_json, client, shape):
    make(cluster, shape)
    whole = by_events(cluster)
    assert plain_document(by_projection(cluster, "default", "a")) == whole
    assert whole.get("signal") == (9 if shape == "killed" else None)
    assert whole.get("worker") == (None if shape == "never dispatched" else "worker-1")
    cluster.trim(to_end=False)
    assert by_loaded_projection(cluster) == whole
    assert ftjm_json("get", "a") == whole
    assert plain_document(client.job("a").status()) == whole


@pytest.mark.parametrize("shape", SHAPES)
def test_without_its_events_a_job_shows_all_but_the_worker_and_the_signal(cluster, ftjm_json, client, shape):
    make(cluster, shape)
    whole = by_events(cluster)
    cluster.trim(to_end=True)
    rest = {name: value for name, value in whole.items() if name not in ("worker", "signal")}
    if shape == "dispatched":  # its session is known, and names the worker
        rest["worker"] = "worker-1"
    assert by_loaded_projection(cluster) == rest
    assert ftjm_json("get", "a") == rest
    assert plain_document(client.job("a").status()) == rest


def test_the_jobs_of_a_replayed_partition_have_their_workers(cluster, ftjm_json):
    make(cluster, "succeeded")
    [listed] = ftjm_json("replay", "-p", str(HOME), "--jobs")
    assert (listed["job"], listed["worker"]) == ("default/a", "worker-1")
    cluster.trim(to_end=False)
    assert ftjm_json("replay", "-p", str(HOME), "--jobs") == [listed]


def test_an_event_after_the_snapshot_counts(cluster, ftjm_json):
    make(cluster, "never dispatched")
    cluster.trim(to_end=True)
    cluster.outcomes = [(-15, b"", b"")]
    cluster.work()
    job = ftjm_json("get", "a")
    assert (job["state"], job["worker"], job["signal"]) == ("FAILED", "worker-1", 15)
    assert by_loaded_projection(cluster) == job


# ---- the Python client


def test_a_handle_of_an_ended_job_has_its_result(cluster, client):
    make(cluster, "succeeded")
    cluster.trim(to_end=True)
    handle = client.job("a")
    assert handle.state() == "SUCCEEDED"
    assert handle.result(timeout=5) == {"ok": True}
    assert [status.state for status in handle.watch(timeout=5)] == ["SUCCEEDED"]


def test_a_handle_of_an_open_job_is_watched_to_its_end(cluster, client):
    make(cluster, "never dispatched")
    cluster.trim(to_end=True)
    watched = client.job("a").watch(timeout=5)
    assert next(watched).state == "READY"
    cluster.work()
    assert [status.state for status in watched][-1] == "SUCCEEDED"


def test_a_handle_of_an_unknown_job_says_so(cluster, client):
    make(cluster, "succeeded")
    cluster.trim(to_end=True)
    assert client.job("none").state() == "UNKNOWN"
    with pytest.raises(LookupError):
        client.job("none").status()


# ---- logs


class WouldWaitError(Exception):
    """The reader waits for new records."""


@pytest.fixture
def following(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that follows the log works until nothing happens any more, and then fails instead of waiting."""
    read = FakeScan.read

    def follow(
        self: FakeScan, starts: Mapping[int, int], *, follow: bool = False, **options: Any
    ) -> Generator[Record, None, None]:
        if follow:
            cluster.work()
        yield from read(self, starts, **options)
        if follow:
            raise WouldWaitError

    monkeypatch.setattr(FakeScan, "read", follow)


@pytest.mark.usefixtures("following")
@pytest.mark.parametrize("to_end", [True, False])
def test_following_an_ended_job_ends(cluster, ftjm, to_end):
    make(cluster, "succeeded")
    cluster.trim(to_end=to_end)
    result = ftjm("logs", "-f", "a")
    assert (result.exit_code, result.stdout) == (0, "" if to_end else "out")
    assert "not in the log yet" not in result.stderr


@pytest.mark.usefixtures("following")
def test_following_an_open_job_ends_with_the_job(cluster, ftjm):
    make(cluster, "never dispatched")
    cluster.trim(to_end=True)
    assert (result := ftjm("logs", "-f", "a")).exit_code == 0, result.exception
    assert result.stdout == "out"


@pytest.mark.usefixtures("following")
def test_following_an_unknown_job_waits(cluster, ftjm):
    make(cluster, "succeeded")
    cluster.trim(to_end=True)
    result = ftjm("logs", "-f", "none")
    assert "default/none is not in the log yet" in result.stderr
    assert isinstance(result.exception, WouldWaitError)


def test_missing_output_of_a_trimmed_job_is_an_error_that_says_why(cluster, ftjm):
    make(cluster, "succeeded")
    cluster.trim(to_end=True)
    result = ftjm("logs", "a")
    assert result.exit_code == 1
    assert "it is SUCCEEDED, attempt 1; output comes into the log when the attempt has ended, and is" in result.stderr

"""The projection, compared with the engine that made the log: every row is the same as the owner's."""

from __future__ import annotations

import random

import pytest

from ftjm.adapters.avro import codec
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec, JobState, Position, job_key
from ftjm.engine.partition import Diverged
from ftjm.readmodel.documents.queue import states_of
from ftjm.readmodel.projection import Projection
from ftjm.readmodel.queries import Filter, Reader
from ftjm.readmodel.tables import LAYOUT_VERSION, Tables
from tests.cli.cluster import PARTITIONS, Cluster

DAY = 86_400_000


def feed(cluster: Cluster, projection: Projection, since: dict[int, int] | None = None) -> None:
    since = since or projection.starts()
    for partition, writer in enumerate(cluster.writers):
        for record in writer.records:
            if record.offset >= since[partition]:
                projection.apply(partition, record.offset, record.key, record.value)


def submit(cluster: Cluster, queue: str, job_id: str, **fields: object) -> None:
    spec = JobSpec(command=["true"], **fields)  # type: ignore[arg-type]
    send(cluster, c.SubmitJob(queue=queue, job_id=job_id, spec=spec))


def send(cluster: Cluster, command: c.Command) -> None:
    from ftjm.core.identity import partition_for

    partition = partition_for(command.queue, PARTITIONS)
    cluster.append(partition, command.queue.encode(), codec.encode(command), [])


def long_history() -> Cluster:
    """A history with events of every kind."""
    made, chance = Cluster(), random.Random(7)
    for n in range(60):
        queue = f"q{n % 3}"
        submit(made, queue, f"j{n}", labels={"n": str(n % 4)}, held=n % 11 == 0, max_attempts=1 + n % 3)
        if n % 5 == 0:
            made.outcomes = [(chance.choice([0, 1]), b"out", b"err") for _ in range(3)]
            made.work("q0", "q1", "q2")
        if n % 7 == 0:
            send(made, c.CancelJob(queue=queue, job_id=f"j{n}"))
        if n % 13 == 0:
            send(made, c.RerunJob(queue=queue, job_id=f"j{n}", command_id=f"again-{n}"))
    return made


@pytest.fixture
def cluster() -> Cluster:
    return long_history()


def compare(cluster: Cluster, reader: Reader) -> None:
    for partition in cluster.partitions:
        for key, raw in partition.store.scan(b"j", b"k"):
            queue, _, job_id = key[1:].decode().partition("/")
            found = reader.job(queue, job_id)
            assert found is not None
            state = partition.state
            assert found.listed.job == state.job(job_key(queue, job_id)), raw
            assert found.spec == state.spec(job_key(queue, job_id))
            assert found.outcome == state.outcome(job_key(queue, job_id))
    everything = [key for p in cluster.partitions for key, _ in p.store.scan(b"j", b"k")]
    page = reader.jobs(Filter(), 1_000)
    assert sorted(listed.key for listed in page.jobs) == sorted(key[1:].decode() for key in everything)
    assert page.next is None
    counts = {
        name: {state.name: row.counts[state] for state in JobState if row.counts[state]}
        for p in cluster.partitions
        for name, row in p.state.queues()
    }
    assert {name: states_of(rows.counts) for name, rows in reader.queues("", 100)} == counts


def test_rows_are_the_owners_rows(cluster):
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    assert projection.flush()
    compare(cluster, Reader(tables.connection))
    positions = Reader(tables.connection).positions()
    assert [positions[p].next_command for p in range(PARTITIONS)] == [
        p.position.next_command for p in cluster.partitions
    ]


def test_after_a_restart_between_any_two_records_the_projection_goes_on(cluster, tmp_path):
    records = [record for writer in cluster.writers for record in writer.records]
    for cut in range(1, len(records), 37):
        path = tmp_path / f"{cut}.db"
        tables = Tables(path)
        first = Projection(tables, "log", PARTITIONS)
        for record in records[:cut]:
            first.apply(record.partition, record.offset, record.key, record.value)
        first.flush()
        tables.close()
        tables = Tables(path)
        second = Projection(tables, "log", PARTITIONS)
        feed(cluster, second)
        second.flush()
        compare(cluster, Reader(tables.connection))
        _indexed_events_are_complete(cluster, Reader(tables.connection))
        tables.close()


def _indexed_events_are_complete(cluster: Cluster, reader: Reader) -> None:
    for listed in reader.jobs(Filter(), 1_000).jobs:
        offsets = [
            record.offset
            for writer in cluster.writers
            for record in writer.records
            if record.key.decode() == listed.key
        ]
        assert reader.events(listed.id, -1, 1_000) == offsets
        outputs = [
            record.offset
            for writer in cluster.writers
            for record in writer.records
            if record.key.decode() == listed.key
            and isinstance(codec.decode(record.value), e.AttemptSucceeded | e.AttemptFailed)
        ]
        assert reader.outputs(listed.id) == outputs


def test_a_forgotten_job_is_deleted_with_all_its_rows_and_may_be_submitted_again(cluster):
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    projection.flush()
    cluster.now += 8 * DAY
    for partition in range(PARTITIONS):
        cluster.decide(partition)
    feed(cluster, projection)
    projection.flush()
    compare(cluster, Reader(tables.connection))
    ended = [p.state.job(key[1:].decode()) for p in cluster.partitions for key, _ in p.store.scan(b"j", b"k")]
    assert not [job for job in ended if job and job.ended_at and job.ended_at < cluster.now - 7 * DAY]
    for table in ("specs", "events", "labels", "outcomes"):
        column = "job" if table in ("events", "labels") else "id"
        query = f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT id FROM jobs)"
        assert tables.connection.execute(query).fetchone() == (0,), table
    submit(cluster, "q1", "j1", labels={"n": "2"})
    feed(cluster, projection)
    projection.flush()
    compare(cluster, Reader(tables.connection))


def test_a_job_has_the_name_of_its_worker(cluster):
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    projection.flush()
    jobs = Reader(tables.connection).jobs(Filter(states=(JobState.SUCCEEDED,)), 100).jobs
    assert {listed.worker for listed in jobs} == {"worker-1"}


def test_tables_of_another_log_or_layout_are_cleared(cluster, tmp_path):
    path = tmp_path / "p.db"
    tables = Tables(path)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    projection.flush()
    tables.close()
    tables = Tables(path)
    assert Projection(tables, "another", PARTITIONS).starts() == dict.fromkeys(range(PARTITIONS), 0)
    assert Reader(tables.connection).jobs(Filter(), 10).jobs == []
    feed(cluster, Projection(tables, "another", PARTITIONS))
    tables.connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION + 1}")
    tables.close()
    tables = Tables(path)
    assert tables.meta("log_id") == ""
    tables.close()
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    tables = Tables(path)
    assert tables.meta("log_id") == ""
    tables.close()


def test_a_projection_that_disagrees_with_the_log_raises_diverged(cluster):
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    feed(cluster, projection)
    projection.flush()
    closed = e.BatchClosed(
        batch_no=99,
        now=1,
        next_command=0,
        owner_epoch=1,
        owner="x",
        outbox_sent=0,
        events=0,
        state_version=Position().state_version,
        state_hash=b"another",
    )
    with pytest.raises(Diverged):
        projection.apply(0, 1_000_000, b"", codec.encode(closed))


def test_readers_see_no_event_before_its_batch_is_closed(cluster):
    tables = Tables(None)
    projection = Projection(tables, "log", PARTITIONS)
    [first, *_] = cluster.writers[0].records
    projection.apply(0, first.offset, first.key, first.value)
    assert projection.flush() is False
    assert Reader(tables.connection).jobs(Filter(), 10).jobs == []

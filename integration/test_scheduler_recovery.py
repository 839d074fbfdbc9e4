"""After a restart of everything, with lost stores or foreign ones, each store equals the log, byte by byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.rocksdb import RocksStore
from ftjm.client.command_client import Client
from ftjm.core.records import events as e
from ftjm.core.records.commands import ReleaseJob, SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import POSITION_KEY, load_position
from ftjm.history.replay import verify
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK, Cluster, LogTail, Process
from integration.test_metrics import until_ready, until_shown
from integration.waiting import LIMIT_SECONDS, until

PARTITIONS = range(4)
STILL_LOOKS = 40
"""A log that has no new batch in so many looks rests: some 2 s, more on a busy machine."""
Rows = dict[bytes, bytes]


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka that the test may stop."""
    with EmbeddedKafka(tmp_path / "kafka", 1, free_base_port()) as started:
        yield started


def test_all_schedulers_and_the_broker_start_again(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with Cluster(cluster_on(own_kafka, tmp_path / "data"), tmp_path) as cluster:
        both = [cluster.scheduler("a"), cluster.scheduler("b")]
        worker = cluster.worker()
        jobs = some_of_everything(cluster, "x")
        assert worker.stop() == 0
        until_settled(cluster, jobs)
        stop_when_folded(*both)
        before = rows_of_all(cluster, "b")

        own_kafka.stop()
        own_kafka.start()
        for scheduler in both:
            scheduler.start()
        cluster.until_owners("a", "b")
        for scheduler in both:
            scheduler.kill()
        own_kafka.kill_broker(0)
        own_kafka.stop()
        own_kafka.start()
        for scheduler in both:
            scheduler.start()
        cluster.until_owners("a", "b")
        until_settled(cluster, jobs)
        stop_when_folded(*both)
        assert rows_of_all(cluster, "a") == rows_of_all(cluster, "b") == before
        assert_stores_equal_the_log(cluster, "a", "b")

        # The cluster works: the jobs that waited go on.
        both[0].start()
        worker.start()
        held = [(queue, f"x-held-{queue}") for queue in QUEUES]
        with Client(cluster.settings) as client:
            tickets = [client.send(ReleaseJob(queue=queue, job_id=job_id)) for queue, job_id in held]
            client.confirm()
            assert client.decided(tickets, LIMIT_SECONDS)
        cluster.until_done([*jobs, *held]).check([*jobs, *held])
        assert [scheduler.error_lines() for scheduler in both] == [[], []]


def test_a_store_that_was_deleted_is_rebuilt_byte_for_byte(running: Cluster) -> None:
    both = [running.scheduler("a"), running.scheduler("b")]
    worker = running.worker()
    jobs = some_of_everything(running, "x")
    assert worker.stop() == 0
    until_settled(running, jobs)
    assert both[0].stop() == 0
    for p in PARTITIONS:
        shutil.rmtree(running.store("a", p))
    both[0].start()
    running.until_owners("a", "b")
    until_settled(running, jobs)
    stop_when_folded(*both)
    assert rows_of_all(running, "a") == rows_of_all(running, "b")
    assert_stores_equal_the_log(running, "a", "b")
    running.log().check(jobs)
    assert [scheduler.error_lines() for scheduler in both] == [[], []]


def test_stores_that_do_not_descend_from_the_log_are_discarded(
    running: Cluster, kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with Cluster(cluster_on(kafka, tmp_path / "other-data"), tmp_path / "other") as other:
        stranger = other.scheduler("a")
        some_of_everything(other, "longer", run=False)
        assert stranger.stop() == 0
    scheduler = running.scheduler("a")
    worker = running.worker()
    jobs = some_of_everything(running, "x")
    assert worker.stop() == 0
    until_settled(running, jobs)
    assert scheduler.stop() == 0
    before = rows_of_all(running, "a")

    put_ahead(running.store("a", 0))
    change_the_last_batch(running.store("a", 1))
    shutil.rmtree(running.store("a", 2))
    shutil.copytree(other.store("a", 2), running.store("a", 2))
    (running.store("a", 3) / "CURRENT").write_bytes(b"no manifest of that name")
    scheduler.start()
    running.until_owners("a")
    until_settled(running, jobs)
    reasons = {line["partition"]: line["reason"] for line in scheduler.log_lines("store_discarded")}
    assert "cannot be read at its offset" in reasons[0]
    assert "another record" in reasons[1]
    assert "another log" in reasons[2]
    assert scheduler.stop() == 0
    assert rows_of_all(running, "a") == before
    assert_stores_equal_the_log(running, "a")
    running.log().check(jobs)


def test_stores_of_a_deleted_log_are_not_used_with_its_successor(running: Cluster) -> None:
    scheduler = running.scheduler("a")
    some_of_everything(running, "x", run=False)
    assert scheduler.stop() == 0
    settings = running.settings
    admin = AdminClient(settings.kafka_settings("test"))
    logs = {settings.topic(kind) for kind in ("commands", "events")}
    for deleted in admin.delete_topics([*logs]).values():
        deleted.result()
    # A topic that is still being deleted would be found, and not be created again.
    until(lambda: not logs & admin.list_topics(timeout=60).topics.keys(), "the topics to be deleted")
    assert {*topics.create(settings).created} == logs
    scheduler.start()
    jobs = some_of_everything(running, "y", run=False)
    discarded = until(lambda: scheduler.log_lines("store_discarded"), "the stores to be discarded")
    assert all("another log" in line["reason"] for line in discarded)
    running.worker()
    running.until_done(jobs).check(jobs)
    assert scheduler.stop() == 0
    assert scheduler.error_lines() == []
    assert_stores_equal_the_log(running, "a")
    assert not any(key.endswith(b"/x-0") for kept in rows_of_all(running, "a").values() for key in kept)


# ---- helpers


def some_of_everything(cluster: Cluster, name: str, *, run: bool = True) -> list[tuple[str, str]]:
    """Submit jobs for many states to every partition. Return those that succeed (with `run`, they have succeeded)."""
    waiting = {
        "held": JobSpec(command=QUICK, held=True),
        "later": JobSpec(command=QUICK, delay_ms=3_600_000),
        "elsewhere": JobSpec(command=QUICK, labels={"a": "b"}, environment={"C": "d"}, payload=b"[1]", priority=7),
    }
    quick = [SubmitJob(queue=q, job_id=f"{name}-{n}", spec=JobSpec(command=QUICK)) for q in QUEUES for n in range(5)]
    others = [
        SubmitJob(queue="nobody" if kind == "elsewhere" else q, job_id=f"{name}-{kind}-{q}", spec=spec)
        for q in QUEUES
        for kind, spec in waiting.items()
    ]
    with Client(cluster.settings) as client:
        tickets = [client.send(command) for command in (*quick, *others)]
        client.confirm()
        assert client.decided(tickets, LIMIT_SECONDS)
        assert not any(ticket.refused for ticket in tickets)
    jobs = [(command.queue, command.job_id) for command in quick]
    if run:
        cluster.until_done(jobs)
    return jobs


def until_settled(cluster: Cluster, jobs: list[tuple[str, str]]) -> None:
    """Wait until the jobs have ended, each partition has let their worker go, and no more batches are written."""
    cluster.until_done(jobs)
    seen: list[int] = []

    def still() -> bool:
        logs = tail.read_on().batches.values()
        seen.append(sum(map(len, logs)))
        left = all(any(isinstance(event, e.WorkerLost) for b in found for event in b.events) for found in logs)
        return left and len(seen) >= STILL_LOOKS and len(set(seen[-STILL_LOOKS:])) == 1

    with LogTail(cluster.settings) as tail:
        until(still, "the log to rest")


def stop_when_folded(*schedulers: Process) -> None:
    """Stop schedulers whose stores have all that is in the log."""
    for scheduler in schedulers:
        until_ready(scheduler)
        until_shown(scheduler, "ftjm_replay_lag_events", 0)
    assert [scheduler.stop() for scheduler in schedulers] == [0] * len(schedulers)


def rows_of_all(cluster: Cluster, name: str) -> dict[int, Rows]:
    """All rows in the stores of a stopped scheduler, without the positions, since a takeover moves only those."""
    found = {}
    for p in PARTITIONS:
        with closing(RocksStore(cluster.store(name, p), read_only=True)) as store:
            found[p] = {key: value for key, value in store.scan(b"", b"\xff") if key != POSITION_KEY}
    return found


def assert_stores_equal_the_log(cluster: Cluster, *names: str) -> None:
    """Check that folding the log up to the store's position gives every row, also the position."""
    settings = cluster.settings
    with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for name in names:
            for p in PARTITIONS:
                position, difference = verify(scan, p, cluster.store(name, p))
                assert position.applied_offset >= 0
                assert difference is None


def put_ahead(path: Path) -> None:
    """Move a store ahead of its log, as if the broker had lost its last second in a power cut."""
    with closing(RocksStore(path)) as store:
        position = load_position(store)
        ahead = msgspec.structs.replace(
            position, applied_offset=position.applied_offset + 10, batch_no=position.batch_no + 3
        )
        store.write([(POSITION_KEY, encode(ahead)), (b"jq0/never", b"\x90")])


def change_the_last_batch(path: Path) -> None:
    """Change a store's last batch: the log has another record at its position."""
    with closing(RocksStore(path)) as store:
        position = load_position(store)
        store.write([(POSITION_KEY, encode(msgspec.structs.replace(position, state_hash=bytes(range(16)))))])

"""Everything is started again, stores vanish or come from elsewhere: the state is the log's, to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from ftjm.adapters import topics
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.rocks import RocksStore
from ftjm.client import Client
from ftjm.core.commands import ReleaseJob, SubmitJob
from ftjm.core.keys import POSITION_KEY
from ftjm.core.model import JobSpec
from ftjm.core.rows import encode
from ftjm.core.state import load_position
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.ports import free_base_port
from ftjm.replay import verify
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK, Cluster
from integration.test_metrics import until_ready
from integration.waiting import until

pytestmark = pytest.mark.timeout(300)  # several starts of Kafka on a busy host

PARTITIONS = range(4)
Rows = dict[bytes, bytes]


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that the test may stop."""
    with EmbeddedKafka(tmp_path / "kafka", 1, free_base_port()) as started:
        yield started


def test_all_schedulers_and_the_broker_start_again(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with Cluster(cluster_on(own_kafka, tmp_path / "data"), tmp_path) as cluster:
        both = [cluster.scheduler("a"), cluster.scheduler("b")]
        worker = cluster.worker()
        jobs = some_of_everything(cluster, "x")
        assert worker.stop() == 0
        until_settled(cluster, jobs)
        assert [scheduler.stop() for scheduler in both] == [0, 0]
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
        for scheduler in both:
            until_ready(scheduler)
        assert [scheduler.stop() for scheduler in both] == [0, 0]
        assert rows_of_all(cluster, "a") == rows_of_all(cluster, "b") == before
        assert_children_of_the_log(cluster, "a", "b")

        # And it is alive: what waited all the while goes on.
        both[0].start()
        worker.start()
        held = [(queue, f"x-held-{queue}") for queue in QUEUES]
        with Client(cluster.settings) as client:
            tickets = [client.send(ReleaseJob(queue=queue, job_id=job_id)) for queue, job_id in held]
            client.confirm()
            assert client.decided(tickets, 30)
        cluster.until_done([*jobs, *held]).check([*jobs, *held])
        assert [scheduler.complaints() for scheduler in both] == [[], []]


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
    until_ready(both[0])
    assert [scheduler.stop() for scheduler in both] == [0, 0]
    assert rows_of_all(running, "a") == rows_of_all(running, "b")
    assert_children_of_the_log(running, "a", "b")
    running.log().check(jobs)
    assert [scheduler.complaints() for scheduler in both] == [[], []]


def test_stores_that_are_not_children_of_the_log_are_discarded(
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
    reasons = {line["partition"]: line["reason"] for line in scheduler.said("store_discarded")}
    assert "cannot be read at its offset" in reasons[0]
    assert "another record" in reasons[1]
    assert "another log" in reasons[2]
    assert scheduler.stop() == 0
    assert rows_of_all(running, "a") == before
    assert_children_of_the_log(running, "a")
    running.log().check(jobs)


def test_a_log_that_was_made_anew_takes_no_store_of_the_old_one(running: Cluster) -> None:
    scheduler = running.scheduler("a")
    some_of_everything(running, "x", run=False)
    assert scheduler.stop() == 0
    settings = running.settings
    admin = AdminClient(settings.kafka_settings("test"))
    logs = {settings.topic(kind) for kind in ("commands", "events")}
    for deleted in admin.delete_topics([*logs]).values():
        deleted.result()
    # What is still being deleted would be found there, and not be made.
    until(lambda: not logs & admin.list_topics(timeout=10).topics.keys(), "the topics to be gone")
    assert {*topics.create(settings).made} == logs
    scheduler.start()
    jobs = some_of_everything(running, "y", run=False)
    discarded = until(lambda: scheduler.said("store_discarded"), "the stores to be discarded")
    assert all("another log" in line["reason"] for line in discarded)
    running.worker()
    running.until_done(jobs).check(jobs)
    assert scheduler.stop() == 0
    assert scheduler.complaints() == []
    assert_children_of_the_log(running, "a")
    assert not any(key.endswith(b"/x-0") for kept in rows_of_all(running, "a").values() for key in kept)


# ---- what is done and looked at


def some_of_everything(cluster: Cluster, name: str, *, run: bool = True) -> list[tuple[str, str]]:
    """Jobs in many states, in every partition; those that are to succeed (with `run`, they have)."""
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
        assert client.decided(tickets, 30)
        assert not any(ticket.refused for ticket in tickets)
    jobs = [(command.queue, command.job_id) for command in quick]
    if run:
        cluster.until_done(jobs)
    return jobs


def until_settled(cluster: Cluster, jobs: list[tuple[str, str]]) -> None:
    """Wait until the jobs have ended and nothing more is written."""
    cluster.until_done(jobs)
    seen: list[int] = []

    def still() -> bool:
        seen.append(sum(1 for _ in cluster.log().all()))
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    until(still, "the log to rest")


def rows_of_all(cluster: Cluster, name: str) -> dict[int, Rows]:
    """Everything but the positions in the stores of a scheduler that has stopped: a takeover moves those alone."""
    found = {}
    for p in PARTITIONS:
        with closing(RocksStore(cluster.store(name, p), read_only=True)) as store:
            found[p] = {key: value for key, value in store.scan(b"", b"\xff") if key != POSITION_KEY}
    return found


def assert_children_of_the_log(cluster: Cluster, *names: str) -> None:
    """Every row, the position's included, is what the log makes at the store's own position."""
    settings = cluster.settings
    with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for name in names:
            for p in PARTITIONS:
                position, difference = verify(scan, p, cluster.store(name, p))
                assert position.applied_offset >= 0
                assert difference is None


def put_ahead(path: Path) -> None:
    """As a broker leaves it that lost its last second in a power cut: the store has what the log has not."""
    with closing(RocksStore(path)) as store:
        position = load_position(store)
        ahead = msgspec.structs.replace(
            position, applied_offset=position.applied_offset + 10, batch_no=position.batch_no + 3
        )
        store.write([(POSITION_KEY, encode(ahead)), (b"jq0/never", b"\x90")])


def change_the_last_batch(path: Path) -> None:
    """The log has a record at its position, but another one."""
    with closing(RocksStore(path)) as store:
        position = load_position(store)
        store.write([(POSITION_KEY, encode(msgspec.structs.replace(position, state_hash=bytes(range(16)))))])

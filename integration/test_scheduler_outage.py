"""Outages of Kafka: at the start, later, frozen, one broker of three killed. All roles report it, wait and go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka.patience import open_scan
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from ftjm.runtime.config import Settings
from integration.clusters import cluster_on
from integration.harness import Cluster, Load, LogTail, Process
from integration.waiting import until

SHORT_SESSION_MS = 1_500
"""The session of `ftjm up`. It ends while Kafka is frozen."""
FROZEN_SECONDS = 7.0
"""Longer than a worker's lease and than a scheduler's session."""


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka that the test may stop."""
    with EmbeddedKafka(tmp_path / "kafka", 1, free_base_port()) as started:
        yield started


def test_schedulers_and_workers_wait_for_kafka_and_go_on(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = cluster_on(own_kafka, tmp_path / "data", session_timeout_ms=SHORT_SESSION_MS)
    own_kafka.stop()
    with Cluster(settings, tmp_path) as cluster:
        schedulers = [cluster.scheduler("a"), cluster.scheduler("b")]
        passive = cluster.scheduler("p", "ftjm", "--standby")
        cluster.worker()
        for scheduler in schedulers:
            until(lambda s=scheduler: s.log_lines("kafka_unreachable"), "it to say that it waits")  # type: ignore[misc]
        own_kafka.start()
        with cluster.load(per_second=20.0) as load:
            load.until(20)
            decided_since(cluster, now_ms())

            own_kafka.pause(0)
            time.sleep(FROZEN_SECONDS)
            own_kafka.resume(0)
            load.until(20)
            decided_since(cluster, now_ms())

            line_counts = [len(scheduler.log_lines("kafka_unreachable")) for scheduler in schedulers]
            own_kafka.stop()
            for scheduler, before in zip(schedulers, line_counts, strict=True):
                until(partial(says_so_or_has_ended, scheduler, before), "it to say so")
            own_kafka.start()
            load.until(20)
            decided_since(cluster, now_ms())

            own_kafka.kill_broker(0)
            own_kafka.start_broker(0)
            load.until(20)
            decided_since(cluster, now_ms())
        check(cluster, load)
        assert passive.log_lines("standby_activated") == [], "it received no heartbeat, but because Kafka was away"
        start_again_what_has_forgotten(cluster)
        for scheduler in (*schedulers, passive):
            assert scheduler.log_lines("store_discarded") == []


def test_one_broker_of_three_is_killed_under_load(kafka3: EmbeddedKafka, cluster3: Settings, tmp_path: Path) -> None:
    with Cluster(cluster3, tmp_path) as cluster:
        cluster.scheduler("a")
        cluster.scheduler("b")
        cluster.worker()
        with cluster.load(per_second=20.0) as load:
            cluster.until_owners("a", "b")
            load.until(20)
            killed_at = now_ms()
            victim = leader_of(cluster3, "events")
            kafka3.kill_broker(victim)
            load.until(20)
            decided_since(cluster, now_ms())
            back_at = now_ms()
            kafka3.start_broker(victim)
            load.until(20)
            decided_since(cluster, now_ms())
        check(cluster, load)
        log = cluster.log()
        pauses = {p: log.longest_pause_ms(p, killed_at, back_at) for p in log.batches}
        print(f"kill -9 of one broker of three, longest pause in ms by partition: {pauses}")


def test_the_next_leader_answers_where_the_log_ends_after_a_brokers_death(
    kafka3: EmbeddedKafka, cluster3: Settings
) -> None:
    with open_scan(cluster3, "events") as scan:
        before = scan.bounds(0)
        victim = leader_of(cluster3, "events")
        kafka3.kill_broker(victim)
        try:
            assert scan.bounds(0) == before
            assert scan.offset_at(0, now_ms()) == before[1]
        finally:
            kafka3.start_broker(victim)


def leader_of(settings: Settings, kind: str) -> int:
    """The index of the broker that leads the first partition of a topic."""
    topic = settings.topic(kind)
    return (
        AdminClient(settings.kafka_settings("test")).list_topics(topic, timeout=60).topics[topic].partitions[0].leader
        - 1
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def decided_since(cluster: Cluster, since_ms: int) -> None:
    """Wait until every partition has decided a command after this time."""

    def all_have() -> bool:
        start_again_what_has_forgotten(cluster)
        return all(found and found[-1].time_ms > since_ms for found in tail.read_on().batches.values())

    with LogTail(cluster.settings) as tail:
        until(all_have, "every partition to go on")


def ended(process: Process) -> bool:
    return process.popen.poll() is not None


def says_so_or_has_ended(process: Process, before: int) -> bool:
    return ended(process) or len(process.log_lines("kafka_unreachable")) > before


def start_again_what_has_forgotten(cluster: Cluster) -> None:
    """Start again, as an operator's systemd does, each process that has ended because its client has forgotten all
    brokers (decision 017). Nothing else is a reason to end.
    """
    for process in filter(ended, cluster.processes):
        assert "brokers_forgotten" in process.log.read_text(), f"{process.name} has ended; {process.log}"
        process.start()


def check(cluster: Cluster, load: Load) -> None:
    jobs = load.acknowledged
    assert len(jobs) == len(load.tickets)

    def all_done() -> bool:
        start_again_what_has_forgotten(cluster)
        return set(jobs) <= tail.read_on().ended

    with LogTail(cluster.settings) as tail:
        until(all_done, "all jobs to end", 400)
    cluster.log().check(jobs)

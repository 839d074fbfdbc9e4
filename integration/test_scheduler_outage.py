"""Kafka away: at the start, midway, frozen, and one broker of three killed. All say so, wait and go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from ftjm.config import Settings
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.ports import free_base_port
from ftjm.jobhistory import open_scan
from integration.clusters import cluster_on
from integration.harness import Cluster, Load
from integration.waiting import until

pytestmark = pytest.mark.timeout(300)  # several starts of Kafka on a busy host

FROZEN_SECONDS = 7.0
"""Longer than a worker's lease and than a scheduler's session."""


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that the test may stop."""
    with EmbeddedKafka(tmp_path / "kafka", 1, free_base_port()) as started:
        yield started


def test_kafka_is_away_at_the_start_and_midway(own_kafka: EmbeddedKafka, tmp_path: Path) -> None:
    settings = cluster_on(own_kafka, tmp_path / "data")
    own_kafka.stop()
    with Cluster(settings, tmp_path) as cluster:
        schedulers = [cluster.scheduler("a"), cluster.scheduler("b")]
        passive = cluster.scheduler("p", "ftjm", "--standby")
        cluster.worker()
        for scheduler in schedulers:
            until(lambda s=scheduler: s.said("kafka_unreachable"), "it to say that it waits")  # type: ignore[misc]
        own_kafka.start()
        with cluster.load(per_second=20.0) as load:
            load.until(20)
            decided_since(cluster, now_ms())

            own_kafka.pause(0)
            time.sleep(FROZEN_SECONDS)
            own_kafka.resume(0)
            load.until(20)
            decided_since(cluster, now_ms())

            said = [len(scheduler.said("kafka_unreachable")) for scheduler in schedulers]
            own_kafka.stop()
            for scheduler, before in zip(schedulers, said, strict=True):
                until(lambda s=scheduler, n=before: len(s.said("kafka_unreachable")) > n, "it to say so")  # type: ignore[misc]
            own_kafka.start()
            load.until(20)
            decided_since(cluster, now_ms())

            own_kafka.kill_broker(0)
            own_kafka.start_broker(0)
            load.until(20)
            decided_since(cluster, now_ms())
        check(cluster, load)
        assert passive.said("standby_activated") == [], "it heard nobody, since Kafka was away"
        for scheduler in (*schedulers, passive):
            assert scheduler.popen.poll() is None
            assert scheduler.said("store_discarded") == []


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


def test_where_a_log_ends_is_told_by_the_leader_that_comes_after_a_dead_one(
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
        AdminClient(settings.kafka_settings("test")).list_topics(topic, timeout=10).topics[topic].partitions[0].leader
        - 1
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def decided_since(cluster: Cluster, since_ms: int) -> None:
    """Wait until every partition has decided something after this time."""

    def all_have() -> bool:
        batches = cluster.log().batches
        return all(found and found[-1].time_ms > since_ms for found in batches.values())

    until(all_have, "every partition to go on")


def check(cluster: Cluster, load: Load) -> None:
    jobs = load.acknowledged
    assert len(jobs) == len(load.tickets)
    cluster.until_done(jobs).check(jobs)

"""The embedded Kafka: its life, its errors, and that nothing of it is ever left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka_scan import Scan
from ftjm.embedded import settings
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.ports import free_base_port
from ftjm.errors import FtjmError
from integration.clusters import cluster_on
from integration.waiting import until


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path, 1, free_base_port())
    with kafka:
        first = cluster_on(kafka, tmp_path)
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce(first.topic("events"), b"x", partition=0)
        assert producer.flush(10) == 0
        cluster_id = _cluster_id(kafka)
    with kafka:
        assert _cluster_id(kafka) == cluster_id
        assert first.topic("events") in _admin(kafka).list_topics(timeout=10).topics
        assert _end(kafka, first.topic("events")) == 1


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    base = free_base_port()
    named = pytest.raises(FtjmError, match=f"port {base} .* taken by process {os.getpid()}")
    with socket.create_server((settings.HOST, base)), named:
        EmbeddedKafka(tmp_path, 1, base).start()


def test_a_directory_in_use_names_its_user(kafka: EmbeddedKafka) -> None:
    second = EmbeddedKafka(kafka.directory.parent, 1, free_base_port())
    with pytest.raises(FtjmError, match=f"in use by process {os.getpid()}"):
        second.start()


def test_another_number_of_brokers_than_the_data_has_is_refused(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, 1, free_base_port()):
        pass
    with pytest.raises(FtjmError, match="--brokers 1, with which"):
        EmbeddedKafka(tmp_path, 3, free_base_port()).start()


def test_a_broker_that_dies_at_start_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(node: settings.Node) -> dict[str, str]:
        # The storage tool does not look at it; the broker does.
        map_to_tls = {"listener.security.protocol.map": "PLAINTEXT:SSL,CONTROLLER:PLAINTEXT"}
        return original(node) | map_to_tls | {"ssl.keystore.location": "/nowhere"}

    original = settings.server_properties
    monkeypatch.setattr(settings, "server_properties", broken)
    with pytest.raises(FtjmError, match="key store password is not specified"):
        EmbeddedKafka(tmp_path, 1, free_base_port()).start()


def test_a_java_that_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "JAVA_OPTIONS", ("-Xmx512m", "-XX:NoSuchOption"))
    with pytest.raises(FtjmError, match=r"(?s)Java to format.*NoSuchOption"):
        EmbeddedKafka(tmp_path, 1, free_base_port()).start()


def test_a_killed_broker_is_started_again_while_watched(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, 1, free_base_port()) as kafka:
        before = kafka.pid(0)
        os.kill(before, signal.SIGKILL)

        def answers() -> bool:
            kafka.watch()
            return kafka.pid(0) != before and _answers(kafka)

        until(answers, "the broker's second life")


def test_three_brokers_replicate_and_outlive_one(kafka3: EmbeddedKafka, tmp_path: Path) -> None:
    cluster = cluster_on(kafka3, tmp_path)
    topic = _admin(kafka3).list_topics(timeout=10).topics[cluster.topic("events")]
    assert {len(partition.replicas) for partition in topic.partitions.values()} == {3}
    kafka3.kill_broker(0)
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": kafka3.bootstrap, "acks": "all", "log_level": 0})
    for partition in topic.partitions:
        producer.produce(
            cluster.topic("events"), b"x", partition=partition, on_delivery=lambda error, _: errors.append(error)
        )
    assert producer.flush(30) == 0
    assert errors == [None] * len(topic.partitions)
    kafka3.start_broker(0)


def test_a_paused_broker_goes_on_when_resumed(kafka3: EmbeddedKafka) -> None:
    kafka3.pause(1)
    assert until(lambda: psutil.Process(kafka3.pid(1)).status() == psutil.STATUS_STOPPED, "the broker stopped")
    kafka3.resume(1)
    assert until(lambda: _members(kafka3) == {1, 2, 3}, "all three brokers")


def test_nodes_of_a_cluster_differ_in_ports_and_directories_only(tmp_path: Path) -> None:
    node = settings.Node(0, 3, 20_000, tmp_path / "broker-0")
    second = dataclasses.replace(node, index=1, directory=tmp_path / "broker-1")
    one, two = settings.server_properties(node), settings.server_properties(second)
    assert {name for name in one if one[name] != two[name]} == {
        "node.id",
        "listeners",
        "advertised.listeners",
        "log.dirs",
    }
    assert one["min.insync.replicas"] == "2"


def _admin(kafka: EmbeddedKafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})


def _members(kafka: EmbeddedKafka) -> set[int]:
    """The brokers as one of them knows them; none while it does not answer."""
    try:
        return set(_admin(kafka).list_topics(timeout=5).brokers)
    except KafkaException:
        return set()


def _answers(kafka: EmbeddedKafka) -> bool:
    try:
        return bool(_admin(kafka).list_topics(timeout=0.5).brokers)
    except KafkaException:
        return False


def _cluster_id(kafka: EmbeddedKafka) -> str:
    return str(_admin(kafka).list_topics(timeout=10).cluster_id)


def _end(kafka: EmbeddedKafka, topic: str) -> int:
    """Asked until it is told: a broker that has just come back may not know its own epoch yet."""
    with Scan({"bootstrap.servers": kafka.bootstrap}, topic, committed=False) as scan:
        return scan.bounds(0)[1]

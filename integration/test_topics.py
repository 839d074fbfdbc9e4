"""Topics on a real Kafka: created once, and compared setting by setting."""

from __future__ import annotations

import subprocess
import sys

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from ftjm.adapters.kafka import topics
from ftjm.runtime import config
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from integration.waiting import until


def test_creating_twice_changes_nothing(cluster: Settings) -> None:
    done = topics.create(cluster)
    assert (done.created, len(done.unchanged), done.repaired) == ([], 6, [])
    assert topics.check(cluster) == []


def test_a_changed_setting_is_found_and_repaired(cluster: Settings) -> None:
    _alter(cluster, cluster.topic("events"), "retention.ms", "3600000")
    (difference,) = topics.check(cluster)
    assert (difference.topic, difference.setting) == (cluster.topic("events"), "retention.ms")
    assert (difference.expected, difference.found) == ("-1", "3600000")
    assert topics.create(cluster).repaired == []
    assert topics.create(cluster, repair=True).repaired == [cluster.topic("events")]
    until(lambda: topics.check(cluster) == [], "the repair to reach the broker that answers")


def test_the_command_exits_1_and_says_what_to_do(cluster: Settings) -> None:
    _alter(cluster, cluster.topic("commands"), "message.timestamp.type", "CreateTime")
    command = [sys.executable, "-m", "ftjm", "topics", "check"]
    environment = cluster.environment()
    checked = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert checked.returncode == 1
    assert "message.timestamp.type" in checked.stdout
    assert "topics create --repair" in checked.stdout


def test_another_count_of_partitions_is_found(cluster: Settings) -> None:
    other = config.load(**{**cluster.model_dump(), "partitions": 8})
    assert {(d.setting, d.expected, d.found) for d in topics.check(other)} == {("partitions", "8", "4")}
    with pytest.raises(FtjmError, match="FTJM_PARTITIONS=4"):
        topics.create(other)


def test_a_lease_too_short_for_the_brokers_is_a_warning(cluster: Settings) -> None:
    other = config.load(**{**cluster.model_dump(), "lease_seconds": 4})
    (difference,) = topics.check(other)
    assert (difference.severity, difference.setting) == ("warning", "broker.session.timeout.ms")


def _alter(cluster: Settings, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(cluster.kafka_settings("test"))
    (future,) = admin.incremental_alter_configs([resource]).values()
    future.result()
    until(lambda: topics.check(cluster), "the change to reach the broker that answers")

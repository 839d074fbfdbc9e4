"""The topics of a cluster: the settings that each must have. Creates, checks and deletes them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ftjm.adapters.kafka.admin_answer import admin_answer
from ftjm.adapters.kafka.errors import log_errors
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, Unreachable

REQUEST_SECONDS = 15.0
"""How long a request to Kafka may take."""
MIB = 1024 * 1024
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
BROKER_FAILOVER_SECONDS = 3.0
"""Time from the end of a dead broker's session until leaders are elected and clients are connected again, at most."""

ALL_TOPICS = {"unclean.leader.election.enable": "false"}
# Not the producers' time: a wrong clock of one producer must not make Kafka delete records that are not read yet.
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
LARGE_RECORDS = {"max.message.bytes": str(4 * MIB)}
KEEP_FOREVER = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": str(64 * MIB),
}


def _keep_for(retention_ms: int, segment_ms: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        # Kafka deletes only closed segments. So a small segment, too, is closed long before the retention ends.
        "segment.ms": str(segment_ms),
        "segment.bytes": str(64 * MIB),
    }


# Kind of topic: the setting that has its number of partitions, and its own configuration.
TOPICS: Mapping[str, tuple[Literal["partitions", "lanes"], Mapping[str, str]]] = {
    "commands": ("partitions", KEEP_FOREVER | BROKER_TIME | LARGE_RECORDS),
    "events": ("partitions", KEEP_FOREVER | BROKER_TIME | LARGE_RECORDS),
    "dispatch": ("lanes", _keep_for(24 * HOUR_MS, HOUR_MS) | BROKER_TIME | LARGE_RECORDS),
    "replies": ("lanes", _keep_for(HOUR_MS, 10 * MINUTE_MS) | BROKER_TIME | LARGE_RECORDS),
    "heartbeats": ("lanes", _keep_for(HOUR_MS, 10 * MINUTE_MS) | BROKER_TIME | LARGE_RECORDS),
    "snapshots": (
        "partitions",
        {"cleanup.policy": "compact", "segment.ms": str(10 * MINUTE_MS), "segment.bytes": str(64 * MIB)}
        # The manifest of a store of many gigabytes is longer than 1 MB.
        | LARGE_RECORDS,
    ),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be, or as it was found. The `config` of a found topic has all settings that Kafka knows."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """A setting that differs from the expected one. An `error` can lose or delay work; a `warning` may be intended."""

    severity: Literal["error", "warning"]
    topic: str
    setting: str
    expected: str
    found: str
    todo: str


@dataclass(frozen=True, slots=True)
class Created:
    """The result of `create`: the names of the topics that it created, left unchanged and repaired."""

    created: list[str]
    unchanged: list[str]
    repaired: list[str]


def wanted(settings: Settings, brokers: int) -> list[Topic]:
    """Return all topics of the cluster as they should be, for a Kafka with this number of brokers."""
    replicas = settings.replication_factor or min(3, brokers)
    shared = {**ALL_TOPICS, "min.insync.replicas": "2" if replicas >= 3 else "1"}
    return [
        Topic(
            settings.topic(kind),
            settings.partitions if counted_by == "partitions" else settings.lanes,
            replicas,
            {**shared, **config},
        )
        for kind, (counted_by, config) in TOPICS.items()
    ]


@log_errors()
def create(settings: Settings, *, repair: bool = False) -> Created:
    """Create the topics that are missing, and wait until all topics have leaders.

    Args:
        settings: with the names, partitions and replicas of the topics.
        repair: whether to correct the settings of topics that exist.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: Kafka refuses a topic; or a topic has another number of partitions, which would move keys to other
            partitions than before.
    """
    admin, metadata = _connect(settings)
    topics = wanted(settings, len(metadata.brokers))
    _require_counts(topics, metadata)
    missing = [topic for topic in topics if topic.name not in metadata.topics]
    created = _create_missing(admin, missing)
    _await_leaders(admin, [topic.name for topic in topics])
    existing = [topic.name for topic in topics if topic.name not in created]
    repaired = _repair(admin, [topic for topic in topics if topic.name in existing]) if repair else []
    return Created(created, [name for name in existing if name not in repaired], repaired)


@log_errors()
def delete(settings: Settings) -> None:
    """Delete all topics of the cluster with their records. A missing topic is no error. Raises Unreachable."""
    admin, metadata = _connect(settings)
    present = [settings.topic(kind) for kind in TOPICS if settings.topic(kind) in metadata.topics]
    for deleted in admin.delete_topics(present, operation_timeout=REQUEST_SECONDS).values() if present else ():
        deleted.result()


@log_errors()
def check(settings: Settings) -> list[TopicDifference]:
    """Compare topics and brokers with the settings that ftjm needs. Returns the differences. Raises Unreachable."""
    admin, metadata = _connect(settings)
    topics = wanted(settings, len(metadata.brokers))
    found = _found(admin, metadata, [topic.name for topic in topics])
    listed = [difference for topic in topics for difference in differences(topic, found.get(topic.name))]
    return listed + broker_differences(settings, _broker_config(admin, metadata))


def differences(topic: Topic, found: Topic | None) -> list[TopicDifference]:
    """Compare a topic with the wanted one.

    Args:
        topic: the topic as it should be.
        found: the topic in Kafka; None if it is missing.
    """
    if found is None:
        return [TopicDifference("error", topic.name, "topic", "present", "absent", "run `ftjm topics create`")]
    listed = []

    def differs(setting: str, expected: object, actual: object, todo: str) -> None:
        if expected != actual:
            listed.append(TopicDifference("error", topic.name, setting, str(expected), str(actual), todo))

    differs("partitions", topic.partitions, found.partitions, _adapt_count(topic, found.partitions))
    differs(
        "replication factor",
        topic.replication_factor,
        found.replication_factor,
        "reassign its partitions with kafka-reassign-partitions.sh, or set FTJM_REPLICATION_FACTOR",
    )
    for name, value in topic.config.items():
        differs(name, value, found.config.get(name, "unset"), "run `ftjm topics create --repair`")
    return listed


def broker_differences(settings: Settings, broker: Mapping[str, str]) -> list[TopicDifference]:
    """Return the differences where settings of the brokers do not fit the settings of ftjm.

    Args:
        settings: the settings of ftjm.
        broker: the settings of one broker; empty if this client may not read them.
    """
    listed = []
    least_ms = int(broker.get("group.min.session.timeout.ms", 0))
    if settings.session_timeout_ms < least_ms:
        listed.append(
            TopicDifference(
                "error",
                "(brokers)",
                "group.min.session.timeout.ms",
                f"at most {settings.session_timeout_ms}, the session_timeout_ms of ftjm",
                str(least_ms),
                f"set FTJM_SESSION_TIMEOUT_MS={least_ms}, or lower the brokers' setting",
            )
        )
    session_ms = int(broker.get("broker.session.timeout.ms", 0))
    lease_needed = session_ms / 1000 + BROKER_FAILOVER_SECONDS
    if session_ms and settings.lease_seconds < lease_needed:
        listed.append(
            TopicDifference(
                "warning",
                "(brokers)",
                "broker.session.timeout.ms",
                f"at most {max(0.0, settings.lease_seconds - BROKER_FAILOVER_SECONDS):g} s for leases of "
                f"{settings.lease_seconds:g} s: otherwise workers lose attempts when a broker dies",
                f"{session_ms / 1000:g} s",
                f"set FTJM_LEASE_SECONDS={lease_needed:g}, or lower the brokers' setting",
            )
        )
    return listed


def _adapt_count(topic: Topic, found: int) -> str:
    """Return what to do about a topic that has `found` partitions instead of the wanted number."""
    counted_by, _ = TOPICS[topic.name.rpartition(".")[2]]
    setting = f"FTJM_{counted_by.upper()}"
    return f"set {setting}={found}, because the number of a topic cannot be changed later, or use another --cluster"


def _require_counts(topics: list[Topic], metadata: ClusterMetadata) -> None:
    for topic in topics:
        found = len(metadata.topics[topic.name].partitions) if topic.name in metadata.topics else topic.partitions
        if found != topic.partitions:
            expected = f"{topic.name} with {topic.partitions} partitions"
            raise FtjmError(expected, f"{topic.name} with {found}", _adapt_count(topic, found))


def _connect(settings: Settings) -> tuple[AdminClient, ClusterMetadata]:
    admin = AdminClient(settings.kafka_settings("admin"))
    try:
        return admin, admin.list_topics(timeout=REQUEST_SECONDS)
    except KafkaException as error:
        raise Unreachable(
            f"Kafka at {settings.bootstrap}",
            f"no answer within {REQUEST_SECONDS:.0f} s ({error.args[0].str()})",
            "start Kafka, or correct --bootstrap and the kafka.* settings",
        ) from error


def _create_missing(admin: AdminClient, topics: list[Topic]) -> list[str]:
    if not topics:
        return []
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            config=dict(topic.config),
        )
        for topic in topics
    ]
    created, futures = [], admin.create_topics(new, operation_timeout=REQUEST_SECONDS)
    for topic in new:
        try:
            admin_answer(futures[topic.topic], partial(_create_one, admin, topic))
            created.append(topic.topic)
        except KafkaException as error:
            # Another process may create the topic at the same time, with the same settings.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                todo = "remove the cause that Kafka names"
                raise FtjmError(f"to create the topic {topic.topic}", error.args[0].str(), todo) from error
    return created


def _create_one(admin: AdminClient, topic: NewTopic) -> Future[Any]:
    return admin.create_topics([topic], operation_timeout=REQUEST_SECONDS)[topic.topic]


def _await_leaders(admin: AdminClient, names: list[str]) -> None:
    deadline = time.monotonic() + REQUEST_SECONDS
    while leaderless := _leaderless(admin.list_topics(timeout=REQUEST_SECONDS), names):
        if time.monotonic() > deadline:
            raise FtjmError(
                f"every partition to have a leader within {REQUEST_SECONDS:.0f} s",
                f"no leader for {', '.join(leaderless)}",
                "check the brokers: one may be down, or its disk full",
            )
        time.sleep(0.02)


def _leaderless(metadata: ClusterMetadata, names: list[str]) -> list[str]:
    return [
        name
        for name in names
        if name not in metadata.topics
        or not metadata.topics[name].partitions
        or any(partition.leader < 0 for partition in metadata.topics[name].partitions.values())
    ]


def _found(admin: AdminClient, metadata: ClusterMetadata, names: list[str]) -> dict[str, Topic]:
    present = [name for name in names if name in metadata.topics]
    configs = _describe(admin, [ConfigResource(ResourceType.TOPIC, name) for name in present])
    found = {}
    for name in present:
        partitions = metadata.topics[name].partitions
        replicas = min((len(partition.replicas) for partition in partitions.values()), default=0)
        found[name] = Topic(name, len(partitions), replicas, configs[name])
    return found


def _describe(admin: AdminClient, resources: list[ConfigResource]) -> dict[str, dict[str, str]]:
    if not resources:
        return {}
    futures = admin.describe_configs(resources, request_timeout=REQUEST_SECONDS)
    found = {one: admin_answer(futures[one], partial(_describe_one, admin, one)) for one in resources}
    return {one.name: {name: str(entry.value) for name, entry in entries.items()} for one, entries in found.items()}


def _describe_one(admin: AdminClient, resource: ConfigResource) -> Future[Any]:
    return admin.describe_configs([resource], request_timeout=REQUEST_SECONDS)[resource]


def _broker_config(admin: AdminClient, metadata: ClusterMetadata) -> dict[str, str]:
    broker = str(next(iter(metadata.brokers)))
    try:
        return _describe(admin, [ConfigResource(ResourceType.BROKER, broker)])[broker]
    except KafkaException:
        return {}  # clients of a shared Kafka often may not read it


def _repair(admin: AdminClient, topics: list[Topic]) -> list[str]:
    found = _found(admin, admin.list_topics(timeout=REQUEST_SECONDS), [topic.name for topic in topics])
    resources: list[Any] = []
    for topic in topics:
        wrong = {name: value for name, value in topic.config.items() if found[topic.name].config.get(name) != value}
        if wrong:
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wrong.items()
            ]
            resources.append(ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries))
    for future in admin.incremental_alter_configs(resources).values() if resources else ():
        future.result()
    return [resource.name for resource in resources]

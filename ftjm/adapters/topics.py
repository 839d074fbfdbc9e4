"""The topics: what each must be, making them, and finding where they differ."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
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

from ftjm.config import Settings
from ftjm.errors import FtjmError, Unreachable

REQUEST_SECONDS = 15.0
MIB = 1024 * 1024
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
# A broker's death is noticed after its session; electing leaders and reconnecting take up to this much more.
BROKER_FAILOVER_SECONDS = 3.0

EVERYWHERE = {"unclean.leader.election.enable": "false"}
# The brokers' time, not the producers': one bad clock must not delete what nobody has read.
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
LARGE_RECORDS = {"max.message.bytes": str(4 * MIB)}
FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "segment.bytes": str(64 * MIB)}


def _for(retention_ms: int, segment_ms: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        # Only closed segments are deleted, so they close well within the retention, however little they hold.
        "segment.ms": str(segment_ms),
        "segment.bytes": str(64 * MIB),
    }


# kind of topic: (which setting counts its partitions, its own settings)
TOPICS: Mapping[str, tuple[Literal["partitions", "lanes"], Mapping[str, str]]] = {
    "commands": ("partitions", FOR_EVER | BROKER_TIME | LARGE_RECORDS),
    "events": ("partitions", FOR_EVER | BROKER_TIME | LARGE_RECORDS),
    "dispatch": ("lanes", _for(24 * HOUR_MS, HOUR_MS) | BROKER_TIME | LARGE_RECORDS),
    "replies": ("lanes", _for(HOUR_MS, 10 * MINUTE_MS) | BROKER_TIME | LARGE_RECORDS),
    "heartbeats": ("lanes", _for(HOUR_MS, 10 * MINUTE_MS) | BROKER_TIME | LARGE_RECORDS),
    "snapshots": (
        "partitions",
        {"cleanup.policy": "compact", "segment.ms": str(10 * MINUTE_MS), "segment.bytes": str(64 * MIB)}
        # The manifest of a store of many gigabytes is longer than 1 MB.
        | LARGE_RECORDS,
    ),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is wanted or found; `config` of a found one holds more than ours."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be. An `error` can lose or delay work; a `warning` may be meant."""

    severity: Literal["error", "warning"]
    topic: str
    setting: str
    expected: str
    found: str
    todo: str


@dataclass(frozen=True, slots=True)
class Created:
    """What `create` did: names of topics made, found as they were, and mended."""

    made: list[str]
    kept: list[str]
    repaired: list[str]


def wanted(settings: Settings, brokers: int) -> list[Topic]:
    """All topics of the cluster, for a Kafka of so many brokers."""
    replicas = settings.replication_factor or min(3, brokers)
    shared = {**EVERYWHERE, "min.insync.replicas": "2" if replicas >= 3 else "1"}
    return [
        Topic(
            settings.topic(kind),
            settings.partitions if counted_by == "partitions" else settings.lanes,
            replicas,
            {**shared, **config},
        )
        for kind, (counted_by, config) in TOPICS.items()
    ]


def create(settings: Settings, *, repair: bool = False) -> Created:
    """Make the topics that are missing, and return when all have leaders; with `repair`, mend settings of the others.

    Raises Unreachable, or FtjmError where Kafka refuses a topic, or has one with another count of partitions: keys
    would go elsewhere than they did.
    """
    admin, metadata = _connect(settings)
    topics = wanted(settings, len(metadata.brokers))
    _require_counts(topics, metadata)
    missing = [topic for topic in topics if topic.name not in metadata.topics]
    made = _make(admin, missing)
    _await_leaders(admin, [topic.name for topic in topics])
    kept = [topic.name for topic in topics if topic.name not in made]
    repaired = _repair(admin, [topic for topic in topics if topic.name in kept]) if repair else []
    return Created(made, [name for name in kept if name not in repaired], repaired)


def delete(settings: Settings) -> None:
    """Delete all topics of the cluster, and what is in them; those that are absent are fine. Raises Unreachable."""
    admin, metadata = _connect(settings)
    present = [settings.topic(kind) for kind in TOPICS if settings.topic(kind) in metadata.topics]
    for deleted in admin.delete_topics(present, operation_timeout=REQUEST_SECONDS).values() if present else ():
        deleted.result()


def check(settings: Settings) -> list[Difference]:
    """Where topics and brokers differ from what is needed; empty when all is well. Raises Unreachable."""
    admin, metadata = _connect(settings)
    topics = wanted(settings, len(metadata.brokers))
    found = _found(admin, metadata, [topic.name for topic in topics])
    listed = [difference for topic in topics for difference in differences(topic, found.get(topic.name))]
    return listed + broker_differences(settings, _broker_config(admin, metadata))


def differences(topic: Topic, found: Topic | None) -> list[Difference]:
    """How a topic differs from the wanted one."""
    if found is None:
        return [Difference("error", topic.name, "topic", "present", "absent", "run `ftjm topics create`")]
    listed = []

    def differs(setting: str, expected: object, actual: object, todo: str) -> None:
        if expected != actual:
            listed.append(Difference("error", topic.name, setting, str(expected), str(actual), todo))

    differs("partitions", topic.partitions, found.partitions, _set_count(topic, found.partitions))
    differs(
        "replication factor",
        topic.replication_factor,
        found.replication_factor,
        "reassign its partitions with kafka-reassign-partitions.sh, or set FTJM_REPLICATION_FACTOR",
    )
    for name, value in topic.config.items():
        differs(name, value, found.config.get(name, "unset"), "run `ftjm topics create --repair`")
    return listed


def broker_differences(settings: Settings, broker: Mapping[str, str]) -> list[Difference]:
    """Where the brokers' own settings (empty if they may not be read) do not allow ours."""
    listed = []
    least_ms = int(broker.get("group.min.session.timeout.ms", 0))
    if settings.session_timeout_ms < least_ms:
        listed.append(
            Difference(
                "error",
                "(brokers)",
                "group.min.session.timeout.ms",
                f"at most {settings.session_timeout_ms}, our session_timeout_ms",
                str(least_ms),
                f"set FTJM_SESSION_TIMEOUT_MS={least_ms}, or lower it at the brokers",
            )
        )
    session_ms = int(broker.get("broker.session.timeout.ms", 0))
    lease_needed = session_ms / 1000 + BROKER_FAILOVER_SECONDS
    if session_ms and settings.lease_seconds < lease_needed:
        listed.append(
            Difference(
                "warning",
                "(brokers)",
                "broker.session.timeout.ms",
                f"at most {max(0.0, settings.lease_seconds - BROKER_FAILOVER_SECONDS):g} s for leases of "
                f"{settings.lease_seconds:g} s, or workers lose attempts when a broker dies",
                f"{session_ms / 1000:g} s",
                f"set FTJM_LEASE_SECONDS={lease_needed:g}, or lower it at the brokers",
            )
        )
    return listed


def _set_count(topic: Topic, found: int) -> str:
    counted_by, _ = TOPICS[topic.name.rpartition(".")[2]]
    return f"it is fixed at birth: set FTJM_{counted_by.upper()}={found}, or take another --cluster"


def _require_counts(topics: list[Topic], metadata: ClusterMetadata) -> None:
    for topic in topics:
        found = len(metadata.topics[topic.name].partitions) if topic.name in metadata.topics else topic.partitions
        if found != topic.partitions:
            expected = f"{topic.name} with {topic.partitions} partitions"
            raise FtjmError(expected, f"it with {found}", _set_count(topic, found))


def _connect(settings: Settings) -> tuple[AdminClient, ClusterMetadata]:
    admin = AdminClient(settings.kafka_settings("admin"))
    try:
        return admin, admin.list_topics(timeout=REQUEST_SECONDS)
    except KafkaException as error:
        raise Unreachable(
            f"Kafka at {settings.bootstrap}",
            f"no answer within {REQUEST_SECONDS:.0f} s ({error.args[0].str()})",
            "start it, or correct --bootstrap and the kafka.* settings",
        ) from error


def _make(admin: AdminClient, topics: list[Topic]) -> list[str]:
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
    made = []
    for name, future in admin.create_topics(new, operation_timeout=REQUEST_SECONDS).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as error:
            # Somebody else may be creating them at the same time: that is as good.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise FtjmError(f"to create the topic {name}", error.args[0].str(), "mend what Kafka names") from error
    return made


def _await_leaders(admin: AdminClient, names: list[str]) -> None:
    deadline = time.monotonic() + REQUEST_SECONDS
    while leaderless := _leaderless(admin.list_topics(timeout=REQUEST_SECONDS), names):
        if time.monotonic() > deadline:
            raise FtjmError(
                f"every partition to have a leader within {REQUEST_SECONDS:.0f} s",
                f"none for {', '.join(leaderless)}",
                "look at the brokers: is one down, or its disk full?",
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
    return {
        resource.name: {name: str(entry.value) for name, entry in future.result().items()}
        for resource, future in futures.items()
    }


def _broker_config(admin: AdminClient, metadata: ClusterMetadata) -> dict[str, str]:
    broker = str(next(iter(metadata.brokers)))
    try:
        return _describe(admin, [ConfigResource(ResourceType.BROKER, broker)])[broker]
    except KafkaException:
        return {}  # a client of a shared Kafka is often not allowed to read it


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

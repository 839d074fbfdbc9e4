"""Settings of the embedded Kafka: a small cluster on one machine that fails over fast."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ftjm.runtime import private_files

HOST = "127.0.0.1"
DEFAULT_PORT = 19092
USER = "ftjm"
"""The one user of a Kafka that asks for a password."""
PORT_MAX = 65_535 - 12
"""The largest first port: the third broker's port for the quorum is the highest, 12 above the first."""

JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    # Measured: Java starts a second sooner and stays below 400 MB. One machine needs no better compiler or collector.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # When the metaspace grows beyond its initial size, Java collects the whole heap. That stops all partitions for 70
    # to 600 ms, at the start and in the first minutes of work. So it begins with enough.
    "-XX:MetaspaceSize=96m",
    "-XX:ReservedCodeCacheSize=128m",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
)

LOG4J = """\
rootLogger.level = info
rootLogger.appenderRefs = file
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {directory}/server.log
appender.file.filePattern = {directory}/server.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = [%d] %p %m (%c{{1}})%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
"""


class Listener(NamedTuple):
    """A further listener of a broker, which it advertises at another port. A proxy between the two can be cut."""

    name: str
    port: int
    advertised: int


@dataclass(frozen=True, slots=True)
class Node:
    """One of `nodes` brokers. Each is a voter of the controller quorum, too."""

    index: int
    nodes: int
    base_port: int
    directory: Path
    listeners: tuple[Listener, ...] = ()
    password: str = field(default="", repr=False)
    """With a password, every listener asks for it: of clients, of the other brokers, and of the quorum. Every user of
    the machine reaches a port of loopback."""

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.base_port + self.index

    @property
    def controller_port(self) -> int:
        """The port for the controller quorum, above the ports for clients."""
        return controller_port(self.base_port, self.index)

    @property
    def properties_file(self) -> Path:
        """`server.properties`, which is written again at each start."""
        return self.directory / "server.properties"


def controller_port(base_port: int, index: int) -> int:
    """The port of a broker for the controller quorum."""
    return base_port + 10 + index


def client_settings(password: str) -> dict[str, str]:
    """The settings with which a Kafka client signs in, by the names of librdkafka; none without a password.

    PLAIN sends the password itself, over loopback, where only root can listen. Unlike SCRAM it needs no users in the
    metadata, so the quorum asks for it too.
    """
    if not password:
        return {}
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": password,
    }


def _sign_on(node: Node, listeners: Iterable[str]) -> dict[str, str]:
    if not node.password:
        return {}
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    who = f'username="{USER}" password="{node.password}" user_{USER}="{node.password}"'
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        **{f"listener.name.{name.lower()}.plain.sasl.jaas.config": f"{module} required {who};" for name in listeners},
    }


def _listeners(node: Node) -> dict[str, str]:
    protocol = "SASL_PLAINTEXT" if node.password else "PLAINTEXT"
    names = [protocol, "CONTROLLER", *(listener.name for listener in node.listeners)]
    listeners = [(listener.name, listener.port, listener.advertised) for listener in node.listeners]
    return {
        "listeners": ",".join(
            f"{name}://{HOST}:{port}"
            for name, port, _ in [(protocol, node.port, 0), ("CONTROLLER", node.controller_port, 0), *listeners]
        ),
        "advertised.listeners": ",".join(
            f"{name}://{HOST}:{port}" for name, _, port in [(protocol, 0, node.port), *listeners]
        ),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name in names),
        "inter.broker.listener.name": protocol,
        "controller.listener.names": "CONTROLLER",
        **_sign_on(node, names),
    }


def server_properties(node: Node) -> dict[str, str]:
    """All settings of one broker, by name."""
    replicas = min(3, node.nodes)
    min_isr = 2 if node.nodes >= 3 else 1
    voters = ",".join(f"{i + 1}@{HOST}:{controller_port(node.base_port, i)}" for i in range(node.nodes))
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.index + 1,
        "controller.quorum.voters": voters,
        **_listeners(node),
        "log.dirs": node.directory / "data",
        # The cluster replaces a dead broker well within the shortest lease of a worker.
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
        # Else the controller writes a record that says nothing every 500 ms, and flushes it.
        "metadata.max.idle.interval.ms": 0,
        # Requests among brokers. While a coordinator waits for a silent broker to take its marker (its host froze, or
        # was unplugged), it holds the transaction open, and its producer cannot be fenced. The default is 30 s.
        "request.timeout.ms": 3000,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1000,
        "replica.fetch.backoff.ms": 200,
        # The group notices a dead scheduler within its session, which may be short.
        "group.min.session.timeout.ms": 300,
        "group.initial.rebalance.delay.ms": 0,
        # The open transaction of a dead producer ends soon after its timeout (the default checks every 10 s).
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # Each transaction would wait for a request among brokers: docs/decisions/093-late-records-of-a-transaction.md
        "transaction.partition.verification.enable": "false",
        # The internal topics are small: a few groups, and one transactional id for each partition.
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min_isr,
        # `ftjm topics create` makes the topics, with their settings. A misspelt name must not make one.
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": min_isr,
        "unclean.leader.election.enable": "false",
        # Trimmed records do not reappear after a kill.
        "log.retention.check.interval.ms": 30_000,
        "log.segment.delete.delay.ms": 1000,
        "log.flush.start.offset.checkpoint.interval.ms": 5000,
        # The cleaner's default takes a quarter of our heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        # What clients send at once must not fill the heap: one request (ours have up to 4 MiB), and all that wait.
        "socket.request.max.bytes": 32 * 1024 * 1024,
        "queued.max.request.bytes": 64 * 1024 * 1024,
        # All brokers are stopped together: no other broker can take over their partitions. A broker in a controlled
        # shutdown would answer metadata requests with no broker at all, and by such an answer librdkafka 2.16 may
        # forget all brokers for good (issue 5301).
        "controlled.shutdown.enable": "false",
        # Measured: with 2 and 4 threads, a drain of tasks was 5 % slower. They would hand requests to each other only.
        "num.network.threads": 1,
        "num.io.threads": 2,
        "background.threads": 2,
    }
    return {name: str(value) for name, value in values.items()}


def write(node: Node) -> None:
    """Write `server.properties` and the configuration of the broker's own log."""
    private_files.make_directory(node.directory)
    lines = [f"{name}={value}" for name, value in server_properties(node).items()]
    _write(node.properties_file, "\n".join(lines) + "\n")
    _write(node.directory / "log4j2.properties", LOG4J.format(directory=node.directory))


def _write(path: Path, text: str) -> None:
    with os.fdopen(private_files.create(path), "w") as file:
        file.write(text)

"""Settings of the embedded Kafka: those of a small cluster on one machine that fails over fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
DEFAULT_PORT = 19092

JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    # Measured: starts a second sooner and stays below 400 MB; a broker for one machine needs no more of the JIT and GC.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # Collections of the whole heap, since these would grow beyond what they begin with, stop all partitions for 70 to
    # 600 ms, at the start and in the first minutes of work.
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


class Door(NamedTuple):
    """A further listener of a node, which clients reach at another port: what stands between can be cut."""

    name: str
    port: int
    advertised: int


@dataclass(frozen=True, slots=True)
class Node:
    """One of `nodes` brokers, each of them a voter of the controller quorum as well."""

    index: int
    nodes: int
    base_port: int
    directory: Path
    doors: tuple[Door, ...] = ()

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.base_port + self.index

    @property
    def controller_port(self) -> int:
        """Where the quorum talks: beside the clients' ports, which are at most three."""
        return controller_port(self.base_port, self.index)

    @property
    def properties_file(self) -> Path:
        """`server.properties`, written anew at each start."""
        return self.directory / "server.properties"


def controller_port(base_port: int, index: int) -> int:
    """The quorum's port of a node."""
    return base_port + 10 + index


def server_properties(node: Node) -> dict[str, str]:
    """All settings of one node."""
    replicas = min(3, node.nodes)
    min_isr = 2 if node.nodes >= 3 else 1
    voters = ",".join(f"{i + 1}@{HOST}:{controller_port(node.base_port, i)}" for i in range(node.nodes))
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.index + 1,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{HOST}:{node.port},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{node.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": node.directory / "data",
        # A dead broker is replaced well within the shortest lease of a worker.
        "broker.session.timeout.ms": 2000,
        "broker.heartbeat.interval.ms": 500,
        # Of brokers among themselves. A coordinator whose marker went to a broker that fell silent (its host froze, or
        # was unplugged) holds the transaction open for so long, and nobody can fence its producer: by default 30 s.
        "request.timeout.ms": 3000,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1000,
        "replica.fetch.backoff.ms": 200,
        # A dead scheduler is noticed within its session, which may be short.
        "group.min.session.timeout.ms": 300,
        "group.initial.rebalance.delay.ms": 0,
        # A dead producer's open transaction ends soon after its timeout (the default looks every 10 s).
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # Small internal topics: a few groups and one transactional id a partition.
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": min_isr,
        # Topics are made by `ftjm topics create`, with their settings; a misspelt one must not come to be.
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": min_isr,
        "unclean.leader.election.enable": "false",
        # What is trimmed leaves the disk soon, and does not come back after a kill.
        "log.retention.check.interval.ms": 30_000,
        "log.segment.delete.delay.ms": 1000,
        "log.flush.start.offset.checkpoint.interval.ms": 5000,
        # The cleaner's default takes a quarter of our heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        # What clients send at once must not fill the heap: one request (ours have up to 4 MiB), and all that wait.
        "socket.request.max.bytes": 32 * 1024 * 1024,
        "queued.max.request.bytes": 64 * 1024 * 1024,
        # All are stopped together: there is nobody to leave partitions to. One that left all the same would name no
        # broker at all to those who ask, and librdkafka 2.16 may forget for good by that where Kafka is (issue 5301).
        "controlled.shutdown.enable": "false",
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
    }
    _add_doors(values, node.doors)
    return {name: str(value) for name, value in values.items()}


def _add_doors(values: dict[str, object], doors: Iterable[Door]) -> None:
    for name, port, advertised in doors:
        values["listeners"] = f"{values['listeners']},{name}://{HOST}:{port}"
        values["advertised.listeners"] = f"{values['advertised.listeners']},{name}://{HOST}:{advertised}"
        protocols = f"{values['listener.security.protocol.map']},{name}:PLAINTEXT"
        values["listener.security.protocol.map"] = protocols


def write(node: Node) -> None:
    """Write `server.properties` and the configuration of the broker's own log."""
    node.directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}={value}" for name, value in server_properties(node).items()]
    node.properties_file.write_text("\n".join(lines) + "\n")
    (node.directory / "log4j2.properties").write_text(LOG4J.format(directory=node.directory))

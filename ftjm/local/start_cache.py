"""The file with which Java starts a broker in half the time: an "AOT cache" (JEP 483, JEP 514).

A training run records which classes a broker loads. Java then writes these classes into one file, parsed and linked.
Later brokers map that file.

- **Nobody waits for it.** A process whose brokers have started without the file makes it on a thread beside them, with
  children of the lowest priority. A process that ends first leaves it to the next one. One process at a time makes it.
- **A file is whole or absent.** It is written into a directory of its own and then renamed.
- **A file that does not fit does no harm.** Its name has a hash of what it depends on: Java, its options, the jars with
  their sizes and times. Java itself checks these again, and with `VerifySharedSpaces` the content: without that option,
  a damaged byte ends the broker. Java goes on without a file that it refuses. The file is then deleted, and made anew.
- **Two steps.** With `AOTCacheOutput` one step would do, but then Java starts a second Java at its end, which outlives
  our process if that is killed. So the training run only records, and this file starts the second Java.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.brokers import await_brokers
from ftjm.adapters.kafka.partition_log import KafkaLog
from ftjm.local import broker_settings, storage
from ftjm.local.broker import BrokerProcess, JavaCommand, java_environment
from ftjm.local.ports import free_base_port
from ftjm.runtime import child_processes, logs
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

STEP_SECONDS_MAX = 600.0
"""How long the training run, and writing the file, may take on a busy machine."""
KEPT = 3
"""How many files are kept: for this version of Java and of the jars, and for the ones that were used before."""
PRIORITY = 19
"""The lowest one."""
THREAD_SECONDS_MAX = 1.0
"""How long `stop` waits for the thread, which then cleans up. What it leaves behind is deleted by the next making."""
STATUS_AFTER_SIGTERM = 128 + 15
REFUSED = "Unable to map shared spaces"
"""What Java prints if it does not use the file."""

log = logs.get(__name__)


class Interrupted(Exception):
    """The process stops, so the file is left to the next one."""


class StartCache:
    """The file for one Java and one list of jars."""

    def __init__(self, java: Path, jars: list[Path], directory: Path) -> None:
        """Describe the file; nothing is made yet.

        Args:
            java: The program.
            jars: The class path.
            directory: Where the files of all versions lie.
        """
        self._java = JavaCommand(java, jars)
        self._directory = directory
        self.path = directory / f"broker-{_fingerprint(java, jars)}.aot"
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        """Held while a child is started, so that none is started behind the back of `stop`."""
        self._child: subprocess.Popen[bytes] | None = None
        self.thread: threading.Thread | None = None
        """Makes the file; None if that was not begun."""

    def java(self) -> JavaCommand:
        """Java with its options, among them the file if it is there."""
        if not self.path.exists():
            return self._java
        return self._java.having(f"-XX:AOTCache={self.path}", "-XX:+VerifySharedSpaces")

    def note_output(self, output: str) -> None:
        """Delete the file if Java, which printed `output` at a start, has refused it or was ended by it."""
        if REFUSED in output or "A fatal error has been detected" in output:
            log.warning("start_cache_refused", path=str(self.path), todo="it is deleted, and made anew")
            self.path.unlink(missing_ok=True)

    def begin_making(self) -> None:
        """Make the file on a thread if it is missing, and no other process makes it."""
        if not self.path.exists() and self.thread is None:
            self.thread = threading.Thread(target=self._make_alone, name="start-cache", daemon=True)
            self.thread.start()

    def stop(self) -> None:
        """Stop making the file, and wait until its processes have ended. The thread may still wait for an answer."""
        self._stopping.set()
        self._end_child()
        if self.thread is not None:
            self.thread.join(THREAD_SECONDS_MAX)

    def _make_alone(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with (self._directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self.path.exists():
                    self._make()
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001  (brokers start without the file as well)
            if not self._stopping.is_set():
                todo = "brokers start more slowly without it; the next start tries again"
                log.warning("start_cache_failed", error=str(error), todo=todo)

    def _make(self) -> None:
        began = time.monotonic()
        for left_behind in self._directory.glob(".making-*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        making = tempfile.TemporaryDirectory(dir=self._directory, prefix=".making-", ignore_cleanup_errors=True)
        with making as name, self._ended_children():
            recorded, made = Path(name, "recorded"), Path(name, "made")
            self._train(Path(name), recorded)
            self._write(recorded, made, Path(name, "console.log"))
            made.replace(self.path)
        files = sorted(self._directory.glob("*.aot"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in files[KEPT:]:
            old.unlink(missing_ok=True)
        log.info("start_cache_made", path=str(self.path), seconds=round(time.monotonic() - began, 1))

    def _train(self, directory: Path, recorded: Path) -> None:
        """Run a broker through what each `ftjm up` asks of it first: to sign on, to make topics, to commit."""
        java = self._java.having("-XX:AOTMode=record", f"-XX:AOTConfiguration={recorded}")
        node = broker_settings.Node(0, 1, free_base_port(), directory / "broker", password=storage.new_id())
        broker = BrokerProcess(node, lambda: java)
        broker.prepare(storage.new_id())
        process = self._start(broker.launch)
        # Until the coordinator of transactions has loaded, librdkafka writes a line for each refusal.
        kafka = broker_settings.client_settings(node.password) | {"log_level": "0"}
        settings = Settings.model_construct(
            bootstrap=f"{broker_settings.HOST}:{node.port}", kafka=kafka, own_brokers=True, partitions=1, lanes=1
        )

        def check() -> None:
            self._require_going_on()
            if process.poll() is not None:
                raise self._failure(process, broker.console_log)

        await_brokers({"bootstrap.servers": settings.bootstrap, **kafka}, {1}, STEP_SECONDS_MAX, check)
        topics.create(settings)
        events = KafkaLog(settings.kafka_settings("training"), settings.cluster, "training", self._stopping.is_set)
        with closing(events), closing(events.fence(0)) as writer:
            writer.commit([("", b"record")])
        process.terminate()
        self._wait(process, broker.console_log)

    def _write(self, recorded: Path, made: Path, output: Path) -> None:
        options = "-XX:AOTMode=create", f"-XX:AOTConfiguration={recorded}", f"-XX:AOTCache={made}"
        command = self._java.having(*options).arguments
        process = self._start(lambda: child_processes.spawn(command, output=output, env=java_environment()))
        self._wait(process, output)

    @contextmanager
    def _ended_children(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._end_child()

    def _end_child(self) -> None:
        with self._starting:
            if self._child is not None:
                self._child.kill()
                self._child.wait()

    def _start(self, launch: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._starting:
            self._require_going_on()
            self._child = launch()
        os.setpriority(os.PRIO_PROCESS, self._child.pid, PRIORITY)
        return self._child

    def _wait(self, process: subprocess.Popen[bytes], output: Path) -> None:
        """Wait until Java has ended. Raises FtjmError if it fails, and Interrupted if this process stops."""
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while (status := process.poll()) is None and time.monotonic() < deadline:
            self._stopping.wait(0.1)
            self._require_going_on()
        if status not in {0, STATUS_AFTER_SIGTERM}:
            raise self._failure(process, output)

    def _failure(self, process: subprocess.Popen[bytes], output: Path) -> FtjmError:
        printed = output.read_text(errors="replace")[-500:]
        return FtjmError(
            "Java to write a start cache", f"status {process.returncode}: {printed}", "see whether the disk is full"
        )

    def _require_going_on(self) -> None:
        if self._stopping.is_set():
            raise Interrupted


def _fingerprint(java: Path, jars: list[Path]) -> str:
    runtime = java.resolve().parent.parent
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (runtime / "lib" / "modules", *jars)]
    release = (runtime / "release").read_text()
    return hashlib.sha256(repr((release, state, broker_settings.JAVA_OPTIONS)).encode()).hexdigest()[:16]

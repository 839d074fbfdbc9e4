"""One broker of the embedded Kafka: a Java process with a directory."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ftjm.local import broker_settings, storage
from ftjm.runtime import child_processes, private_files
from ftjm.runtime.errors import FtjmError

LOG_TAIL_LINES = 15
PORT_PATIENCE_SECONDS = 3.0
"""How long to wait for a taken port: one of a Kafka that was killed a moment ago becomes free within that time."""


@dataclass(frozen=True, slots=True)
class JavaCommand:
    """Java with our options and the jars of Kafka."""

    java: Path
    jars: list[Path]
    further: tuple[str, ...] = ()
    """Options beside those of every broker."""

    @property
    def arguments(self) -> list[str | Path]:
        """The command, to which options of the program and its main class are added."""
        return [self.java, *broker_settings.JAVA_OPTIONS, *self.further, "-cp", ":".join(map(str, self.jars))]

    def having(self, *further: str) -> JavaCommand:
        """The same command with further options."""
        return JavaCommand(self.java, self.jars, (*self.further, *further))


class BrokerProcess:
    """A broker whose storage is formatted before its first start and kept afterwards.

    Args:
        node: Its settings.
        java: Asked at each start for Java and its options.
    """

    def __init__(self, node: broker_settings.Node, java: Callable[[], JavaCommand]) -> None:
        self.node = node
        self.child = child_processes.Child(f"kafka-{node.index}", self.launch)
        self._java = java
        self._log_size_before = 0

    @property
    def directory(self) -> Path:
        """The directory of this broker's settings, data and logs."""
        return self.node.directory

    @property
    def console_log(self) -> Path:
        """What Java itself has printed since the broker started."""
        return self.directory / "console.log"

    def prepare(self, cluster_id: str) -> None:
        """Write the settings, and format the storage of a new broker. Raises FtjmError if a port is taken."""
        for port in (self.node.port, self.node.controller_port):
            require_free_port(port)
        broker_settings.write(self.node)
        storage.ensure_formatted(self.directory / "data", cluster_id, self.node.index + 1)

    def require_running(self) -> None:
        """Raise FtjmError, with the last lines of its log, if the process has ended."""
        process = self.child.process
        if process is None or process.poll() is None:
            return
        server_log = self.directory / "server.log"
        if _size(server_log) == self._log_size_before:
            expected, shown = f"Java to start broker {self.node.index}", self.console_log
            todo = f"`{self._java().java} -version` tells whether Java runs on this machine"
        else:
            expected, shown = f"broker {self.node.index} to start and stay", server_log
            todo = "mend what these lines name, then start again"
        found = f"it ended with status {process.returncode}; the last lines of {shown}:\n{_tail(shown)}"
        raise FtjmError(expected, found, todo)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start Java, once."""
        self._log_size_before = _size(self.directory / "server.log")
        # Java unpacks native libraries here. A killed Java leaves them behind, and /tmp may forbid to run them.
        temporary = self.directory / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        private_files.make_directory(temporary)
        log4j = self.directory / "log4j2.properties"
        options = [f"-Djava.io.tmpdir={temporary}", f"-Dlog4j2.configurationFile={log4j}"]
        return child_processes.spawn(
            [*self._java().arguments, *options, "kafka.Kafka", self.node.properties_file],
            output=self.console_log,
            env=java_environment(),
            umask=private_files.UMASK,
        )


def java_environment() -> dict[str, str]:
    """Our environment without the variables by which Java takes further options."""
    return {name: value for name, value in os.environ.items() if name not in {"CLASSPATH", "JAVA_TOOL_OPTIONS"}}


def require_free_port(port: int, patience_seconds: float = PORT_PATIENCE_SECONDS) -> None:
    """Raise FtjmError, with the holder if that is known, unless the port can be bound within `patience_seconds`."""
    deadline = time.monotonic() + patience_seconds
    while not _bindable(port):
        if time.monotonic() >= deadline:
            raise FtjmError(
                f"port {port} of {broker_settings.HOST} to be free",
                f"it taken{_holder(port)}",
                "stop what holds it, or choose other ports with --port",
            )
        time.sleep(0.05)


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((broker_settings.HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def _holder(port: int) -> str:
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass  # processes of other users cannot be seen
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    # A failing broker logs its orderly end at length, after the reason.
    telling = [line for line in lines if "] INFO " not in line] or lines
    return "\n".join(telling[-LOG_TAIL_LINES:]) or "(empty)"

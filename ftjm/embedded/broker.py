"""One node of the embedded Kafka: a Java process with a directory."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from ftjm import children
from ftjm.embedded import settings
from ftjm.errors import FtjmError

LOG_TAIL_LINES = 15
# The ports of a Kafka whose parent was killed a moment ago are free as soon as the kernel has cleared it away.
PORT_PATIENCE_SECONDS = 3.0


class Broker:
    """A node that is formatted on its first start and keeps its data."""

    def __init__(self, node: settings.Node, java: Path, jars: list[Path]) -> None:
        self.node = node
        self.child = children.Child(f"kafka-{node.index}", self._launch)
        self._java: list[str | Path] = [java, *settings.JAVA_OPTIONS, "-cp", ":".join(map(str, jars))]
        self._log_size_before = 0

    @property
    def directory(self) -> Path:
        """Holds the settings, the data and the logs of this node."""
        return self.node.directory

    def prepare(self) -> None:
        """Write the settings. Raises FtjmError where a port is taken."""
        for port in (self.node.port, self.node.controller_port):
            require_free_port(port)
        settings.write(self.node)

    def begin_format(self, cluster_id: str) -> subprocess.Popen[bytes] | None:
        """Start formatting a new node's storage; None where it has been formatted before."""
        if (self.directory / "data" / "meta.properties").exists():
            return None
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id]
        return self._java_process([*tool, "-c", str(self.node.properties_file)], "format.log")

    def end_format(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait until the storage is formatted. Raises FtjmError with what Java said."""
        if process and process.wait() != 0:
            raise FtjmError(
                f"Java to format the storage of broker {self.node.index}",
                f"status {process.returncode}:\n{_tail(self.directory / 'format.log')}",
                f"see {self.directory}; `{self._java[0]} -version` tells whether Java runs on this machine",
            )

    def require_running(self) -> None:
        """Raise FtjmError, with the last lines of its log, if the process has ended."""
        process = self.child.process
        if process is None or process.poll() is None:
            return
        server_log = self.directory / "server.log"
        if _size(server_log) == self._log_size_before:
            expected, shown = f"Java to start broker {self.node.index}", self.directory / "console.log"
            todo = f"`{self._java[0]} -version` tells whether Java runs on this machine"
        else:
            expected, shown = f"broker {self.node.index} to start and stay", server_log
            todo = "mend what these lines name, then start again"
        found = f"it ended with status {process.returncode}; the last lines of {shown}:\n{_tail(shown)}"
        raise FtjmError(expected, found, todo)

    def _launch(self) -> subprocess.Popen[bytes]:
        self._log_size_before = _size(self.directory / "server.log")
        return self._java_process(["kafka.Kafka", str(self.node.properties_file)], "console.log")

    def _java_process(self, arguments: list[str], output: str) -> subprocess.Popen[bytes]:
        # Native libraries are unpacked here: a killed Java leaves them, and /tmp may forbid to run them.
        temporary = self.directory / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        log4j = self.directory / "log4j2.properties"
        options = [f"-Djava.io.tmpdir={temporary}", f"-Dlog4j2.configurationFile={log4j}"]
        clean = {name: value for name, value in os.environ.items() if name not in {"CLASSPATH", "JAVA_TOOL_OPTIONS"}}
        return children.spawn([*self._java, *options, *arguments], output=self.directory / output, env=clean)


def require_free_port(port: int, patience_seconds: float = PORT_PATIENCE_SECONDS) -> None:
    """Raise FtjmError, naming the holder where that can be seen, unless the port of this machine can be bound."""
    deadline = time.monotonic() + patience_seconds
    while not _bindable(port):
        if time.monotonic() >= deadline:
            raise FtjmError(
                f"port {port} of {settings.HOST} to be free",
                f"it taken{_holder(port)}",
                "stop what holds it, or choose other ports with --port",
            )
        time.sleep(0.05)


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, port))
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
        pass  # other users' processes cannot be seen: the port is taken all the same
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    # A failing broker reports its own orderly end at length, after the reason.
    telling = [line for line in lines if "] INFO " not in line] or lines
    return "\n".join(telling[-LOG_TAIL_LINES:]) or "(empty)"

"""One attempt as the guard runs it: a process group, its input and output, and how it ended."""

import errno
import os
import signal
import stat
import subprocess
from collections import deque
from contextlib import suppress
from pathlib import Path

import msgspec

from ftjm.clock import wall_ms
from ftjm.core.model import FailureReason
from ftjm.worker.processes import kill_group
from ftjm.worker.protocol import Ended, Start

_CHUNK = 1 << 16
_PIPE_BYTES_MAX = 1 << 20
"""No unprivileged pipe holds more, so whoever still writes cannot make us read for ever."""

INHERITED_DEFAULTS = {"PATH": os.defpath, "HOME": "/", "LANG": "C.UTF-8"}
"""What commands rely on, for workers that were themselves started without."""


class StartFailed(Exception):
    """The command could not be executed; says why."""


class Tail:
    """The last `limit` bytes of a pipe, and how many came before them."""

    def __init__(self, fd: int, limit: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._kept = 0
        self._cut = 0

    def read(self) -> bool:
        """Take what is there; False once nothing can come any more."""
        try:
            chunk = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        self._chunks.append(chunk)
        self._kept += len(chunk)
        while self._kept - len(self._chunks[0]) >= self._limit:
            dropped = len(self._chunks.popleft())
            self._kept -= dropped
            self._cut += dropped
        return True

    def drain(self) -> None:
        """Take what is in the pipe now, whoever else may still hold its other end."""
        for _ in range(_PIPE_BYTES_MAX // _CHUNK):
            before = self._kept + self._cut
            if not self.read() or self._kept + self._cut == before:
                return

    def finish(self) -> tuple[bytes, int]:
        """The tail, and the number of bytes before it."""
        whole = b"".join(self._chunks)
        tail = whole[max(0, len(whole) - self._limit) :]
        return tail, self._cut + len(whole) - len(tail)


class Attempt:
    """A running attempt. `group` is its leader's pid, its process group and its session."""

    def __init__(self, start: Start, directory: Path, inherited: dict[str, str], limit: int) -> None:
        """Start it. Raises StartFailed."""
        self.order = start
        self.directory = directory
        self.result_file = directory / "result.json"
        self.halted: FailureReason | None = None
        """Why we are stopping it."""
        self.kill_at: int | None = None
        """When SIGTERM was not enough, CLOCK_BOOTTIME ms."""
        self.timeout_at: int | None = None
        self.input: int | None = None
        """The writing end of its standard input, while there is something to write."""
        self._unwritten = memoryview(start.payload)
        self._limit = limit
        own: list[int] = []
        given: list[int] = []
        try:
            self._make_directories()
            given = [self._open_input(own)]
            for _ in ("stdout", "stderr"):
                reading, writing = os.pipe()
                own.append(reading)
                given.append(writing)
            self.group = self._execute(given, inherited)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            for fd in own:
                os.close(fd)
            raise StartFailed(self._why(error)) from error
        finally:
            for fd in given:
                os.close(fd)
        self.started_at = wall_ms()
        self.stdout, self.stderr = Tail(own[-2], limit), Tail(own[-1], limit)

    def feed(self) -> bool:
        """Write more of the payload; False once it is all written, or nobody reads it."""
        assert self.input is not None
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self.input, self._unwritten[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except OSError:
            pass  # a command need not read its input
        os.close(self.input)
        self.input = None
        return False

    def ended(self, status: int) -> Ended:
        """What became of it, by its leader's wait status. Closes its pipes and removes its directory, if quick."""
        code = os.waitstatus_to_exitcode(status)
        for tail in (self.stdout, self.stderr):
            tail.drain()
            os.close(tail.fd)
        if self.input is not None:
            os.close(self.input)
        stdout, stdout_cut = self.stdout.finish()
        stderr, stderr_cut = self.stderr.finish()
        end = Ended(
            key=self.order.key,
            exit_code=max(code, 0),
            signal=max(-code, 0),
            started_at=self.started_at,
            ended_at=wall_ms(),
            stdout=stdout,
            stdout_cut=stdout_cut,
            stderr=stderr,
            stderr_cut=stderr_cut,
        )
        self._judge(end)
        end.scratch = remove(self.directory)
        return end

    def _judge(self, end: Ended) -> None:
        if self.halted is not None:
            end.reason, end.error = self.halted, _HALTED[self.halted]
        elif end.signal:
            end.reason, end.error = FailureReason.SIGNAL, f"killed by {_signal_name(end.signal)}"
        elif end.exit_code:
            end.reason, end.error = FailureReason.EXIT_CODE, f"exit status {end.exit_code}"
        else:
            end.result, end.error = _result(self.result_file, self._limit)
            end.reason = FailureReason.RESULT_REFUSED if end.error else None

    def _make_directories(self) -> None:
        self.directory.mkdir(parents=True)
        if not self.order.working_directory:
            (self.directory / "work").mkdir()

    def _open_input(self, own: list[int]) -> int:
        if not self._unwritten:
            return os.open(os.devnull, os.O_RDONLY)
        reading, self.input = os.pipe()
        own.append(self.input)
        os.set_blocking(self.input, False)
        return reading

    def _execute(self, given: list[int], inherited: dict[str, str]) -> int:
        order = self.order
        if order.executor != "command":
            raise ValueError(f"expected the executor `command`, but the job asks for {order.executor!r}")
        if not order.command:
            raise ValueError("expected a command of at least one word, but it is empty")
        process = subprocess.Popen(
            order.command,
            stdin=given[0],
            stdout=given[1],
            stderr=given[2],
            cwd=order.working_directory or self.directory / "work",
            env=INHERITED_DEFAULTS | inherited | order.environment | self._identity(),
            start_new_session=True,
        )
        # The guard reaps all children in one place; this object must not wait for it too.
        process.returncode = 0
        return process.pid

    def _identity(self) -> dict[str, str]:
        order = self.order
        job = f"{order.queue}/{order.job_id}"
        return {
            "FTJM_JOB_ID": job,
            "FTJM_QUEUE": order.queue,
            "FTJM_ATTEMPT": str(order.attempt),
            "FTJM_RUN": str(order.run),
            "FTJM_RUN_KEY": f"{job}/{order.run}",
            "FTJM_RESULT_FILE": str(self.result_file),
        }

    def _why(self, error: Exception) -> str:
        order = self.order
        if not isinstance(error, OSError):
            return str(error)
        program = order.command[0] if order.command else ""
        if str(error.filename).startswith(str(self.directory)):
            return f"cannot make the attempt's directory {error.filename}: {error.strerror}; look at the worker's disk"
        if order.working_directory and error.filename == order.working_directory:
            return f"cannot enter the working directory {order.working_directory!r}: {error.strerror}"
        if error.errno == errno.ENOENT and error.filename == program:
            return f"cannot execute {program!r}: no such program on this worker; give a path, or install it"
        if error.errno == errno.E2BIG:
            return f"cannot execute {program!r}: command and environment are too long; use the payload"
        return f"cannot execute {program!r}: {error.strerror or error}"


_HALTED = {
    FailureReason.TIMEOUT: "stopped at its timeout",
    FailureReason.STOPPED: "stopped on request",
    FailureReason.LEASE_EXPIRED: "the worker could not reach the log for its lease, so it stopped the attempt",
    FailureReason.WORKER_STOPPED: "the worker was stopped before the attempt had finished",
}


def remove(directory: Path) -> str:
    """Remove an attempt's directory if nothing was left in it; else its path, for somebody with more time."""
    with suppress(OSError):
        (directory / "result.json").unlink()
    try:
        with suppress(FileNotFoundError):
            (directory / "work").rmdir()
        directory.rmdir()
    except FileNotFoundError:
        return ""
    except OSError:
        return str(directory)
    return ""


def stop_group(attempt: Attempt, reason: FailureReason, number: signal.Signals) -> None:
    """Signal the attempt's processes; the first reason is the one that is told."""
    if attempt.halted is None:
        attempt.halted = reason
    kill_group(attempt.group, number)


def _result(path: Path, limit: int) -> tuple[bytes, str]:
    """The result, and why it is refused."""
    try:
        # A job may leave anything under this name: a pipe must not hold the guard up.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return b"", "expected a file of JSON in FTJM_RESULT_FILE, but it is not a regular file"
            result, size = file.read(limit + 1), found.st_size
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"expected a file of JSON in FTJM_RESULT_FILE, but it cannot be read: {error.strerror}"
    if len(result) > limit:
        return b"", (
            f"expected a result of at most {limit} bytes, but FTJM_RESULT_FILE has {size}; "
            "store it elsewhere and give its address as the result, or raise inline_limit_bytes"
        )
    if not result.strip():
        return b"", ""
    try:
        msgspec.json.decode(result)
    except (msgspec.DecodeError, RecursionError) as error:
        return b"", f"expected JSON in FTJM_RESULT_FILE ({size} bytes), but: {error}; write one JSON value, or nothing"
    return result, ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

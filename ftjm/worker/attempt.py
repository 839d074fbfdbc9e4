"""One attempt as the guard runs it: a process group, its input and output, and how it ended."""

import errno
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from ftjm.clock import wall_ms
from ftjm.core.model import FailureReason
from ftjm.worker import files, taskcall
from ftjm.worker.processes import kill_group
from ftjm.worker.protocol import Checkpointed, Ended, Start

_CHUNK = 1 << 16
_PIPE_BYTES_MAX = 1 << 20
"""No unprivileged pipe holds more, so whoever still writes cannot make us read for ever."""


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
    """A running attempt: a process with a group and a session of its own, or a thread among others."""

    def __init__(
        self, start: Start, directory: Path, inherited: dict[str, str], limit: int, *, shared: bool = False
    ) -> None:
        """Prepare it: `execute` starts a command, and a task is begun by others with what is in `given`.

        `shared` says that it will be a thread. Raises StartFailed.
        """
        self.order = start
        self.shared = shared
        self.alone = False
        """It must not be a thread: it was one, and its process died."""
        self.directory = directory
        self.words = files.Words(start.key, directory)
        self.unsaid: Checkpointed | None = None
        """What it said at last, and nobody has heard yet."""
        self.send_signal: Callable[[signal.Signals], None] = lambda _: None
        self.started_at = 0
        self.given: list[int] = []
        """What it gets as standard input, output and errors, until it has them."""
        self._inherited = inherited
        self.halted: FailureReason | None = None
        """Why we are stopping it."""
        self.kill_at: int | None = None
        """When SIGTERM was not enough, CLOCK_BOOTTIME ms."""
        self.timeout_at: int | None = None
        self.input: int | None = None
        """The writing end of its standard input, while there is something to write."""
        self._unwritten = memoryview(self._fed())
        self._limit = limit
        self._outcome = 0
        """Of a task: its result, or why it failed. A file in memory, since most are small, and directories slow."""
        self._own: list[int] = []
        try:
            self._make_directories()
            self.given.append(self._open_input(self._own))
            pipes = []
            for _ in ("stdout", "stderr"):
                reading, writing = os.pipe()
                pipes.append(reading)
                self._own.append(reading)
                self.given.append(writing)
            if start.executor == "python":
                self._outcome = os.memfd_create("outcome")
                self._own.append(self._outcome)
                self.given.append(os.dup(self._outcome))
        except OSError as error:
            self.abandon()
            raise StartFailed(self._why(error)) from error
        self.stdout, self.stderr = (Tail(fd, limit) for fd in pipes)

    def execute(self) -> int:
        """Start the command; its process. Raises StartFailed."""
        try:
            group = self._execute(self.given)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.abandon()
            raise StartFailed(self._why(error)) from error
        self.began(partial(kill_group, group))
        return group

    def began(self, send_signal: Callable[[signal.Signals], None]) -> None:
        """It is there, has what was given to it, and is signalled so."""
        self._let_go()
        self.send_signal = send_signal
        self.started_at = wall_ms()

    def halt(self, reason: FailureReason, number: signal.Signals) -> None:
        """Signal it to end; the first reason is the one that is told."""
        if self.halted is None:
            self.halted = reason
        self.send_signal(number)

    def abandon(self) -> None:
        """It will not run here: who waits for its orders finds none, and leaves."""
        self._let_go()
        for fd in self._own:
            os.close(fd)
        self._own = []

    def _let_go(self) -> None:
        for fd in self.given:
            os.close(fd)
        self.given = []

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

    def ended(self, code: int) -> Ended:
        """What became of it, by its exit status. Closes its pipes and removes its directory, if quick."""
        for tail in (self.stdout, self.stderr):
            tail.drain()
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
        self._close()
        self.unsaid = self.words.last() if end.reason is not None else None
        end.scratch = files.remove(self.directory)
        return end

    def taken_along(self) -> Start:
        """Its process died, not by its fault: what is to be started again, from its newest checkpoint on."""
        self._close()
        checkpoint, _ = self.words.checkpoint()
        files.remove(self.directory)
        return msgspec.structs.replace(self.order, checkpoint=checkpoint or self.order.checkpoint)

    def _close(self) -> None:
        for tail in (self.stdout, self.stderr):
            os.close(tail.fd)
        if self.input is not None:
            os.close(self.input)
        if self._outcome:
            os.close(self._outcome)

    def _judge(self, end: Ended) -> None:
        if self.halted is not None:
            end.reason, end.error = self.halted, HALTED[self.halted]
        elif end.signal:
            end.reason, end.error = FailureReason.SIGNAL, f"killed by {_signal_name(end.signal)}"
        elif end.exit_code:
            told = files.told(self._outcome) if self._outcome else None
            end.reason, end.error = FailureReason.EXIT_CODE, f"exit status {end.exit_code}"
            if told is not None and told.reason in taskcall.REASONS:
                end.reason, end.error = told.reason, told.error
        else:
            found = files.returned(self._outcome, self._limit) if self._outcome else None
            end.result, end.error = found or files.result(self.directory, self._limit)
            end.reason = FailureReason.RESULT_REFUSED if end.error else None

    def _make_directories(self) -> None:
        if self.shared and not self.order.checkpoint:
            return  # it is made when the first word is said
        self.directory.mkdir(parents=True)
        if not self.order.working_directory and not self.shared:
            (self.directory / "work").mkdir()
        if self.order.checkpoint:
            (self.directory / files.LAST).write_bytes(self.order.checkpoint)

    def _fed(self) -> bytes:
        """What goes to its standard input."""
        order = self.order
        if order.executor != "python":
            return order.payload
        directory = order.working_directory or str(self.directory / "work")
        name = order.command[0] if order.command else ""
        environment = self._identity() if self.shared else self._environment()
        return taskcall.pack(name, environment, directory, order.payload)

    def _environment(self) -> dict[str, str]:
        return self._inherited | self.order.environment | self._identity()

    def _open_input(self, own: list[int]) -> int:
        if not self._unwritten:
            return os.open(os.devnull, os.O_RDONLY)
        reading, self.input = os.pipe()
        own.append(self.input)
        os.set_blocking(self.input, False)
        return reading

    def _execute(self, given: list[int]) -> int:
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
            env=self._environment(),
            start_new_session=True,
        )
        # The guard reaps all children in one place; this object must not wait for it too.
        process.returncode = 0
        return process.pid

    def _identity(self) -> dict[str, str]:
        order = self.order
        job = f"{order.queue}/{order.job_id}"
        some = {"FTJM_LAST_CHECKPOINT_FILE": str(self.directory / files.LAST)} if order.checkpoint else {}
        if order.executor != "python":
            some["FTJM_RESULT_FILE"] = str(self.directory / files.RESULT)
        return {
            **some,
            "FTJM_JOB_ID": job,
            "FTJM_QUEUE": order.queue,
            "FTJM_ATTEMPT": str(order.attempt),
            "FTJM_RUN": str(order.run),
            "FTJM_RUN_KEY": f"{job}/{order.run}",
            "FTJM_CHECKPOINT_FILE": str(self.directory / files.CHECKPOINT),
            "FTJM_PROGRESS_FILE": str(self.directory / files.PROGRESS),
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


HALTED = {
    FailureReason.TIMEOUT: "stopped at its timeout",
    FailureReason.STOPPED: "stopped on request",
    FailureReason.LEASE_EXPIRED: "the worker could not reach the log for its lease, so it stopped the attempt",
    FailureReason.WORKER_STOPPED: "the worker was stopped before the attempt had finished",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

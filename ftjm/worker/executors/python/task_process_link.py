"""The guard's side of a task process: a process that runs attempts of Python tasks, one at a time."""

import errno
import os
import select
import signal
import socket
from pathlib import Path

import msgspec

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.linux_processes import kill_group, mark
from ftjm.worker.attempts.output_tail import OutputTail
from ftjm.worker.executors.ports import ExecutorSettings
from ftjm.worker.executors.python.call import Call, Packets, Return, TaskFailure, send
from ftjm.worker.executors.python.task_attempt import TaskAttempt

MEGABYTE = 1_000_000
ERROR_BYTES_MAX = 256 * 1024
"""A `Return` is at most this much longer than a result."""
FOREIGN_PACKETS_MAX = 1_000
"""A process that sends more packets that are none loses its connection: it would keep the guard busy."""
_DECODER = msgspec.msgpack.Decoder(Return)
_ENCODER = msgspec.msgpack.Encoder()
_PACKETS = Packets()


class TaskProcessLink:
    """One life of a task process, from the request for it to its death."""

    def __init__(self, settings: ExecutorSettings) -> None:
        """Open what the process is given. Raises OSError where descriptors are used up."""
        self._settings = settings
        self.pid = 0
        """0 before it exists, and once it has been waited for."""
        self.attempt: TaskAttempt | None = None
        """The attempt that it runs."""
        self.calls = 0
        """How many attempts it has had."""
        self.is_dismissed = False
        """Whether it gets no further attempt: it was sent a signal, it dies, or something foreign was done to it."""
        self.directory: Path | None = None
        """A directory that an attempt has left empty, for the next one."""
        self.outputs: list[OutputTail] = []
        self._poller = select.poll()
        self.child_descriptors: list[int] = []
        """The ends of the process. They are open here until the process has them."""
        self.lost: Return | None = None
        """The end of an attempt whose own `Return` could not be received, if the process leaves no last word."""
        self._foreign_packets = 0
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection.setblocking(False)
        self.child_descriptors.append(theirs.detach())
        self._last_word = -1
        try:
            for _ in ("stdout", "stderr"):
                reading, writing = os.pipe()
                self.child_descriptors.append(writing)
                self.outputs.append(OutputTail(reading, settings.limit_bytes))
                self._poller.register(reading, select.POLLIN)
            self._last_word = os.memfd_create("last-word")
            self._last_word_path = f"/proc/{os.getpid()}/fd/{self._last_word}"
            self.child_descriptors.append(os.dup(self._last_word))
        except OSError:
            self.close()
            raise

    def mark_forked(self, pid: int) -> None:
        """The process exists, and has its descriptors."""
        self.pid = pid
        self._close_child_descriptors()

    def begin(self, attempt: TaskAttempt, *, is_last: bool) -> None:
        """Have the process run the attempt.

        Args:
            attempt: The attempt.
            is_last: Whether the process ends with it.

        Raises:
            OSError: The process is dying, or the call takes more descriptors than there are.
        """
        self.calls += 1
        own_directory = attempt.directory
        attempt.directory = self.directory or own_directory
        request, settings = attempt.request, self._settings
        call = Call(
            attempt.mark,
            attempt.task,
            request.payload,
            {**request.environment, **attempt.variables()},
            str(attempt.directory),
            self.directory is not None,
            request.working_directory,
            request.checkpoint,
            settings.limit_bytes,
            settings.memory_per_process_mb * MEGABYTE,
            is_last or self.calls >= settings.tasks_per_process,
            self._last_word_path,
        )
        for output in self.outputs:
            # What threads of earlier attempts have written meanwhile is nobody's.
            output.clear()
        mark(self.pid, attempt.mark)
        try:
            send(self.connection, _ENCODER.encode(call))
        except OSError:
            attempt.directory = own_directory
            raise
        self.attempt, self.directory = attempt, None
        attempt.begin(self.outputs, self._poller.poll, self.send_signal)

    def receive(self) -> Return | None:
        """The end of the current attempt, if the process has sent it.

        Raises:
            OSError: The process has lost the connection.
            EOFError: The same, and all that it had sent is read.
        """
        bytes_max = self._settings.limit_bytes + ERROR_BYTES_MAX
        while True:
            try:
                found = _PACKETS.receive(self.connection, _DECODER, bytes_max)
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.EMFILE:
                    raise
                self._hang_up("the worker has too many open files; raise its limit (ulimit -n)")
                continue
            if found and self.attempt and found.token == self.attempt.mark:
                return found
            # A task has written to all descriptors of its process.
            self._foreign_packets += 1
            self.is_dismissed = True
            if self._foreign_packets == FOREIGN_PACKETS_MAX:
                self._hang_up("the task has written to descriptors that are not its own")

    def _hang_up(self, why: str) -> None:
        """Close the connection for both sides. What the process has sent before can still be received.

        A process that waits for a call then ends. One that runs an attempt leaves its last word.
        """
        self.is_dismissed = True
        if self.attempt and not self.lost:
            failure = TaskFailure(FailureReason.EXCEPTION, f"the end of the task could not be received: {why}")
            self.lost = Return(self.attempt.mark, 1, failure=failure)
        self.connection.shutdown(socket.SHUT_RDWR)

    def last_word(self) -> Return | None:
        """The end of the current attempt, as a process leaves it that has lost the connection."""
        content = os.pread(self._last_word, self._settings.limit_bytes + ERROR_BYTES_MAX, 0)
        try:
            found = _DECODER.decode(content)
        except (ValueError, msgspec.MsgspecError, RecursionError, MemoryError):
            return None
        return found if self.attempt and found.token == self.attempt.mark else None

    def read_output(self, output: OutputTail) -> bool:
        """Read what the process has written; False once it can write nothing more there."""
        is_open = output.read()
        if self.attempt is None:
            output.clear()
        return is_open

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process and its group. It gets no further attempt, since the signal may arrive late."""
        self.is_dismissed = True
        if self.pid:
            kill_group(self.pid, number)

    def close(self) -> None:
        """Close everything: the process has died, or will never be."""
        self._close_child_descriptors()
        self.connection.close()
        for output in self.outputs:
            output.close()
        self.outputs = []
        if self._last_word >= 0:
            os.close(self._last_word)
            self._last_word = -1

    def _close_child_descriptors(self) -> None:
        for fd in self.child_descriptors:
            os.close(fd)
        self.child_descriptors = []

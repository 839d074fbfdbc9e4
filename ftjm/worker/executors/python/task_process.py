"""A task process: runs attempts of Python tasks, one at a time, each from its call to its `Return`.

The process is forked from the zygote with the apps in it, leads a session and a process group of its own, and waits for
calls on a socket to the guard (`call.py`). For each one it enters a directory of the attempt's own, takes on its
environment, and calls the task in a new context. Then it ends what belongs to the attempt (`process_end.py`), restores
what the attempt has changed (`process_state.py`), and returns. If it can do all that, it waits for the next call. If it
cannot, it says so, and ends as a program does that has run one task.

SIGTERM raises `ftjm.Stopped` in the task, so that its `finally` runs within the grace. Then the process ends by
SIGTERM, as a program does that has handled it.

Imported by the zygote before it forks, so whatever is imported here makes every fork larger and slower.
"""

import _signal as _signals  # type: ignore[import-not-found]  # the wrappers of `signal` make enums
import contextvars
import os
import signal
import socket
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import msgspec

from ftjm.core.state.model import FailureReason
from ftjm.sdk.running import CURRENT, LEFT_BEHIND, Stopped, described
from ftjm.worker.attempts import attempt_files
from ftjm.worker.executors.python import call as calls
from ftjm.worker.executors.python import process_end
from ftjm.worker.executors.python.call import Call, Packets, Return
from ftjm.worker.executors.python.own_directory import Directory
from ftjm.worker.executors.python.perform import FAILED, Performed, failed, perform, write_error
from ftjm.worker.executors.python.process_state import MEMORY, InitialState

CALL_BYTES_MAX = 64 * 1024 * 1024
"""No call is as large."""


def become_task_process(descriptors: Sequence[int]) -> NoReturn:
    """Be a task process.

    Args:
        descriptors: The connection to the guard, standard output and errors, and the file for the last word.
    """
    try:
        connection, *outputs, last_word = descriptors
        os.close(last_word)  # it is opened by its name when it is needed
        _lead(outputs)
        process_end.forget_inherited_exits()
        TaskProcess(socket.socket(fileno=connection)).serve()
    except BaseException:  # noqa: BLE001  (nothing of the zygote's may run in this process)
        write_error(traceback.format_exc())
    process_end.end(FAILED)


def _lead(outputs: Sequence[int]) -> None:
    """Lead a new session, with default signal handlers, and these as standard output and errors."""
    os.setsid()
    for number, fd in enumerate(outputs, 1):
        os.dup2(fd, number)
        os.close(fd)
    for which in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_DFL)


class StopSignal:
    """The handler of SIGTERM: it raises `Stopped` once in an attempt, and ends a process that waits for a call."""

    def __init__(self) -> None:
        self.received = False
        self.is_running = False
        """Whether a task runs."""
        self.is_idle = True
        """Whether the process waits for a call."""

    def __call__(self, number: int, _frame: object) -> None:
        """Raise `Stopped`, or end the process. An attempt that is just ending ends."""
        self.received = True
        if self.is_idle:
            process_end.end(-number)
        if self.is_running:
            self.is_running = False
            raise Stopped


class TaskProcess:
    """Serves calls."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._packets = Packets()
        self._decoder = msgspec.msgpack.Decoder(Call)
        self._encoder = msgspec.msgpack.Encoder()
        self._pid = os.getpid()
        self._token = 0
        """The attempt that runs now."""
        self._stop = StopSignal()
        signal.signal(signal.SIGTERM, self._stop)
        self._descriptors = process_end.Descriptors(connection.fileno())
        self._state = InitialState()
        self._directory = Directory()

    def serve(self) -> None:
        """Serve calls until the guard closes the connection."""
        while True:
            try:
                call = self._packets.receive(self._connection, self._decoder, CALL_BYTES_MAX)
            except (EOFError, OSError):
                return
            self._stop.is_idle = False
            if call:
                self._serve(call)
            self._stop.is_idle = True
            if self._stop.received:
                return

    def _serve(self, call: Call) -> None:
        """Run an attempt, and return. It does not return to its caller if the process cannot be used again."""
        self._token = call.token
        try:
            performed = self._enter(call) or contextvars.copy_context().run(self._perform, call)
        except BaseException as error:  # noqa: BLE001  (a stop, just before the task or just after it)
            performed = failed(FailureReason.EXCEPTION, repr(error))
        self._stop.is_running = False
        status = performed.exit_status
        if os.getpid() != self._pid:
            process_end.end(status)  # the task has forked, and this is the child
        why = self._leave_nothing(call)
        is_last = bool(call.is_last or why or self._stop.received)
        returned = Return(
            call.token,
            status,
            performed.result[: call.result_limit + 1],
            len(performed.result),
            performed.failure,
            not is_last and self._directory.is_empty(),
            is_last,
            "" if why == MEMORY or self._stop.received else why,
        )
        is_sent = self._return(self._encoder.encode(returned), call)
        if is_last or not is_sent:
            process_end.end(-signal.SIGTERM if self._stop.received and status == FAILED else status)

    def _enter(self, call: Call) -> Performed | None:
        """Enter the attempt's directory. Returns the failure if that is not possible."""
        try:
            self._directory.take(call)
        except OSError as error:
            return failed(FailureReason.START_FAILED, attempt_files.not_made(call.directory, error))
        try:
            os.chdir(call.working_directory or self._directory.work)
        except OSError as error:
            text = f"cannot enter the working directory {error.filename!r}: {error.strerror}"
            return failed(FailureReason.START_FAILED, text)
        return None

    def _perform(self, call: Call) -> Performed:
        """Run the task, in a context of its own."""
        self._state.enter(call.environment)
        token = call.token
        # Checkpoints and progress have no effect once the attempt has ended: its directory may be another's.
        running = described(call.environment, lambda: self._token == token)
        assert running is not None
        CURRENT.set(running)
        self._stop.is_running = True
        if self._stop.received:
            raise Stopped
        performed = perform(call.task, call.payload)
        self._stop.is_running = False
        if performed.failure and performed.failure.reason is FailureReason.EXCEPTION:
            write_error(performed.failure.error)
        for thread in threading.enumerate() if threading.active_count() > 1 else ():
            if thread is not threading.main_thread():
                LEFT_BEHIND.setdefault(thread, running)
        return performed

    def _leave_nothing(self, call: Call) -> str:
        """End what belongs to the attempt. Returns the reason why the process cannot be used again; empty if it can."""
        if _signals.getsignal(signal.SIGTERM) is not self._stop:
            signal.signal(signal.SIGTERM, self._stop)
        if call.is_last or self._stop.received:
            return ""
        if why := process_end.threads_left():
            return why
        process_end.end_attempt(self._descriptors)
        return (
            process_end.threads_left()
            or process_end.children_left()
            or self._state.restore(call.memory_limit)
            or self._descriptors.fault()
        )

    def _return(self, packet: bytes, call: Call) -> bool:
        """Send the packet, or leave it as the last word. Returns whether it was sent."""
        self._token = 0
        try:
            calls.send(self._connection, packet)
        except OSError:
            # A task that has changed its user may not open the guard's descriptors.
            with suppress(OSError):
                fd = os.open(call.last_word, os.O_WRONLY)
                calls.write_all(fd, packet)
                os.close(fd)
            return False
        return True

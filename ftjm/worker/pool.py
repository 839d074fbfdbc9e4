"""The pool: one process, forked from the zygote, in which attempts of tasks marked idempotent are threads.

It reads what the guard wants on its standard input: threads, each with the descriptors that a process would have,
and that one be stopped, which raises `Stopped` in it. It ends when the guard has gone, or kills it: threads cannot be.
"""

import ctypes
import os
import socket
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NoReturn, TextIO

from ftjm.sdk.running import CURRENT, Stopped, described
from ftjm.worker import outputs, taskrun
from ftjm.worker.taskcall import unpack
from ftjm.worker.taskwire import ASK, BEGUN, ENDED, GIVEN, POOL_MARK, REFUSED, RUN, TOLD


def become(given: Sequence[int]) -> NoReturn:
    """Be the pool, with these as standard input, output and errors."""
    try:
        taskrun.take(given)
        control = socket.socket(fileno=os.dup(0))
        # A task that reads its input finds none, and takes none of ours.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.environ[POOL_MARK] = str(os.getpid())
        _Threads(control).serve()
    finally:
        os._exit(1)


class _Threads:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._stoppable: dict[int, int] = {}
        """Threads by token: those in which `Stopped` may be raised, which happens at most once."""

    def serve(self) -> None:
        while True:
            frame, given, _, _ = socket.recv_fds(self._control, ASK.size, GIVEN, socket.MSG_CMSG_CLOEXEC)
            if not frame:
                return
            kind, token = ASK.unpack(frame)
            if kind == RUN:
                self._start(token, given)
            else:
                self._stop(token)

    def _start(self, token: int, given: list[int]) -> None:
        try:
            if len(given) < GIVEN:
                raise OSError("too many open files")
            threading.Thread(target=self._attempt, args=(token, given), name=f"attempt-{token}", daemon=True).start()
        except (OSError, RuntimeError):
            for fd in given:
                os.close(fd)
            self._tell(REFUSED, token)

    def _stop(self, token: int) -> None:
        with self._lock:
            if thread := self._stoppable.pop(token, 0):
                _raise(thread, Stopped)

    def _attempt(self, token: int, given: list[int]) -> None:
        """From its beginning to its end. `Stopped` may be raised wherever the token is stoppable, and nowhere else."""
        calling, *writing, outcome = given
        texts = [os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1) for fd in writing]
        code = taskrun.FAILED
        try:
            try:
                with self._lock:
                    self._stoppable[token] = threading.get_ident()
                self._tell(BEGUN, token)
                code = _run(calling, texts, outcome)
            finally:
                with self._lock:
                    self._stoppable.pop(token, None)
                    _raise(threading.get_ident(), None)
        except Stopped:
            pass
        except BaseException:  # noqa: BLE001  (a full disk, for instance: its end must be told)
            traceback.print_exc()
        with ExitStack() as stack:
            stack.callback(os.close, calling)
            stack.callback(os.close, outcome)
            for text in texts:
                stack.enter_context(suppress(OSError, ValueError))
                stack.callback(text.close)
        self._tell(ENDED, token, code)

    def _tell(self, what: bytes, token: int, code: int = 0) -> None:
        # Without a guard nobody wants to know, and `serve` ends.
        with suppress(OSError):
            self._control.send(TOLD.pack(what, token, code))


def _run(calling: int, texts: Sequence[TextIO], outcome: int) -> int:
    call = unpack(taskrun.everything(calling))
    if call is None:
        return taskrun.FAILED
    outputs.CURRENT.set(texts)
    CURRENT.set(described(call.environment))
    return taskrun.perform(call, outcome)


def _raise(thread: int, what: type[BaseException] | None) -> None:
    """Have it raised in the thread, as soon as it executes Python code; None takes back what was not raised yet."""
    wanted = ctypes.py_object(what) if what else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), wanted)

"""Starts programs by `posix_spawn`, in threads that may wait in the guard's place.

`posix_spawn` of glibc and musl is a `vfork`: the new process borrows the memory of its parent until it executes its
program, so nothing is copied, however large the parent is. The price is that the calling thread waits for as long: for
ever, if the working directory or the program lies on a server that does not answer. So the guard's own thread never
calls it. One thread of the spawner does, without the interpreter's lock (`ctypes` releases it); when it has been at one
program for `HANGS_MS`, another thread takes the next ones. Such a thread can be killed with its process, so it keeps
nobody from ending: it touches no file itself.

A new process is a child of this process, leads a session of its own, has the default signal handlers, no descriptors
but the three that it is given, and the mark of its attempt (`linux_processes.py`) from its first instruction on: it
inherits the mark of this process, which the thread changes before. The mark belongs to the whole process, so a lock
lets one thread at a time change it and start a process. A thread that hangs has its process already, so the others get
another lock. Nobody reads the mark of this process, and `launch.py` does not let it be inherited.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from queue import SimpleQueue

from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.linux_processes import HANDLED_SIGNALS, kill_with_group, mark, mark_of, thread_children

HANGS_MS = 100
"""After this time a thread is no longer expected to come back soon."""
_STRUCT_BYTES = 1_024
"""More than the C library's structures for file actions, attributes and sets of signals have on any platform."""
_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
_TRY_THE_NEXT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})
"""As `execvp` does: a program that is not in one directory of the path may be in the next."""

_libc = ctypes.CDLL(None, use_errno=True)
_close_from = getattr(_libc, "posix_spawn_file_actions_addclosefrom_np", None)
"""None before glibc 2.34. The descriptors then close when the program is executed."""


class Spawn:
    """One program to start, and how that went."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        working_directory: str,
        descriptors: Sequence[int],
        number: int,
    ) -> None:
        """Describe it.

        Args:
            command: The program, which is searched for in the `PATH` of the environment, and its arguments.
            environment: The new process's variables.
            working_directory: Where the process starts. Relative paths of the program are relative to it.
            descriptors: The process gets these three as standard input, output and errors.
            number: The mark that the process gets.

        Raises:
            ValueError: No process can have such a command or environment.
        """
        if not command:
            raise ValueError("expected a command of at least one word, but it is empty")
        variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        if any(not name or "=" in name for name in environment):
            raise ValueError("expected names of environment variables without '=', but found another")
        words = [os.fsencode(word) for word in command]
        self._directory = os.fsencode(working_directory)
        if any(b"\0" in text for text in (*words, *variables, self._directory)):
            raise ValueError("expected no null byte in the command, its environment or its working directory")
        self._arguments = _strings(words)
        self._variables = _strings(variables)
        self._paths = [words[0]]
        if b"/" not in words[0] and environment.get("PATH") != os.environ.get("PATH"):
            # The C library would search in the path of this process.
            self._paths = [os.fsencode(f"{each or '.'}/{command[0]}") for each in os.get_exec_path(environment)]
        self._descriptors = descriptors
        self.mark = number
        self.pid = 0
        """The new process; 0 before it executes its program, and if it never does."""
        self.error = 0
        """Why the program is not executed (of `errno`); 0 if it is, or may yet be."""
        self.cancelled = False
        """Whether it must not be started any more."""
        self.thread = 0
        """The thread that starts it, by its number in the kernel; 0 while it waits for one."""
        self.began_at = 0
        """When the thread began, CLOCK_BOOTTIME ms."""
        self.is_done = False
        """Whether the thread is at it no more."""

    def execute(self, alone: Callable[[], AbstractContextManager[None]]) -> None:
        """Start the program, and wait until it is executed, or cannot be.

        Args:
            alone: no two threads are at once in what it returns, but for those that hang in it.
        """
        actions = ctypes.create_string_buffer(_STRUCT_BYTES)
        _libc.posix_spawn_file_actions_init(actions)
        try:
            for number, fd in enumerate(self._descriptors):
                _libc.posix_spawn_file_actions_adddup2(actions, fd, number)
            if _close_from is not None:
                # A process that hangs before its program must not keep the pipes of others open.
                _close_from(actions, len(self._descriptors))
            _libc.posix_spawn_file_actions_addchdir_np(actions, self._directory)
            pid = ctypes.c_int()
            # The error of the last directory in which there is something by that name is the one to report.
            found = errno.ENOENT
            for path in self._paths:
                with alone():
                    if self.cancelled:
                        self.error = errno.ECANCELED
                        break
                    mark(0, self.mark)
                    self.error = _libc.posix_spawnp(
                        ctypes.byref(pid), path, actions, _ATTRIBUTES, self._arguments, self._variables
                    )
                if self.error not in _TRY_THE_NEXT:
                    break
                found = self.error if self.error == errno.EACCES else found
            else:
                self.error = found
            self.pid = 0 if self.error else pid.value
        finally:
            _libc.posix_spawn_file_actions_destroy(actions)


class Spawner:
    """Starts programs one after the other, and tells when each is executed. Only one thread may call its methods."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._to_do: SimpleQueue[Spawn] = SimpleQueue()
        self._done: SimpleQueue[Spawn] = SimpleQueue()
        self._pending: list[Spawn] = []
        """What has been requested and not returned by `finished`, oldest first."""
        self._threads = 0
        self._lock = threading.Lock()
        """The thread that holds it changes the mark of this process and starts a new one."""
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor that can be read once `finished` has something to return."""
        return self._event

    @property
    def is_busy(self) -> bool:
        """Whether a program waits for its start."""
        return bool(self._pending)

    def request(self, spawn: Spawn) -> None:
        """Start a program soon."""
        self._pending.append(spawn)
        self._to_do.put(spawn)
        self.enforce(boot_ms())

    def finished(self) -> list[Spawn]:
        """The programs that are executed now, or cannot be; also those that were given up."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        found = []
        while not self._done.empty():
            found.append(self._done.get())
            self._pending.remove(found[-1])
        return found

    def give_up(self, spawn: Spawn) -> bool:
        """See to it that the program is not executed any more, even if its process cannot end yet.

        Returns:
            Whether `finished` will return it; else it was never requested.
        """
        spawn.cancelled = True
        for pid in thread_children(spawn.thread) if spawn.thread else ():
            if mark_of(pid) == spawn.mark:
                kill_with_group(pid)
        return spawn in self._pending

    def enforce(self, now: int) -> None:
        """Start a thread if all hang; `now` is CLOCK_BOOTTIME ms."""
        hanging = sum(one.thread != 0 and not one.is_done and now >= one.began_at + HANGS_MS for one in self._pending)
        if self._threads <= hanging and self._to_do.qsize():
            self._lock = threading.Lock()
            # Where there can be no thread now, there may be one at the next call.
            with suppress(RuntimeError):
                threading.Thread(target=self._work, name=f"spawner-{self._threads}", daemon=True).start()
                self._threads += 1

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # The lock may be replaced meanwhile, since its holder hangs.
        while not (lock := self._lock).acquire(timeout=HANGS_MS / 1000):
            pass
        try:
            yield
        finally:
            lock.release()

    def _work(self) -> None:
        number = threading.get_native_id()
        while True:
            spawn = self._to_do.get()
            spawn.began_at, spawn.thread = boot_ms(), number
            spawn.execute(self._alone)
            if spawn.cancelled and spawn.pid:
                kill_with_group(spawn.pid)
            spawn.is_done = True
            self._done.put(spawn)
            os.eventfd_write(self._event, 1)


def _strings(values: Sequence[bytes]) -> "ctypes.Array[ctypes.c_char_p]":
    """The values as C has them: pointers, and a null at the end."""
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _attributes() -> "ctypes.Array[ctypes.c_char]":
    """The attributes of every new process: a session of its own, no blocked signal, and default handlers."""
    attributes, none, handled = (ctypes.create_string_buffer(_STRUCT_BYTES) for _ in range(3))
    _libc.sigemptyset(none)
    _libc.sigemptyset(handled)
    for number in HANDLED_SIGNALS:
        _libc.sigaddset(handled, int(number))
    _libc.posix_spawnattr_init(attributes)
    _libc.posix_spawnattr_setsigmask(attributes, none)
    _libc.posix_spawnattr_setsigdefault(attributes, handled)
    _libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID))
    return attributes


_ATTRIBUTES = _attributes()

"""The state of a task process that an attempt may change, and that the next attempt must find as the first one did.

`InitialState` notes it before the first attempt. `restore` is called after each one. It restores what can be restored:

- what belongs to the process: environment, umask, signal handlers and mask, timers, soft limits, processors, time zone,
  locale;
- what the interpreter holds: its streams, arguments and path, hooks, limits, the collector's settings, built-in
  functions;
- what modules of the standard library hold: warnings, logging, random numbers, decimals, time-outs of sockets, event
  loops, the place of temporary files.

What cannot be restored makes the process end with its attempt: a lowered hard limit, another user, root directory or
namespace, a priority, a capability, a filter of system calls.

It does not restore what code of the app holds, and neither modules that were imported nor what was put into them: that
a process is kept is what lets a task keep a model or a connection in a global variable.

Each step compares first, since nearly always nothing has changed: all of them together take less than a tenth of a
millisecond.
"""

import _locale
import _signal as _signals  # type: ignore[import-not-found]  # the wrappers of `signal` make enums
import _socket
import builtins
import gc
import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from ftjm.worker.attempts.linux_processes import RLIMIT_LOCKS
from ftjm.worker.executors.python.process_variables import Variables

_LIMITS = tuple(number for number in range(16) if number != RLIMIT_LOCKS)
"""RLIMIT_LOCKS is the attempt's mark."""
_NAMESPACES = [f"/proc/self/ns/{name}" for name in ("mnt", "net", "user", "uts", "ipc", "pid_for_children", "cgroup")]
_CAPABLE_OF_NAMESPACES = 1 << 21
"""CAP_SYS_ADMIN. Without it, another namespace comes with all capabilities of its own."""
_FOREIGN_CALLS = frozenset({"_ctypes", "_cffi_backend", "prctl", "_prctl", "seccomp", "capng"})
"""Modules by which code in Python changes its capabilities, its namespaces or its filter of system calls."""
if hasattr(os, "unshare"):
    _FOREIGN_CALLS |= {"os"}
_TIMERS = (_signals.ITIMER_REAL, _signals.ITIMER_VIRTUAL, _signals.ITIMER_PROF)

MEMORY = "memory"
"""The reason if the process has grown too large, which may be nobody's fault."""

Setting = tuple[Callable[[], Any], Callable[[Any], object]]
_SETTINGS: tuple[Setting, ...] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (sys.gettrace, sys.settrace),
    (sys.getprofile, sys.setprofile),
    (sys.get_coroutine_origin_tracking_depth, sys.set_coroutine_origin_tracking_depth),
    (sys.get_asyncgen_hooks, lambda hooks: sys.set_asyncgen_hooks(*hooks)),
    (threading.gettrace, threading.settrace),
    (threading.stack_size, threading.stack_size),
    (threading.getprofile, threading.setprofile),
    (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    (gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds)),
    (gc.get_debug, gc.set_debug),
    (_socket.getdefaulttimeout, _socket.setdefaulttimeout),
    (partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)),
    (partial(_locale.setlocale, _locale.LC_ALL), partial(_locale.setlocale, _locale.LC_ALL)),
)
_SYS_NAMES = (
    *("stdin", "stdout", "stderr", "excepthook", "unraisablehook", "displayhook", "breakpointhook"),
    *("argv", "path", "dont_write_bytecode"),
)
_MODULES = (
    # The module, the name, and its value in a module that a task has imported.
    ("tempfile", "tempdir", None),
    ("logging", "_warnings_showwarning", None),  # of `captureWarnings`
    ("urllib.request", "_opener", None),
    ("asyncio.events", "_event_loop_policy", None),
    ("multiprocessing.context", "_default_context._actual_context", None),
)


class InitialState:
    """The state of this process as it was when this was made."""

    def __init__(self) -> None:
        """Note the state."""
        self._variables = Variables()
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._signals = [(number, _signals.getsignal(number)) for number in sorted(map(int, _signals.valid_signals()))]
        self._mask = _signals.pthread_sigmask(_signals.SIG_BLOCK, ())
        self._limits = [(number, resource.getrlimit(number)) for number in _LIMITS]
        self._settings = [(read, write, read()) for read, write in _SETTINGS]
        self._objects = [(module, name, getattr(module, name)) for module, name in self._names()]
        lists: tuple[Any, ...] = (sys.argv, sys.path, warnings.filters, gc.callbacks)
        self._lists = [(one, list(one)) for one in lists]
        self._builtins = dict(vars(builtins))
        self._modules = [(*path, _value(*path)) for path in _MODULES]
        self._loggers = _Loggers()
        decimal = sys.modules.get("decimal")
        self._decimals = decimal.getcontext().copy() if decimal else None
        self._zone = (time.tzname, time.timezone, time.daylight)
        self._identity = _Identity()

    def enter(self, environment: dict[str, str]) -> None:
        """Prepare an attempt, in a context of its own.

        Args:
            environment: The variables that it has beside those of the process.
        """
        self._variables.give(environment)
        try:
            if module := sys.modules.get("random"):
                module.seed(int.from_bytes(os.urandom(16), "big"))
            if module := sys.modules.get("numpy.random"):
                module.seed()
        except Exception:  # noqa: BLE001, S110  (a task may have put anything there)
            pass
        if self._decimals is not None:
            sys.modules["decimal"].setcontext(self._decimals.copy())

    def restore(self, memory_limit: int) -> str:
        """Restore what an attempt has changed.

        Args:
            memory_limit: How many bytes more the process may have than it began with.

        Returns:
            The reason why the process cannot be used again; empty if it can.
        """
        try:
            for timer in _TIMERS:
                _signals.setitimer(timer, 0)
            found = _signals.getsignal
            for number, handler in self._signals:
                if found(number) is not handler:
                    _signals.signal(number, handler)
            _signals.pthread_sigmask(_signals.SIG_SETMASK, self._mask)
            _signals.set_wakeup_fd(-1)
            os.umask(self._umask)
            self._variables.restore()
            if (time.tzname, time.timezone, time.daylight) != self._zone:
                self._variables.give({})
                time.tzset()
            self._restore_interpreter()
            self._restore_modules()
            limits_of = resource.getrlimit
            for number, limits in self._limits:
                if limits_of(number) != limits:
                    resource.setrlimit(number, limits)
            return self._identity.fault(memory_limit)
        except Exception as error:  # noqa: BLE001  (a task may have put anything anywhere)
            return f"its state cannot be restored: {type(error).__name__}: {error}"[:200]

    def _names(self) -> list[tuple[Any, str]]:
        return [
            *((sys, name) for name in _SYS_NAMES),
            (threading, "excepthook"),
            (warnings, "showwarning"),
            (warnings, "filters"),
        ]

    def _restore_interpreter(self) -> None:
        for read, write, value in self._settings:
            if read() != value:
                write(value)
        for module, name, value in self._objects:
            if getattr(module, name, None) is not value:
                setattr(module, name, value)
        for found, content in self._lists:
            if found != content:
                found[:] = content
                if found is warnings.filters and (forget := getattr(warnings, "_filters_mutated", None)):
                    forget()
        if (functions := vars(builtins)) != self._builtins:
            for name in [name for name in functions if name not in self._builtins]:
                del functions[name]
            functions.update(self._builtins)
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if stream is not None and stream.closed:
                raise ValueError("a standard stream is closed")

    def _restore_modules(self) -> None:
        for module, path, _default, value in self._modules:
            if module in sys.modules and _value(module, path, None) is not value:
                _set(module, path, value)
        self._loggers.restore()
        if watchdog := sys.modules.get("faulthandler"):
            watchdog.cancel_dump_traceback_later()


_settings_of_logger = attrgetter("level", "handlers", "propagate", "disabled")


class _Loggers:
    """The settings of the loggers that exist."""

    def __init__(self) -> None:
        logging = sys.modules.get("logging")
        self._found: list[Any] = []
        self._settings: list[tuple[int, list[Any], bool, bool]] = []
        self._disabled = 0
        if logging:
            loggers = [logging.root, *logging.root.manager.loggerDict.values()]
            self._found = [one for one in loggers if isinstance(one, logging.Logger)]
            self._settings = [(one.level, list(one.handlers), one.propagate, one.disabled) for one in self._found]
            self._disabled = logging.root.manager.disable

    def restore(self) -> None:
        logging = sys.modules.get("logging")
        if not logging:
            return
        if not self._found:
            self._found, self._settings = [logging.root], [(logging.WARNING, [], True, False)]
        if [*map(_settings_of_logger, self._found)] != self._settings:
            for logger, (level, handlers, propagate, disabled) in zip(self._found, self._settings, strict=True):
                if logger.level != level:
                    logger.setLevel(level)
                if logger.handlers != handlers:
                    logger.handlers[:] = handlers
                logger.propagate, logger.disabled = propagate, disabled
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)


class _Identity:
    """What a process cannot have back once it has given it up."""

    def __init__(self) -> None:
        self._root, self._user, self._priority = _root(), _user(), _priority()
        self._rights, self._memory = _rights(), _memory()

    def fault(self, memory_limit: int) -> str:
        """Why the process cannot be used again; empty if it can."""
        if self._root != _root():
            return "it has changed its root directory"
        if self._user != _user():
            return "it has changed its user or its groups"
        if self._priority != _priority():
            return "it has changed its priority"
        if not sys.modules.keys().isdisjoint(_FOREIGN_CALLS) and self._rights != _rights():
            return "it has changed its capabilities, its namespaces or its filter of system calls"
        limit = self._memory + memory_limit
        # The peak is had for one call, and the memory of now only by reading a long file.
        if 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > limit and _memory() > limit:
            return MEMORY
        return ""


def _user() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), os.getgroups()


def _priority() -> tuple[int, int]:
    return os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)


def _rights() -> tuple[object, ...]:
    """What a process may do, and in which namespaces."""
    rights = _between(_status(), b"\nCapInh:", b"\nSpeculation")
    effective = _between(rights, b"\nCapEff:", b"\nCapBnd:").partition(b"\t")[2]
    if not effective or int(effective, 16) & _CAPABLE_OF_NAMESPACES == 0:
        return (rights,)
    return rights, *(os.stat(path).st_ino for path in _NAMESPACES)  # noqa: PTH116  (faster than a `Path`)


def _memory() -> int:
    """The memory of this process that is in RAM, in bytes."""
    return 1024 * int(_between(_status(), b"\nVmRSS:", b" kB").partition(b"\t")[2] or 0)


def _status() -> bytes:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    try:
        return os.read(fd, 16_384)
    finally:
        os.close(fd)


def _root() -> tuple[int, int]:
    found = os.stat("/")  # noqa: PTH116  (faster than a `Path`)
    return found.st_dev, found.st_ino


def _between(text: bytes, first: bytes, last: bytes) -> bytes:
    """The part of the text from `first` to `last`; empty if they are not there."""
    start = text.find(first)
    return text[start : text.find(last, start)] if start >= 0 else b""


def _value(module: str, path: str, default: object) -> Any:
    """What a module holds under a name, or an object in it under a name of its own."""
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, default)
    return found


def _set(module: str, path: str, value: object) -> None:
    *objects, name = path.split(".")
    holder: Any = sys.modules[module]
    for one in objects:
        holder = getattr(holder, one)
    setattr(holder, name, value)

"""Tasks that change the state of their process, and one that looks at it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import decimal
import gc
import locale
import logging
import multiprocessing
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ftjm

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
LOG = logging.getLogger(__name__)
LOG.addHandler(logging.NullHandler())
KEPT: list[object] = []


@ftjm.task(name="state")
def state() -> dict[str, Any]:
    """The state of this process, as far as an attempt may change it."""
    return {
        "environment": sorted(name for name in os.environ if not name.startswith("FTJM_")),
        "of C": sorted(name for name in os.popen("env").read().split() if "LEAK" in name or name.startswith("TZ")),
        "home": os.environ["HOME"],
        "directory is empty": not os.listdir(),  # noqa: PTH208
        "umask": _umask(),
        "handlers": [repr(signal.getsignal(number)) for number in (1, 2, 10, 13, 14)],
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "timers": [signal.getitimer(which) for which in (0, 1, 2)],
        "limits": [resource.getrlimit(which)[0] for which in range(10)],
        "recursion": sys.getrecursionlimit(),
        "interval": sys.getswitchinterval(),
        "trace": [repr(one()) for one in (sys.gettrace, sys.getprofile, threading.gettrace, threading.getprofile)],
        "hooks": [repr(one) for one in (sys.excepthook, sys.unraisablehook, threading.excepthook)],
        "argv": sys.argv,
        "path": sys.path,
        "streams": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
        "filters": repr(warnings.filters),
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.callbacks)],
        "precision": decimal.getcontext().prec,
        "variable": VARIABLE.get(),
        "timeout": socket.getdefaulttimeout(),
        "locale": locale.setlocale(locale.LC_ALL),
        "zone": [time.tzname, time.timezone],
        "loggers": [(repr(one.handlers), one.level, one.disabled) for one in (logging.root, LOG)],
        "logging": [logging.root.manager.disable, repr(logging._warnings_showwarning)],  # type: ignore[attr-defined]
        "stack": threading.stack_size(),
        "temporary": tempfile.gettempdir(),
        "processors": sorted(os.sched_getaffinity(0)),
        "opener": repr(urllib.request._opener),  # type: ignore[attr-defined]
        "policy": repr(asyncio.events._event_loop_policy),  # type: ignore[attr-defined]
        "method": multiprocessing.get_start_method(allow_none=True),
        "built-in": [hasattr(builtins, "LEAK"), repr(builtins.print)],
    }


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def _environment() -> None:
    os.environ["LEAK"] = "1"
    os.environ["FTJM_LEAK"] = "1"
    os.environ["HOME"] = "/elsewhere"
    os.environ["FTJM_RUN_KEY"] = "another"
    del os.environ["PATH"]


def _zone() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _directory() -> None:
    Path("left").write_text("left")
    os.chdir("/")


def _signals() -> None:
    for number in (1, 2, 10, 13, 14, 15):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [10, 12])
    for which in (0, 1, 2):
        signal.setitimer(which, 1_000)


def _limits() -> None:
    for which in range(10):
        soft, hard = resource.getrlimit(which)
        if which in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE):
            resource.setrlimit(which, (min(200, hard) if soft != 200 else 100, hard))


def _hooks() -> None:
    sys.excepthook = sys.unraisablehook = threading.excepthook = print
    sys.setprofile(lambda *_: None)
    threading.settrace(lambda *_: None)
    sys.setrecursionlimit(5_000)
    sys.setswitchinterval(1)


def _lists() -> None:
    sys.argv.append("leak")
    sys.path.insert(0, "/leak")
    warnings.simplefilter("ignore")
    gc.callbacks.append(print)
    gc.disable()
    gc.set_threshold(1, 2, 3)


def _streams() -> None:
    sys.stdout = sys.stderr = Path("out").open("w")  # noqa: SIM115
    sys.stdin = None


def _libraries() -> None:
    decimal.getcontext().prec = 7
    VARIABLE.set("leak")
    socket.setdefaulttimeout(7)
    locale.setlocale(locale.LC_ALL, "C")
    logging.basicConfig(level=logging.DEBUG, force=True)
    LOG.setLevel(logging.CRITICAL)
    LOG.addHandler(logging.StreamHandler())
    logging.disable(logging.ERROR)
    logging.captureWarnings(True)
    threading.stack_size(1 << 18)
    tempfile.tempdir = "/leak"
    urllib.request.install_opener(urllib.request.build_opener())
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    multiprocessing.set_start_method("spawn")
    builtins.LEAK = 1  # type: ignore[attr-defined]
    builtins.print = repr  # type: ignore[assignment]


def _processors() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.umask(0o777)


CHANGES: dict[str, Callable[[], None]] = {
    change.__name__.strip("_"): change
    for change in (
        *(_environment, _zone, _directory, _signals, _limits, _hooks, _lists, _streams, _libraries),
        _processors,
    )
}


@ftjm.task(name="changes")
def changes(what: str, how: str = "returns") -> int:
    """Change the state, and end."""
    CHANGES[what]()
    if how == "raises":
        raise ValueError(what)
    if how == "exits":
        sys.exit(0)
    return os.getpid()


@ftjm.task(name="pid")
def pid() -> int:
    return os.getpid()


@ftjm.task(name="alone", isolated=True)
def alone() -> int:
    return os.getpid()


@ftjm.task(name="drawn")
def drawn(seed: int | None = None) -> list[float]:
    if seed is not None:
        random.seed(seed)
    return [random.random() for _ in range(4)]


# What cannot be restored.


def _hard_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0) if hard else (soft, hard))


def _root() -> None:
    os.chroot(".")


def _user() -> None:
    os.setgroups([])
    os.setresgid(12345, 12345, 12345)
    os.setresuid(12345, 12345, 12345)


def _descriptors() -> None:
    KEPT.append([Path(os.devnull).open() for _ in range(100)])  # noqa: SIM115


def _standard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _closed() -> None:
    sys.stdout.close()


def _thread() -> None:
    threading.Thread(target=time.sleep, args=(0.2,)).start()


def _child() -> None:
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")


def _nice() -> None:
    os.nice(3)


def _garbage() -> None:
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            os.write(fd, b"garbage")


def _memory() -> None:
    KEPT.append(bytearray(os.urandom(1_000_000) * 64))


SPOILS: dict[str, Callable[[], None]] = {
    spoil.__name__.strip("_"): spoil
    for spoil in (
        *(_hard_limit, _root, _user, _descriptors, _standard_output, _closed, _thread, _child, _nice, _garbage),
        _memory,
    )
}


@ftjm.task(name="spoils")
def spoils(what: str) -> int:
    """Do what makes the process useless for others."""
    SPOILS[what]()
    return os.getpid()


# What belongs to an attempt and not to its process.


@ftjm.task(name="daemon")
def daemon(mark: str) -> int:
    """Leave a thread that reports a checkpoint when the file is there."""

    def later() -> None:
        while not Path(mark).exists():
            time.sleep(0.002)
        ftjm.checkpoint("from the thread")
        Path(f"{mark}.done").write_text(ftjm.attempt().job)

    threading.Thread(target=later, daemon=True).start()
    return os.getpid()


@ftjm.task(name="checks")
def checks(go: str, done: str) -> int:
    """Let that thread go on, and fail after it."""
    Path(go).touch()
    while not Path(done).exists():
        time.sleep(0.002)
    raise RuntimeError


@ftjm.task(name="prints")
def prints(text: str, times: int = 1) -> int:
    for _ in range(times):
        print(text)
    print(text[::-1], file=sys.stderr)
    return os.getpid()


@ftjm.task(name="escapes")
def escapes(mark: str) -> int:
    """Leave a process that is no child, and that prints later."""
    script = f"(sleep 0.3; while true; do echo late; sleep 0.01; done) & echo $! > {mark}"
    os.system(f"setsid sh -c '{script}'")
    while not (Path(mark).exists() and Path(mark).read_text().endswith("\n")):
        time.sleep(0.002)
    return os.getpid()


@ftjm.task(name="echo")
def echo(value: str) -> str:
    return value


@ftjm.task(name="waits")
def waits(mark: str) -> None:
    """Wait to be stopped."""
    Path(mark).write_text(f"{os.getpid()}\n")
    time.sleep(600)


@ftjm.task(name="dies")
def dies() -> None:
    os._exit(3)


@ftjm.task(name="forks")
def forks() -> int:
    """Fork a process that ends as the task does."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return os.getpid()

"""Tasks that the tests of the zygote and the pool run."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import ftjm

IMPORTED_BY = os.getpid()


@ftjm.task(name="add")
def add(a: int, b: int = 1) -> int:
    return a + b


@ftjm.task(name="about")
def about() -> dict:
    print("hello")
    print("oh", file=sys.stderr)
    found = {name: value for name, value in os.environ.items() if name.startswith("FTJM_")}
    return {"pid": os.getpid(), "group": os.getpgid(0), "parent": os.getppid(), "cwd": str(Path.cwd()), "env": found}


@ftjm.task(name="imported")
def imported() -> list:
    return [IMPORTED_BY, os.getpid()]


@ftjm.task(name="loaded")
def loaded(names: list[str]) -> list:
    return [name for name in names if name in sys.modules]


@ftjm.task(name="fail")
def fail(text: str) -> None:
    raise ValueError(text)


@ftjm.task(name="leave")
def leave(code: int) -> None:
    sys.exit(code)


@ftjm.task(name="returns")
def returns(what: str, size: int = 0) -> object:
    return {"set": {1}, "text": "x" * size, "none": None}[what]


@ftjm.task(name="sleep")
def sleep(mark: str, seconds: float = 600) -> str:
    Path(mark).write_text(f"{os.getpid()}\n")
    time.sleep(seconds)
    return "slept"


@ftjm.task(name="leaves_processes")
def leaves_processes(mark: str) -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(mark).write_text(f"{child.pid}\n")


@ftjm.task(name="thread")
def thread() -> None:
    threading.Timer(0.1, print, ["from the thread"]).start()


@ftjm.task(name="steps")
def steps(count: int) -> list:
    before = ftjm.attempt().checkpoint
    ftjm.checkpoint({"before": before, "steps": count})
    ftjm.progress(0.5, "half")
    raise RuntimeError(f"after {count}")


# Tasks that may be threads of one process.

HANDLER = logging.StreamHandler()  # keeps the stream that is there when the app is imported
LOG = logging.getLogger(__name__)
LOG.addHandler(HANDLER)


def _here() -> dict:
    running = ftjm.attempt()
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "parent": os.getppid(),
        "job": running.job,
        "run_key": running.run_key,
        "attempt": running.attempt,
        "checkpoint": running.checkpoint,
        "env": [name for name in os.environ if name.startswith("FTJM_")],
    }


@ftjm.task(name="warm", idempotent=True)
def warm(text: str = "") -> dict:
    print("hello", text)
    print("oh", text, file=sys.stderr)
    LOG.warning("logged %s", text)
    return _here()


@ftjm.task(name="warm_fail", idempotent=True)
def warm_fail(how: str) -> object:
    if how == "raise":
        raise ValueError("sad")
    if how == "set":
        return {1}
    sys.exit(7)


@ftjm.task(name="warm_loop", idempotent=True)
def warm_loop(mark: str, steps: int = 1_000_000) -> dict:
    """Follows a stop, and cleans up."""
    try:
        # The stop may come as soon as there is a mark.
        Path(mark).write_text(f"{os.getpid()}\n")
        for _ in range(steps):
            time.sleep(0.002)
    except ftjm.Stopped:
        Path(mark).write_text("cleaned up")
        raise
    return _here()


@ftjm.task(name="warm_until", idempotent=True)
def warm_until(mark: str, goes_on: str) -> dict:
    """Waits for a file, and leaves a checkpoint meanwhile."""
    here = _here()
    ftjm.checkpoint({"pid": os.getpid()})
    print("begins")
    Path(mark).write_text(f"{os.getpid()}\n")
    while not Path(goes_on).exists():
        time.sleep(0.002)
    return here


@ftjm.task(name="warm_stuck", idempotent=True)
def warm_stuck(mark: str) -> None:
    """Hears of no stop."""
    Path(mark).write_text(f"{os.getpid()}\n")
    time.sleep(600)


@ftjm.task(name="warm_exit", idempotent=True)
def warm_exit(goes_on: str) -> None:
    """Takes its process along."""
    while not Path(goes_on).exists():
        time.sleep(0.002)
    os._exit(3)


@ftjm.task(name="warm_child", idempotent=True)
def warm_child(mark: str) -> int:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(mark).write_text(f"{child.pid}\n")
    return os.getpid()

"""Tasks that the tests of the zygote run."""

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

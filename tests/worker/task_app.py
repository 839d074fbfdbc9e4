"""Tasks for the tests of the zygote and of what it forks."""

import atexit
import gzip
import logging
import logging.handlers
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ftjm

IMPORTED_BY = os.getpid()


@ftjm.task(name="add")
def add(a: int, b: int = 1) -> int:
    return a + b


@ftjm.task(name="add_alone", isolated=True)
def add_alone(a: int, b: int = 1) -> int:
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


@ftjm.task(name="imported_alone", isolated=True)
def imported_alone() -> list:
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


def left_open(path: str, mode: str = "w") -> Any:
    """A file that nothing closes."""
    return Path(path).open(mode)


INHERITED = left_open(os.devnull)
KEPT: list[object] = []
atexit.register(lambda: Path(os.environ["MARKS"], "inherited-exit").touch())


@ftjm.task(name="leaves_open")
def leaves_open(marks: str) -> str:
    """Leave everything to the end of the process."""
    os.dup2(os.open(f"{marks}/inherited", os.O_CREAT | os.O_WRONLY), INHERITED.fileno())
    INHERITED.write("data")
    memory = logging.handlers.MemoryHandler(1_000, target=logging.FileHandler(f"{marks}/log"))
    memory.emit(logging.makeLogRecord({"msg": "data", "levelno": logging.INFO}))
    directory = tempfile.TemporaryDirectory()
    text, binary = left_open(f"{marks}/text"), left_open(f"{marks}/bytes", "wb")
    packed = gzip.open(f"{marks}/gzip", "wt")  # noqa: SIM115
    text.write("data")
    binary.write(b"data")
    packed.write("data")
    KEPT.extend([text, binary, packed, memory, directory])
    atexit.register(lambda: Path(marks, "exit").write_text("data"))
    threading.Timer(0.1, lambda: Path(marks, "thread").write_text("data")).start()
    return directory.name


@ftjm.task(name="stops_tidily")
def stops_tidily(marks: str) -> None:
    """Clean up in `finally` when it is stopped."""
    text = left_open(f"{marks}/text")
    text.write("data")
    KEPT.append(text)
    atexit.register(lambda: Path(marks, "exit").write_text("data"))
    try:
        Path(marks, "pid").write_text(f"{os.getpid()}\n")
        time.sleep(600)
    finally:
        Path(marks, "finally").write_text("data")


@ftjm.task(name="raises_without_errors")
def raises_without_errors(how: str) -> None:
    """Raise where standard errors cannot take the traceback."""
    if how == "closed":
        sys.stderr.close()
    elif how == "closed below":
        os.close(2)
    elif how == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    else:
        sys.stderr = None
    raise ValueError("why")


@ftjm.task(name="closes_all")
def closes_all(opens: bool) -> str:
    """Close all descriptors, as a daemon does, and use their numbers for others."""
    os.closerange(3, 512)
    if opens:
        for _ in range(9):
            os.open(os.devnull, os.O_RDWR)
    return "fine"


@ftjm.task(name="odd_progress")
def odd_progress() -> None:
    """Report progress with half a character."""
    ftjm.progress(0.5, os.fsdecode(b"caf\xe9"))
    raise ValueError("so that it is reported")

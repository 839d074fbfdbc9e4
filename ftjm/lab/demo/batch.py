"""The jobs of the demonstration, and the check of their outputs.

Most jobs are commands: each compresses a file of Python's standard library, and prints the digest of the result. Others
are Python tasks: each counts what a module of the library defines.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ftjm.lab.checker import JobName
from ftjm.lab.demo.tasks import survey
from ftjm.runtime.errors import FtjmError
from ftjm.sdk.request import Request

JOBS_MIN = 2_000
FILE_BYTES_MAX = 1024 * 1024
"""Larger files are static libraries: a few of them would take as long as all others together."""
SURVEY_QUEUE = "survey"
QUEUES = tuple(f"compress-{number}" for number in range(1, 9))
TASKS = 300
TASK_OF = 8
"""One of so many jobs is a Python task, where the number of jobs is given."""
APP = "ftjm.lab.demo.tasks"
TOOLS = ("sh", "gzip", "sha256sum")
SCRIPT = 'gzip -c -"$0" <"$1" >"$2" && sha256sum <"$2"'


class CompressJob(NamedTuple):
    """A command: the file that it reads, and the file that it makes."""

    queue: str
    job_id: str
    source: Path
    target: Path
    level: int

    @property
    def name(self) -> JobName:
        """Queue and id of the job."""
        return self.queue, self.job_id


class SurveyJob(NamedTuple):
    """A Python task: the module that it reads."""

    queue: str
    job_id: str
    source: Path

    @property
    def name(self) -> JobName:
        """Queue and id of the job."""
        return self.queue, self.job_id

    @property
    def request(self) -> Request[dict[str, int]]:
        """The call of the task, to be submitted."""
        return survey(str(self.source))

    def result(self) -> dict[str, int]:
        """Return what the task must return, by running its function here."""
        return survey.run(str(self.source))


def share(jobs: int) -> tuple[int, int]:
    """Return the number of commands and of tasks for a number of jobs.

    With 0 jobs, the number of commands is 0, which stands for one for each file.
    """
    tasks = jobs // TASK_OF if jobs else TASKS
    return (jobs - tasks if jobs else 0), tasks


def require_tools() -> None:
    """Raise FtjmError if a program that the jobs run is missing."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise FtjmError(f"the program {tool} on the PATH", "none", "install it: the jobs of the demo run it")


def library_files() -> list[Path]:
    """Return the files of the standard library of the running interpreter."""
    root = Path(sysconfig.get_path("stdlib"))
    apart = {"site-packages", "dist-packages", "__pycache__"}
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - apart)
        paths = (Path(folder, name) for name in sorted(names))
        found += [path for path in paths if path.is_file() and os.access(path, os.R_OK)]
    return [path for path in found if path.stat().st_size <= FILE_BYTES_MAX]


def make(folder: Path, count: int = 0, files: list[Path] | None = None) -> list[CompressJob]:
    """Return `count` commands whose results go to `folder`; by default one for each file, and at least `JOBS_MIN`.

    Where there are fewer files, they are compressed again at other levels: some distributions leave out the tests of
    the library.
    """
    files = library_files() if files is None else files
    if not files:
        raise FtjmError("a standard library made of files", "none", "run the demo with an ordinary Python")
    count = count or max(JOBS_MIN, len(files))
    items = []
    work = itertools.cycle(itertools.product((6, 9, 1, 3), files))
    for number, (level, source) in enumerate(itertools.islice(work, count)):
        job_id = _job_id(number, source)
        items.append(CompressJob(QUEUES[number % len(QUEUES)], job_id, source, folder / f"{job_id}.gz", level))
    return items


def surveys(count: int, files: list[Path] | None = None) -> list[SurveyJob]:
    """Return `count` Python tasks, one for each module; where there are fewer modules, they are used again."""
    files = library_files() if files is None else files
    # The library's tests of the parser contain modules that cannot be parsed.
    modules = [path for path in files if path.suffix == ".py" and not {"test", "tests"} & set(path.parts)]
    if not modules:
        raise FtjmError("a standard library with modules in Python", "none", "run the demo with an ordinary Python")
    picked = modules[:: max(1, len(modules) // count)]
    return [
        SurveyJob(SURVEY_QUEUE, _job_id(number, source), source)
        for number, source in enumerate(itertools.islice(itertools.cycle(picked), count))
    ]


def _job_id(number: int, source: Path) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", f"{source.parent.name}.{source.name}")[-100:]
    return f"{number:05}-{readable}"


def write(items: Iterable[CompressJob], path: Path) -> None:
    """Write the file for `ftjm submit -f`: one job a line."""
    with path.open("w") as file:
        for item in items:
            command = ["sh", "-c", SCRIPT, str(item.level), str(item.source), str(item.target)]
            file.write(json.dumps({"queue": item.queue, "job_id": item.job_id, "command": command}) + "\n")


def verify(items: Iterable[CompressJob], printed: Mapping[JobName, bytes]) -> Iterator[str]:
    """Check the outputs of the commands.

    Args:
        printed: the output of each job, as the log holds it.

    Returns:
        A message for each file that does not unpack to its source, and for each digest that is not that of the file.
    """
    for item in items:
        name = "/".join(item.name)
        try:
            made = item.target.read_bytes()
            unpacked = gzip.decompress(made)
        except (OSError, EOFError, ValueError) as error:
            yield f"{name}: expected {item.target.name} to be what gzip made, but {error}"
            continue
        if unpacked != item.source.read_bytes():
            yield f"{name}: expected {item.target.name} to hold {item.source}, but it unpacks to something else"
        digest, output = hashlib.sha256(made).hexdigest(), printed.get(item.name, b"").decode(errors="replace")
        if output.split()[:1] != [digest]:
            yield f"{name}: expected the digest {digest}, but the job printed {output!r}"

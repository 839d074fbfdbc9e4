"""Files of jobs: YAML, JSON lines, standard input. Every job of a file is checked before the first is returned."""

from __future__ import annotations

import codecs
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from ftjm.runtime.errors import UsageError
from ftjm.specs.job import INLINE_LIMIT_BYTES, InvalidJobError, JobRequest, derived_id, parse_job
from ftjm.specs.json_text import decode_item, json_items
from ftjm.specs.problems import FieldProblem
from ftjm.specs.written import Located, UnreadableError
from ftjm.specs.yaml_lines import yaml_items

PROBLEMS_SHOWN_MAX = 20
LINE_BYTES_MAX = 4 * 1024 * 1024
SPOOL_BYTES = 16 * 1024 * 1024
"""Bytes of standard input that are kept in memory. It is read twice, so the part behind goes to a temporary file."""
LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})

DOCUMENT_BYTES_MAX = 64 * 1024 * 1024
"""YAML and JSON are read as a whole, JSON lines line by line."""

Reader = Callable[[BinaryIO], Iterator[Located]]
"""Reads the jobs of a file. Raises UnreadableError."""


class InvalidFileError(UsageError):
    """A file with jobs that cannot be submitted. None of its jobs was submitted."""

    def __init__(self, name: str, problems: list[str], count: int) -> None:
        self.problems = problems
        more = [f"… and {count - len(problems)} more"] if count > len(problems) else []
        found = f"{count} {'error' if count == 1 else 'errors'}:\n" + "\n".join(f"  {p}" for p in problems + more)
        super().__init__(f"jobs in {name}", found, "correct the file and submit it again; nothing of it was submitted")


class JobFile:
    """The jobs of one file, all valid, in its order. Iterating reads the file again, so it need not fit in memory.

    A context manager, which closes the file.
    """

    def __init__(self, name: str, content: BinaryIO, reader: Reader, inline_limit_bytes: int, batch: str) -> None:
        self.name = name
        self._content = content
        self._reader = reader
        self._limit = inline_limit_bytes
        self._batch = batch
        self.count = self._check()

    def __enter__(self) -> JobFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._content.close()

    def __iter__(self) -> Iterator[JobRequest]:
        """Every job, with its id. Raises InvalidFileError if the file has changed since it was checked."""
        ordinals: Counter[str] = Counter()
        for located in self._located():
            try:
                job = self._parsed(located)
            except InvalidJobError as error:
                raise InvalidFileError(
                    self.name, self._messages(located, error.problems), len(error.problems)
                ) from None
            yield self._named(job, ordinals)

    def _parsed(self, located: Located) -> JobRequest:
        if located.broken:
            raise InvalidJobError([FieldProblem(located.broken.path, located.broken.text)])
        return parse_job(located.fields, self._limit)

    def _named(self, job: JobRequest, ordinals: Counter[str]) -> JobRequest:
        if job.job_id:
            return job
        first = derived_id(job, 0, self._batch)
        ordinal = ordinals[first]
        ordinals[first] += 1
        return job._replace(job_id=derived_id(job, ordinal, self._batch) if ordinal else first)

    def _check(self) -> int:
        """Validate the whole file, and return the number of its jobs. Raises InvalidFileError."""
        problems: list[str] = []
        wrong = count = 0
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        for located in self._located():
            count += 1
            found: list[FieldProblem] = []
            try:
                job = self._parsed(located)
                if job.job_id:
                    content = hash(msgspec.json.encode((job.spec, job.explicit), order="sorted"))
                    line, other = seen.setdefault((job.queue, job.job_id), (located.line, content))
                    if other != content:
                        text = f"expected one job {job.queue}/{job.job_id}, but line {line} has another under this id"
                        found.append(FieldProblem(("job_id",), text))
            except InvalidJobError as error:
                found = error.problems
            wrong += len(found)
            problems += self._messages(located, found[: max(0, PROBLEMS_SHOWN_MAX - len(problems))])
        if wrong:
            raise InvalidFileError(self.name, problems, wrong)
        return count

    def _messages(self, located: Located, problems: list[FieldProblem]) -> list[str]:
        return [f"{self.name}:{located.line_of(problem.path)}: {problem}" for problem in problems]

    def _located(self) -> Iterator[Located]:
        self._content.seek(0)
        try:
            yield from self._reader(self._content)
        except UnreadableError as error:
            yield Located(None, error.line, broken=error)


def open_jobs(source: str, *, inline_limit_bytes: int = INLINE_LIMIT_BYTES, batch: str = "") -> JobFile:
    """Open and check a file of jobs; `-` is standard input.

    YAML and JSON hold a list of jobs, a list under `jobs`, or one job. JSON lines hold one job each. What the file
    holds is known by its content, and by the suffix `.jsonl`.

    Args:
        source: The name of the file, or `-`.
        inline_limit_bytes: The largest payload, in bytes.
        batch: Distinguishes this file from an earlier one with equal jobs. A job without a `job_id` gets one from its
            content, its number among equal jobs, and `batch`.

    Raises:
        UsageError: The file cannot be read.
        InvalidFileError: Something in the file is wrong. Names the line of each fault.
    """
    name = "standard input" if source == "-" else source
    content = _opened(source)
    try:
        return JobFile(name, content, _reader_of(Path(source), content), inline_limit_bytes, batch)
    except OSError as error:
        content.close()
        raise unreadable(source, error) from None
    except BaseException:
        content.close()
        raise


def _opened(source: str) -> BinaryIO:
    try:
        if source == "-":
            return _spooled(sys.stdin.buffer)
        file = Path(source).open("rb")  # noqa: SIM115  (lives as long as the JobFile)
        # A pipe (`-f <(make-jobs)`) can be read once only.
        if file.seekable():
            return file
        with file:
            return _spooled(file)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL character
        raise unreadable(source, error) from None


def unreadable(source: str, error: OSError | ValueError) -> UsageError:
    """The error of a file that cannot be read. A ValueError is of a name with a NUL character."""
    reason = str(getattr(error, "strerror", None) or error).lower()
    return UsageError(f"a readable file {source}", reason, "check the name, or give - to read standard input")


def _spooled(stream: BinaryIO) -> BinaryIO:
    spool = cast("BinaryIO", tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115  (lives as long as the JobFile)
    shutil.copyfileobj(stream, spool)
    return spool


def _reader_of(path: Path, content: BinaryIO) -> Reader:
    """The reader for this content: JSON lines, JSON or YAML."""
    suffix = path.suffix.lower()
    if suffix in LINES_SUFFIXES:
        return _json_lines
    content.seek(0)
    first, second = _two_lines(content)
    if first.startswith(b"{") and (_is_one_job(first) or second.startswith(b"{")):
        return _json_lines
    if suffix == ".json" or (first[:1] in (b"{", b"[") and _is_json(content)):
        return lambda content: json_items(_whole(content), "jobs")
    return lambda content: yaml_items(_whole(content), "jobs")


def _whole(content: BinaryIO) -> bytes:
    data = content.read(DOCUMENT_BYTES_MAX + 1)
    if len(data) > DOCUMENT_BYTES_MAX:
        text = f"expected at most {DOCUMENT_BYTES_MAX} bytes in a file that is not JSON lines; write one job a line"
        raise UnreadableError((), text)
    return data


def _two_lines(content: BinaryIO) -> tuple[bytes, bytes]:
    """The first two lines that are not empty, without the spaces around them."""
    lines = (line.strip() for line in iter(lambda: content.readline(LINE_BYTES_MAX), b""))
    found = [line.removeprefix(codecs.BOM_UTF8).lstrip() for line in islice(filter(None, lines), 2)]
    first, second = [*found, b"", b""][:2]
    return first, second


def _is_one_job(line: bytes) -> bool:
    """Whether a line is a whole mapping, and not one with a list of jobs."""
    try:
        return "jobs" not in (decode_item(line) or ())
    except UnreadableError as error:
        return bool(error.path)  # it is JSON, but a field of it is wrong


def _is_json(content: BinaryIO) -> bool:
    content.seek(0)
    try:
        next(json_items(_whole(content)), None)
    except UnreadableError:
        return False
    return True


def _json_lines(content: BinaryIO) -> Iterator[Located]:
    for number, line in enumerate(iter(lambda: content.readline(LINE_BYTES_MAX + 1), b""), 1):
        if len(line) > LINE_BYTES_MAX:
            # The remaining part of the line would be read as further jobs.
            text = f"expected at most {LINE_BYTES_MAX} bytes a line; what follows was not read"
            yield Located(None, number, broken=UnreadableError((), text))
            return
        if not line.strip():
            continue
        try:
            yield Located(decode_item(line), number)
        except UnreadableError as error:
            yield Located(None, number, broken=error)

"""Files of jobs: YAML, JSON lines, standard input. Every job is checked before the first one is given out."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from ftjm.errors import UsageError
from ftjm.inputs import INLINE_LIMIT_BYTES, InvalidJobError, JobRequest, Problem, derived_id, parse_job
from ftjm.yamljobs import Located, yaml_jobs

PROBLEMS_SHOWN_MAX = 20
LINE_BYTES_MAX = 4 * 1024 * 1024
SPOOL_BYTES = 16 * 1024 * 1024
"""Of standard input, kept in memory: what is more goes to a temporary file, since it is read twice."""
YAML_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})


class InvalidFileError(UsageError):
    """A file that holds jobs which cannot be submitted: nothing of it was."""

    def __init__(self, name: str, problems: list[str], count: int) -> None:
        self.problems = problems
        more = [f"… and {count - len(problems)} more"] if count > len(problems) else []
        found = f"{count} {'error' if count == 1 else 'errors'}:\n" + "\n".join(f"  {p}" for p in problems + more)
        super().__init__(f"jobs in {name}", found, "mend the file and submit it again; nothing of it was submitted")


class JobFile:
    """The jobs of one file, all valid, in its order. Iterating reads the file again, so it need not fit in memory.

    A context manager, which closes the file.
    """

    def __init__(self, name: str, content: BinaryIO, lines: bool, inline_limit_bytes: int, batch: str) -> None:
        self.name = name
        self._content = content
        self._lines = lines
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
                raise InvalidFileError(self.name, self._told(located, error.problems), len(error.problems)) from None
            yield self._named(job, ordinals)

    def _parsed(self, located: Located) -> JobRequest:
        if located.broken:
            raise InvalidJobError([Problem((), located.broken)])
        return parse_job(located.fields, self._limit)

    def _named(self, job: JobRequest, ordinals: Counter[str]) -> JobRequest:
        if job.job_id:
            return job
        first = derived_id(job, 0, self._batch)
        ordinal = ordinals[first]
        ordinals[first] += 1
        return job._replace(job_id=derived_id(job, ordinal, self._batch) if ordinal else first)

    def _check(self) -> int:
        """Validate everything; returns how many jobs there are."""
        problems: list[str] = []
        wrong = count = 0
        seen: dict[tuple[str, str], tuple[int, int]] = {}
        for located in self._located():
            count += 1
            found: list[Problem] = []
            try:
                job = self._parsed(located)
                if job.job_id:
                    content = hash(msgspec.json.encode(job.spec, order="sorted"))
                    line, other = seen.setdefault((job.queue, job.job_id), (located.line, content))
                    if other != content:
                        text = f"expected one job {job.queue}/{job.job_id}, but line {line} has another under this id"
                        found.append(Problem(("job_id",), text))
            except InvalidJobError as error:
                found = error.problems
            wrong += len(found)
            problems += self._told(located, found[: max(0, PROBLEMS_SHOWN_MAX - len(problems))])
        if wrong:
            raise InvalidFileError(self.name, problems, wrong)
        return count

    def _told(self, located: Located, problems: list[Problem]) -> list[str]:
        return [f"{self.name}:{located.line_of(problem.path)}: {problem}" for problem in problems]

    def _located(self) -> Iterator[Located]:
        self._content.seek(0)
        return _json_lines(self._content) if self._lines else yaml_jobs(self._content)


def open_jobs(source: str, *, inline_limit_bytes: int = INLINE_LIMIT_BYTES, batch: str = "") -> JobFile:
    """Open and check a file of jobs; `-` is standard input.

    YAML holds a list of jobs, or one under `jobs:`; JSON lines hold one job each. Jobs without a `job_id` get one
    from their content, their place among equal ones, and `batch`.

    Raises:
        UsageError: if the file cannot be read, and (as InvalidFileError) if anything in it is wrong.
    """
    name = "standard input" if source == "-" else source
    content = _spooled(sys.stdin.buffer) if source == "-" else _opened(Path(source))
    suffix = Path(source).suffix.lower()
    try:
        lines = suffix in LINES_SUFFIXES or (suffix not in YAML_SUFFIXES and _looks_like_json_lines(content))
        return JobFile(name, content, lines, inline_limit_bytes, batch)
    except BaseException:
        content.close()
        raise


def _opened(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"a readable file {path}", reason, "check the name, or give - to read standard input"
        ) from None
    # A pipe (`-f <(make-jobs)`) can be read once only.
    if file.seekable():
        return file
    with file:
        return _spooled(file)


def _spooled(stream: BinaryIO) -> BinaryIO:
    spool = cast("BinaryIO", tempfile.SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115  (lives as long as the JobFile)
    shutil.copyfileobj(stream, spool)
    return spool


def _looks_like_json_lines(content: BinaryIO) -> bool:
    content.seek(0)
    for line in iter(lambda: content.readline(LINE_BYTES_MAX), b""):
        if text := line.strip():
            return text.startswith(b"{")
    return False


def _json_lines(content: BinaryIO) -> Iterator[Located]:
    for number, line in enumerate(iter(lambda: content.readline(LINE_BYTES_MAX + 1), b""), 1):
        if len(line) > LINE_BYTES_MAX:
            # The rest of the line would be taken for jobs of its own.
            yield Located(
                None, number, {}, f"expected at most {LINE_BYTES_MAX} bytes a line; what follows was not read"
            )
            return
        if not line.strip():
            continue
        try:
            yield Located(msgspec.json.decode(line), number, {})
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield Located(None, number, {}, f"expected one JSON object a line, but {_one_line(error)}")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:1].lower() + text[1:]

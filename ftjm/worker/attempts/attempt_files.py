"""The files in an attempt's directory by which the attempt reports its result, checkpoint and progress to the guard.

    result.json             FTJM_RESULT_FILE             read when the attempt has ended with status 0
    checkpoint.json         FTJM_CHECKPOINT_FILE         read while it runs, when it has changed
    progress.json           FTJM_PROGRESS_FILE           the same: {"progress": 0 to 1, "text": "..."}
    last-checkpoint.json    FTJM_LAST_CHECKPOINT_FILE    what an earlier attempt of the run left
    work/                                                the working directory, if the job names none

A job may leave anything under these names. This is the one place that reads it: `look` takes regular files only, reads
no more than a limit, accepts JSON in UTF-8 of a limited depth, and returns what it finds wrong as text. It raises
nothing. But it may wait without end, for a disk. So the guard has another process call it: `guard/file_reader.py`. That
process makes the directories, too.
"""

import os
import stat
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from ftjm.core.json_values import DEPTH_MAX, depth
from ftjm.core.limits import CHECKPOINT_BYTES_MAX, PROGRESS_TEXT_MAX
from ftjm.runtime import private_files

RESULT, CHECKPOINT, PROGRESS, LAST = "result.json", "checkpoint.json", "progress.json", "last-checkpoint.json"
WORK = "work"
_FILES = frozenset({RESULT, CHECKPOINT, PROGRESS, LAST})
_NEW_MODE = stat.S_IFDIR | private_files.DIRECTORY_MODE
VARIABLES = {RESULT: "FTJM_RESULT_FILE", CHECKPOINT: "FTJM_CHECKPOINT_FILE", PROGRESS: "FTJM_PROGRESS_FILE"}
PROGRESS_BYTES_MAX = 8 * 1024
SETTLED_SECONDS = 1.0
"""A file that was written within this time may be half written, so what is wrong with it may mend itself."""
_NOT_REGULAR = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda _: True, "a device"),
)

Mark = int
"""Changes when a file changes: a hash of the time of its change, its size and its inode."""


class Look(msgspec.Struct, kw_only=True, tag=True):
    """A request to look at the files of one attempt."""

    number: int = 0
    """The answer has the same number."""
    directory: str
    seen: dict[str, Mark] = {}
    """The marks of the files as they were when they were read last, by their names."""
    ended: bool = False
    """Whether the attempt has ended: its files are complete, and its directory is removed."""
    result_limit: int = -1
    """How many bytes its result may have; -1 if it has no file for its result."""
    reuse: bool = True
    """Whether another attempt may have the directory if it is as new: no process of this attempt is left that could
    write to it."""


class Make(msgspec.Struct, kw_only=True, tag=True):
    """A request to make the directory of one attempt."""

    number: int = 0
    """The answer has the same number."""
    directory: str
    work: bool
    """Whether to make the directory `work` in it, where the attempt runs."""
    checkpoint: bytes = b""
    """What an earlier attempt of the run left; empty for nothing."""


class Found(msgspec.Struct):
    """What was found in the files of one attempt."""

    number: int
    seen: dict[str, Mark] = {}
    checkpoint: bytes = b""
    """The checkpoint, if it has changed; JSON."""
    progress: float = -1.0
    """The progress, if it has changed; else -1."""
    text: str = ""
    faults: list[str] = []
    """Each fault of the checkpoint and progress files, as an error text for the job's user."""
    result: bytes = b""
    refusal: str = ""
    """Why the result is refused, or the directory was not made, as an error text for the job's user; empty if neither
    is."""
    scratch: str = ""
    """The directory if it was to be removed and something is left in it."""
    clean: bool = False
    """Whether the directory of an ended attempt, with `work` in it, is as new: another attempt may have it."""


class ProgressContent(msgspec.Struct, frozen=True):
    """The content of a progress file."""

    progress: float = -1.0
    text: str = ""


class Unreadable(Exception):
    """A file that is not what it should be. The text says what it is, as the end of a sentence."""


class TooLarge(Unreadable):
    """A file that is larger than its limit."""


def make(directory: Path, *, work: bool, checkpoint: bytes) -> None:
    """Make the attempt's directory. One that is `clean` is used again.

    Args:
        directory: The path. Its parents are made, too.
        work: Whether to make the directory `work` in it, where the attempt runs.
        checkpoint: What an earlier attempt of the run left; empty for nothing.

    Raises:
        OSError: The directory cannot be made.
    """
    private_files.make_directory(directory.parent)
    directory.mkdir(private_files.DIRECTORY_MODE, exist_ok=True)
    if work:
        (directory / WORK).mkdir(private_files.DIRECTORY_MODE, exist_ok=True)
    if checkpoint:
        leave_checkpoint(directory, checkpoint)


def not_made(directory: str, error: OSError) -> str:
    """Why an attempt's directory could not be made, as an error text for the job's user."""
    where = error.filename or directory
    return f"cannot make the attempt's directory {where}: {error.strerror}; look at the worker's disk"


def is_as_made(status: os.stat_result) -> bool:
    """Whether it is a directory with the mode and the owner that `make` has given it."""
    return status.st_mode == _NEW_MODE and status.st_uid == os.geteuid()


def leave_checkpoint(directory: Path, checkpoint: bytes) -> None:
    """Write the checkpoint of an earlier attempt into an attempt's directory. Raises OSError."""
    with os.fdopen(private_files.create(directory / LAST), "wb") as file:
        file.write(checkpoint)


def look(request: Look) -> Found:
    """Look at the files of an attempt, and remove its directory if the attempt has ended. It raises nothing."""
    found = Found(request.number)
    try:
        directory = os.open(request.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return found
    except OSError as error:
        found.faults = [f"expected the attempt's own directory {request.directory}, but: {error.strerror}"]
        found.scratch = request.directory
        return found
    try:
        _look(directory, request, found)
    except Exception as error:  # noqa: BLE001  (no job may end the process that reads for all)
        found.faults = [*found.faults, f"expected files of a checkpoint and progress, but reading them failed: {error}"]
    finally:
        os.close(directory)
    if request.ended:
        found.clean = request.reuse and _clean(Path(request.directory))
        found.scratch = "" if found.clean else remove(Path(request.directory))
    return found


def _look(directory: int, request: Look, found: Found) -> None:
    for name, limit in ((CHECKPOINT, CHECKPOINT_BYTES_MAX), (PROGRESS, PROGRESS_BYTES_MAX)):
        status = _status(directory, name)
        if status is None:
            continue
        mark = hash((status.st_mtime_ns, status.st_size, status.st_ino))
        is_new = request.seen.get(name) != mark
        found.seen[name] = mark
        if not (is_new or request.ended):
            continue
        try:
            content = read(directory, name, limit)
            if not content.strip():
                continue
            value = check_json(content)
            progress = _progress(value) if name == PROGRESS else None
            if is_new and progress is None:
                found.checkpoint = content
            elif is_new and progress is not None:
                found.progress, found.text = progress
        except Unreadable as error:
            if request.ended or abs(time.time() - status.st_mtime) >= SETTLED_SECONDS:
                found.faults = [*found.faults, _fault(name, limit, error)]
            else:
                # It is looked at again, since it may be half written.
                del found.seen[name]
    if request.result_limit >= 0 and _status(directory, RESULT) is not None:
        try:
            content = read(directory, RESULT, request.result_limit)
            if content.strip():
                check_json(content)
                found.result = content
        except Unreadable as error:
            found.refusal = _fault(RESULT, request.result_limit, error)


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None


def read(directory: int, name: str, limit: int) -> bytes:
    """Read a file that a job may have made, of at most `limit` bytes.

    Raises:
        Unreadable: It cannot be read, is larger, or is not a regular file.
    """
    status = _status(directory, name)
    if status is None:
        return b""
    if not stat.S_ISREG(status.st_mode):
        kind = next(text for is_kind, text in _NOT_REGULAR if is_kind(status.st_mode))
        raise Unreadable(f"it is {kind}, not a regular file")
    try:
        # It may have become a pipe, which must not make the reader wait, or a link.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory)
        with os.fdopen(fd, "rb") as file:
            content = file.read(limit + 1)
            size = os.fstat(fd).st_size
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise TooLarge(f"found {size}")
    return content


def check_json(content: bytes) -> object:
    """The value of JSON that a job has written.

    Raises:
        Unreadable: It is not JSON in UTF-8, or deeper than `DEPTH_MAX` levels.
    """
    try:
        content.decode()
        if depth(content, DEPTH_MAX) > DEPTH_MAX:
            raise Unreadable(f"it is nested deeper than {DEPTH_MAX} levels")
        return msgspec.json.decode(content)
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8: byte 0x{content[error.start]:02x} at {error.start}") from error
    except (ValueError, msgspec.MsgspecError, MemoryError) as error:
        raise Unreadable(f"it is not JSON: {error}") from error


def _progress(value: object) -> tuple[float, str]:
    """Fraction and text of a progress file."""
    try:
        found = msgspec.convert(value, ProgressContent)
    except msgspec.ValidationError as error:
        raise Unreadable(f"it is something else: {error}") from error
    if found.progress != ProgressContent().progress and not 0 <= found.progress <= 1:
        raise Unreadable(f"its progress is {found.progress:g}")
    return found.progress, found.text[:PROGRESS_TEXT_MAX]


def _fault(name: str, limit: int, error: Unreadable) -> str:
    expected = f'{{"progress": 0 to 1, "text": "..."}} in at most {limit} bytes'
    if name != PROGRESS:
        expected = f"JSON of at most {limit} bytes"
    if isinstance(error, TooLarge):
        raise_it = ", or raise inline_limit_bytes" if name == RESULT else ""
        todo = f"store it elsewhere and give its address instead{raise_it}"
    else:
        todo = "write one JSON value, or nothing" if name == RESULT else "write it to another file and rename that"
    return f"{VARIABLES[name]}: expected {expected}, but {error}; {todo}"


def checked_result(found: bytes, size: int, limit: int) -> tuple[bytes, str]:
    """A result that may be stored, or the reason for refusing it.

    Args:
        found: The result, or more than `limit` bytes of a longer one.
        size: How many bytes it has in all.
        limit: How many bytes it may have.

    Returns:
        The result and an empty text; or no result and the reason.
    """
    if len(found) > limit:
        return b"", (
            f"expected a result of at most {limit} bytes, but found {size}; "
            "store it elsewhere and give its address as the result, or raise inline_limit_bytes"
        )
    if not found.strip():
        return b"", ""
    try:
        check_json(found)
    except Unreadable as error:
        return b"", f"expected a result of JSON ({size} bytes), but {error}; return a value that JSON can hold"
    return found, ""


def _clean(directory: Path) -> bool:
    """Remove the files of an attempt. Returns whether its directory is as new then. Making one costs a disk more."""
    try:
        with os.scandir(directory) as entries:
            names = {entry.name for entry in entries}
        for name in names & _FILES:
            (directory / name).unlink()
        if names - _FILES != {WORK}:
            return False
        statuses = (directory.lstat(), (directory / WORK).lstat())
        if not all(map(is_as_made, statuses)):
            return False
        with os.scandir(directory / WORK) as entries:
            return not any(entries)
    except OSError:
        return False


def remove(directory: Path) -> str:
    """Remove an attempt's directory if the job left nothing in it.

    Returns:
        Its path if something is left: removing a large tree takes too long for a process that reads for all attempts.
    """
    for name in _FILES:
        with suppress(OSError):
            (directory / name).unlink()
    try:
        with suppress(FileNotFoundError):
            (directory / WORK).rmdir()
        directory.rmdir()
    except FileNotFoundError:
        return ""
    except OSError:
        return str(directory)
    return ""

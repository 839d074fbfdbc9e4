"""The files by which an attempt and its guard talk: results, errors, checkpoints. Whatever a job leaves in them, the
guard is never held up, and reads no more than its limits."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import msgspec

from ftjm.core.attempts import CHECKPOINT_BYTES_MAX
from ftjm.core.model import FailureReason
from ftjm.worker.protocol import Checkpointed

RESULT, CHECKPOINT, PROGRESS, LAST = "result.json", "checkpoint.json", "progress.json", "last-checkpoint.json"
ERROR_BYTES_MAX = 64 * 1024
PROGRESS_BYTES_MAX = 8 * 1024
CHECKPOINT_EVERY_MS = 1_000
"""An attempt is heard at most this often: each time is a record in the log."""
LOOK_EVERY_MS = 200


class Told(msgspec.Struct, frozen=True):
    """Why a Python task failed, by the process that ran it."""

    reason: FailureReason
    error: str


class Said(msgspec.Struct, frozen=True):
    """What a progress file holds."""

    progress: float = -1.0
    text: str = ""


def read(path: Path, limit: int) -> tuple[bytes, int]:
    """The first `limit` bytes of a regular file, and its size; nothing of an absent one. Raises OSError."""
    try:
        # A job may leave anything under a name: a pipe must not hold the guard up.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return b"", 0
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is not a regular file")
        return file.read(limit), found.st_size


def result(directory: Path, limit: int) -> tuple[bytes, str]:
    """The result of a command, and why it is refused."""
    try:
        found, size = read(directory / RESULT, limit + 1)
    except OSError as error:
        return b"", f"expected a file of JSON in FTJM_RESULT_FILE, but {error.strerror}"
    return _result(found, size, limit)


def returned(outcome: int, limit: int) -> tuple[bytes, str]:
    """The result of a task, by the descriptor of its outcome, and why it is refused."""
    return _result(os.pread(outcome, limit + 1, 0), os.fstat(outcome).st_size, limit)


def told(outcome: int) -> Told | None:
    """Why a task failed, where it could still say so."""
    with suppress(msgspec.DecodeError):
        found = os.pread(outcome, ERROR_BYTES_MAX, 0)
        return msgspec.json.decode(found, type=Told) if found else None
    return None


def _result(found: bytes, size: int, limit: int) -> tuple[bytes, str]:
    if len(found) > limit:
        return b"", (
            f"expected a result of at most {limit} bytes, but found {size}; "
            "store it elsewhere and give its address as the result, or raise inline_limit_bytes"
        )
    if not found.strip():
        return b"", ""
    try:
        msgspec.json.decode(found)
    except (msgspec.DecodeError, RecursionError) as error:
        return b"", f"expected JSON in FTJM_RESULT_FILE ({size} bytes), but: {error}; write one JSON value, or nothing"
    return found, ""


class Words:
    """What an attempt says of how far it has come: two files, looked at now and then."""

    def __init__(self, key: str, directory: Path) -> None:
        self._key = key
        self._files = (directory / CHECKPOINT, directory / PROGRESS)
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._look_at = 0
        self._quiet_until = 0

    def heard(self, now: int) -> Checkpointed | None:
        """What is new, if it is time to look and to tell."""
        if now < self._look_at or now < self._quiet_until:
            return None
        self._look_at = now + LOOK_EVERY_MS
        said = self.last()
        if said is not None:
            self._quiet_until = now + CHECKPOINT_EVERY_MS
        return said

    def last(self) -> Checkpointed | None:
        """What is new, whenever it was said."""
        checkpoint, progress = (self._new(path) for path in self._files)
        if not checkpoint and not progress:
            return None
        said = Checkpointed(key=self._key)
        if checkpoint:
            said.data, said.text = self.checkpoint()
        if progress:
            with suppress(OSError, msgspec.DecodeError):
                found = msgspec.json.decode(read(self._files[1], PROGRESS_BYTES_MAX)[0], type=Said)
                said.progress, said.text = found.progress, said.text or found.text
        return said if said.data or said.progress >= 0 or said.text else None

    def _new(self, path: Path) -> bool:
        try:
            found = path.stat()
        except OSError:
            return False
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if self._seen.get(path) == mark:
            return False
        self._seen[path] = mark
        return True

    def checkpoint(self) -> tuple[bytes, str]:
        """The checkpoint, and what is wrong with it; half of one is passed over, since the rest will come."""
        try:
            data, size = read(self._files[0], CHECKPOINT_BYTES_MAX + 1)
            if len(data) > CHECKPOINT_BYTES_MAX:
                return b"", f"checkpoint refused: expected at most {CHECKPOINT_BYTES_MAX} bytes, but found {size}"
            msgspec.json.decode(data)
        except (OSError, msgspec.DecodeError, RecursionError):
            return b"", ""
        return data, ""


def remove(directory: Path) -> str:
    """Remove an attempt's directory if nothing was left in it; else its path, for somebody with more time."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name != "work":
                Path(entry.path).unlink()
    try:
        with suppress(FileNotFoundError):
            (directory / "work").rmdir()
        directory.rmdir()
    except FileNotFoundError:
        return ""
    except OSError:
        return str(directory)
    return ""

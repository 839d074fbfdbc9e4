"""A lock that gives a directory to one process at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from ftjm.runtime import private_files
from ftjm.runtime.errors import FtjmError


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, private_files.FILE_MODE)


class DirectoryLock:
    """An exclusive lock on a directory. The kernel drops it when its holder dies, so that no stale lock remains."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._path = directory / name
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            FtjmError: Another process has it (the error names that process), or the directory cannot be written.
        """
        try:
            private_files.make_directory(self._directory)
            file = open(self._path, "a+", opener=_private)  # noqa: SIM115  (it stays open, and needs an opener)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise FtjmError(
                f"the data directory {self._directory} to be free",
                f"it in use by process {holder}",
                "stop that process, or give this one a directory (--data-dir) and ports (--port) of its own",
            ) from None
        try:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        except OSError as error:
            with suppress(OSError):  # closing tries to write the buffer, and fails again
                file.close()
            raise self._unusable(error) from error
        self._file = file

    def _unusable(self, error: OSError) -> FtjmError:
        todo = "make room there, or name another with --data-dir"
        return FtjmError(f"a data directory {self._directory} that can be written", str(error), todo)

    def release(self) -> None:
        """Release the lock. Does nothing if it is not held."""
        if self._file:
            self._file.close()
            self._file = None

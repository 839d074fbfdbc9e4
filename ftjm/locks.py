"""One process at a time may use a directory."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from ftjm.errors import FtjmError


class DirectoryLock:
    """An exclusive lock that the kernel drops when its holder dies, so that none is ever left behind."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._path = directory / name
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock. Raises FtjmError, naming the holder, where another process has it."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+")
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
            with suppress(OSError):  # it writes what is left
                file.close()
            raise self._unusable(error) from error
        self._file = file

    def _unusable(self, error: OSError) -> FtjmError:
        todo = "make room there, or name another with --data-dir"
        return FtjmError(f"a data directory {self._directory} that can be written", str(error), todo)

    def release(self) -> None:
        """Drop the lock; again is fine."""
        if self._file:
            self._file.close()
            self._file = None

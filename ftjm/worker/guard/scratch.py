"""The directories of attempts on the worker's disk, and their removal.

    DATA_DIR/attempts/LIFE/lock          held (flock) while the worker process LIFE lives
                          guard-1/1/     the first attempt of its first guard

A worker that was killed leaves its directory. The next worker on the same disk finds that the lock is free, and removes
it. Removing may take long, so a thread does it, and nothing waits for it."""

import fcntl
import os
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from ftjm.runtime import private_files

LOCK = "lock"


class Scratch:
    """The directory of one worker process. Directories of processes that were killed are removed."""

    def __init__(self, base: Path) -> None:
        """Make the directory under `base`. Raises OSError."""
        private_files.make_directory(base)
        self.path = base / uuid.uuid4().hex
        private_files.make_directory(self.path)
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._guards = 0
        self._to_remove: SimpleQueue[Path | None] = SimpleQueue()
        for other in base.iterdir():
            if other != self.path:
                self._to_remove.put(other)
        self._thread = threading.Thread(target=self._remove_all, name="scratch", daemon=True)
        self._thread.start()

    def for_guard(self) -> Path:
        """A directory for the next guard."""
        self._guards += 1
        return self.path / f"guard-{self._guards}"

    def remove(self, directory: str) -> None:
        """Remove an attempt's directory soon, in the thread."""
        self._to_remove.put(Path(directory))

    def close(self) -> None:
        """Remove the directory of this process, and release its lock."""
        self._to_remove.put(self.path)
        self._to_remove.put(None)
        self._thread.join(10.0)
        os.close(self._lock)

    def _remove_all(self) -> None:
        while (path := self._to_remove.get()) is not None:
            if path.parent != self.path.parent or path == self.path or _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _abandoned(path: Path) -> bool:
    """Whether the worker process of this directory has ended."""
    with suppress(OSError):
        fd = os.open(path / LOCK, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
    return False

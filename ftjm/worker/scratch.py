"""Where attempts have their directories, and who removes what they leave."""

import fcntl
import os
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

LOCK = "lock"


class Scratch:
    """A directory for one life of a worker. Those of lives that ended without tidying up are removed."""

    def __init__(self, base: Path) -> None:
        """Raises OSError where it cannot be made."""
        base.mkdir(parents=True, exist_ok=True)
        self.path = base / uuid.uuid4().hex
        self.path.mkdir()
        self._lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._lives = 0
        self._doomed: SimpleQueue[Path | None] = SimpleQueue()
        for other in base.iterdir():
            if other != self.path:
                self._doomed.put(other)
        # Removing may take long, and nothing waits for it.
        self._thread = threading.Thread(target=self._tidy, name="scratch", daemon=True)
        self._thread.start()

    def for_guard(self) -> Path:
        """A directory for one life of the guard."""
        self._lives += 1
        return self.path / f"guard-{self._lives}"

    def remove(self, directory: str) -> None:
        """Remove an attempt's directory, some time soon."""
        self._doomed.put(Path(directory))

    def close(self) -> None:
        """Remove everything that is ours."""
        self._doomed.put(self.path)
        self._doomed.put(None)
        self._thread.join(10.0)
        os.close(self._lock)

    def _tidy(self) -> None:
        while (path := self._doomed.get()) is not None:
            if path.parent != self.path.parent or path == self.path or _abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _abandoned(path: Path) -> bool:
    """Whether the worker that this life's directory belongs to has ended."""
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

"""Files and directories that only their user can read, whatever the user's umask is.

Stores, snapshots and logs hold everything that jobs say, and some files hold passwords. RocksDB, SQLite and Java make
files by the umask alone, so the command line sets the umask of its process. Jobs run with the umask that the user has:
`users_umask` remembers it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ftjm.runtime.errors import FtjmError

UMASK = 0o077
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
MARKS = ("up.lock", "endpoint.json", "kafka/identity.json", "api/*/lock", "attempts/*/lock", "*/partition-*")
"""Content by which a data directory is known."""

_of_user: int | None = None


def set_umask() -> None:
    """Let nobody else read the files that this process makes from now on."""
    global _of_user
    before = os.umask(UMASK)
    if _of_user is None:
        _of_user = before


def users_umask() -> int:
    """The umask from before `set_umask`, for `subprocess.Popen`; -1 (leave it) if there was no such call."""
    return -1 if _of_user is None else _of_user


def make_directory(path: Path) -> None:
    """Make a directory, and its parents, with access for their user alone. Raises OSError.

    An existing directory is kept as it is.
    """
    if not path.is_dir():
        if path.parent != path:
            make_directory(path.parent)
        path.mkdir(DIRECTORY_MODE, exist_ok=True)


def claim_data_directory(path: Path) -> None:
    """Make the data directory, or take the access of others from an existing one that is ours.

    A directory that holds only other things is left as it is: what is made in it is private by itself.

    Raises:
        FtjmError: The directory cannot be used.
    """
    try:
        make_directory(path)
        found = path.stat()
        empty_or_ours = not any(path.iterdir()) or any(any(path.glob(mark)) for mark in MARKS)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & UMASK and empty_or_ours:
            path.chmod(stat.S_IMODE(found.st_mode) & ~UMASK)
    except OSError as error:
        todo = "make room there, or name another with --data-dir"
        raise FtjmError(f"a data directory {path} that can be written", str(error), todo) from error


def create(path: Path) -> int:
    """Open a file for writing, empty, with access for its user alone. Returns the descriptor. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor

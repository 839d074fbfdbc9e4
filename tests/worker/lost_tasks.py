"""Tasks whose end is hard to receive, and one that names its directory."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

import ftjm


@ftjm.task(name="where")
def where() -> str:
    return str(Path.cwd().parent)


def _much(go: str, size: int) -> str:
    """Return much once the file is there."""
    while not Path(go).exists():
        time.sleep(0.002)
    return "x" * size


def _flood(packets: int) -> int:
    """Write to the sockets of the process."""
    for fd in range(3, 20):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                for _ in range(packets):
                    os.write(fd, b"x")
    return os.getpid()


for suffix, isolated in (("", False), ("_alone", True)):
    ftjm.task(name=f"returns_much{suffix}", isolated=isolated)(_much)
    ftjm.task(name=f"floods{suffix}", isolated=isolated)(_flood)

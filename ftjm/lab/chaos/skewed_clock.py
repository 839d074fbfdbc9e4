"""Runs ftjm with a wall clock that can be set wrong: `python -m ftjm.lab.chaos.skewed_clock FILE ROLE …`.

FILE holds the error of the clock in ms, as a signed number of 8 bytes, and may change at any time. The product
has no such setting. All of it reads the wall clock with one function, `ftjm.runtime.clock.wall_ms`: this program
replaces that function before any module has imported it, and then runs `python -m ftjm` in the same process. Nothing
here imports the command line: it is started by name, as every member of the cluster is.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

from ftjm.runtime import clock

OFFSET = struct.Struct("=q")


def install(path: Path) -> None:
    """Replace `clock.wall_ms` with a clock that is wrong by the number of ms that the file holds."""
    with path.open("rb") as file:
        offset = mmap.mmap(file.fileno(), OFFSET.size, prot=mmap.PROT_READ)

    def wall_ms() -> int:
        return int(time.time_ns() // 1_000_000 + OFFSET.unpack(offset[: OFFSET.size])[0])

    clock.wall_ms = wall_ms


def set_offset(path: Path, offset_ms: int) -> None:
    """Set the error of the clock, for every process that runs with this file. Makes the file if it is missing."""
    if not path.exists():
        path.write_bytes(OFFSET.pack(0))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), OFFSET.size) as shared:
        shared[:] = OFFSET.pack(offset_ms)


if __name__ == "__main__":
    install(Path(sys.argv.pop(1)))
    runpy.run_module("ftjm", run_name="__main__", alter_sys=True)

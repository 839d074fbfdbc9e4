"""The program with a wall clock that can be set: `python -m ftjm.chaos.skewed FILE ROLE …`.

FILE holds by how many ms it is wrong, as a signed number of 8 bytes, and may change at any time. The program itself has
no such setting: this one replaces the one function by which all of it asks for the time, before anything has asked.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

from ftjm import clock

OFFSET = struct.Struct("=q")


def install(path: Path) -> None:
    """Make `clock.wall_ms` wrong by what the file holds."""
    with path.open("rb") as file:
        offset = mmap.mmap(file.fileno(), OFFSET.size, prot=mmap.PROT_READ)

    def wall_ms() -> int:
        return int(time.time_ns() // 1_000_000 + OFFSET.unpack(offset[: OFFSET.size])[0])

    clock.wall_ms = wall_ms


def set_offset(path: Path, offset_ms: int) -> None:
    """What the clock is wrong by from now on."""
    if not path.exists():
        path.write_bytes(OFFSET.pack(0))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), OFFSET.size) as shared:
        shared[:] = OFFSET.pack(offset_ms)


if __name__ == "__main__":
    install(Path(sys.argv.pop(1)))
    from ftjm.cli import main

    main()

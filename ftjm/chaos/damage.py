"""Damage to the files of a store or a snapshot, as a bad disk does it."""

from __future__ import annotations

from pathlib import Path
from random import Random

WAYS = ("flip", "cut", "remove", "zero")


def damage(directory: Path, draw: Random) -> str:
    """Damage one file of those below `directory`; what was done, empty if there are none."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    files = [path for path in files if not path.name.startswith(("LOG", "LOCK"))]
    if not files:
        return ""
    # Tables hold the rows, and their damage shows only when it is read.
    tables = [path for path in files if path.suffix == ".sst"]
    path, way = draw.choice(tables if tables and draw.random() < 0.5 else files), draw.choice(WAYS)
    if way == "remove":
        path.unlink()
    elif way == "cut":
        with path.open("r+b") as file:
            file.truncate(draw.randrange(path.stat().st_size))
    else:
        data = bytearray(path.read_bytes())
        start = draw.randrange(len(data))
        for place in range(start, min(len(data), start + 64)):
            data[place] = data[place] ^ 0xFF if way == "flip" else 0
        path.write_bytes(data)
    return f"{way} {path.parent.name}/{path.name}"

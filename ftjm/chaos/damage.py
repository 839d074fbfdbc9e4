"""Damage to the files of a store or a snapshot, as a bad disk does it, and whether it was found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

BIRTH_PARTS = 2
"""A chunk is named `<sha256>.<owner epoch>.<batch>`."""
WAYS = ("flip", "cut", "remove", "zero")


def damage(directory: Path, draw: Random) -> str:
    """Damage one file of those below `directory`; what was done, empty if there are none."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    return _damage([path for path in files if not path.name.startswith(("LOG", "LOCK"))], draw)


def damage_newest(snapshots: Path, partition: int, draw: Random) -> str:
    """Damage a file that the newest snapshot of a partition brought along; what was done, empty if there is none."""
    born: dict[tuple[int, ...], list[Path]] = defaultdict(list)
    for path in sorted(snapshots.glob(f"*/{partition}/*")):
        _, *birth = path.name.split(".")
        if len(birth) == BIRTH_PARTS and all(part.isdecimal() for part in birth):
            born[tuple(map(int, birth))].append(path)
    return _damage(born[max(born)], draw) if born else ""


def _damage(files: Sequence[Path], draw: Random) -> str:
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
        before = data[start : start + 64]
        for place in range(start, min(len(data), start + 64)):
            data[place] = data[place] ^ 0xFF if way == "flip" or not any(before) else 0
        path.write_bytes(data)
    return f"{way} {path.parent.name}/{path.name}"


def made_anew(line: Mapping[str, Any], partition: int) -> bool:
    """Whether a scheduler's log says that it threw the partition's store away, or has another one."""
    if line.get("partition") != partition:
        return False
    damaged = any(each.get("exc_type") == "DamagedStore" for each in line.get("exception", ()))
    return line.get("event") in ("store_discarded", "store_restored") or damaged

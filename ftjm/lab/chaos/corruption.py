"""Damages files of a store or a snapshot as a bad disk does, and finds in logs whether a store was replaced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

ORIGIN_PARTS = 3
"""A chunk file is named `<sha256>.<owner epoch>.<batch>.<taken at>`: the last three name its first snapshot."""
DAMAGES = ("flip", "cut", "remove", "zero")


def damage(directory: Path, draw: Random) -> str:
    """Damage one file below `directory`, and return what was done; empty if there are no files."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size)
    return _damage([path for path in files if not path.name.startswith(("LOG", "LOCK"))], draw)


def damage_newest(snapshots: Path, partition: int, draw: Random) -> str:
    """Damage a chunk that the newest snapshot of a partition added. Return what was done; empty if there is none."""
    chunks: dict[tuple[int, ...], list[Path]] = defaultdict(list)
    for path in sorted(snapshots.glob(f"*/{partition}/*")):
        _, *origin = path.name.split(".")
        if len(origin) == ORIGIN_PARTS and all(part.isdecimal() for part in origin):
            chunks[tuple(map(int, origin))].append(path)
    return _damage(chunks[max(chunks)], draw) if chunks else ""


def _damage(files: Sequence[Path], draw: Random) -> str:
    if not files:
        return ""
    # Prefer tables half of the time: they hold the rows, and damage to them shows only when a row is read.
    tables = [path for path in files if path.suffix == ".sst"]
    path, way = draw.choice(tables if tables and draw.random() < 0.5 else files), draw.choice(DAMAGES)
    if way == "remove":
        path.unlink()
    elif way == "cut":
        with path.open("r+b") as file:
            file.truncate(draw.randrange(path.stat().st_size))
    else:
        data = bytearray(path.read_bytes())
        start = draw.randrange(len(data))
        before = data[start : start + 64]
        for index in range(start, min(len(data), start + 64)):
            data[index] = data[index] ^ 0xFF if way == "flip" or not any(before) else 0
        path.write_bytes(data)
    return f"{way} {path.parent.name}/{path.name}"


def reports_new_store(line: Mapping[str, Any], partition: int) -> bool:
    """Return whether a line of a scheduler's log reports that it discarded the partition's store, or restored one."""
    if line.get("partition") != partition:
        return False
    damaged = any(each.get("exc_type") == "DamagedStore" for each in line.get("exception", ()))
    return line.get("event") in ("store_discarded", "store_restored") or damaged

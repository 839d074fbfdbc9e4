"""The bytes of every released version of every record: `python -m tests.adapters.avro.golden` adds missing ones.

A golden file is never rewritten: the logs of users hold records like it.
"""

from __future__ import annotations

import json
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from ftjm.adapters.avro import codec

FOLDER = Path(__file__).parent / "golden"


def sample(kind: Any, seed: int = 1) -> Any:
    """A fixed value of `kind`: each field differs from all other fields and from its default."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list:
        return [sample(inner[0], seed), sample(inner[0], seed + 1)]
    if origin is dict:
        return {f"name-{seed}": sample(inner[1], seed)}
    if isinstance(kind, EnumMeta):
        members: list[Any] = list(kind)
        return members[seed % len(members)]
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return kind(**{field.name: sample(field.type, seed + i) for i, field in enumerate(fields)})
    values = {bool: True, int: 1_000 * seed + 7, float: seed + 0.5, str: f"text-{seed} ü", bytes: bytes([0, seed, 255])}
    return values[kind]


def types() -> list[tuple[str, type[msgspec.Struct]]]:
    return [(kind, record) for kind, records in codec.KINDS.items() for record in records]


def schema_files() -> list[Path]:
    return sorted(codec.schema_folder().glob("*/*.avsc"))


def golden_of(schema: Path) -> Path:
    return FOLDER / schema.parent.name / f"{schema.stem}.json"


def main() -> None:
    """Write a golden for the newest version of each record that has none."""
    for kind, record in types():
        versions = [path for path in schema_files() if path.stem.split(".")[0] == record.__name__]
        newest = max(versions, key=lambda path: int(path.stem.partition(".")[2] or 1))
        path = golden_of(newest)
        if path.exists():
            continue
        value = sample(record)
        golden = {"record": msgspec.to_builtins(value), "bytes": codec.encode(value).hex()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(golden, indent=2, ensure_ascii=False) + "\n")
        print(f"{kind}/{path.name}")


if __name__ == "__main__":
    main()

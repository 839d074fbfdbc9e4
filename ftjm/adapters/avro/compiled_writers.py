"""The functions that write records, generated from schemas. `compiled` explains them, and has those that read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from ftjm.adapters.avro.compiled import RUN_MIN, RUNS_MAX, UNSIZED, function_of
from ftjm.adapters.avro.integers import LONGS
from ftjm.adapters.avro.texts import TEXTS
from ftjm.adapters.avro.versions import conditions_of, kind_of, unknown

Write = Callable[[Any], bytes]
"""Makes header and body of a struct. Raises OverflowError for an integer of more than 64 bits."""


class Version(NamedTuple):
    """One version of a record."""

    header: bytes
    """The first bytes of each record of this version."""
    schema: Mapping[str, Any]


COMMON_TEXTS = frozenset({"queue", "shard_key", "actor", "session", "worker", "executor", "working_directory"})
"""Fields whose texts many records have in common."""


def writer(versions: Sequence[Version], record: type[msgspec.Struct]) -> Write:
    """Generate the function that writes `record` in the oldest of `versions` that can hold it.

    Where a record has one version, the function is one expression. Where it has several, it first compares the fields
    that an older version lacks with their defaults:

        def write(r):
            if not r.lifeline and not r.leaving: return join((v1, L[r.port]))
            return join((v2, L[r.port], L[len(v3 := r.lifeline.encode())], v3, L[-1 if r.leaving else 0]))

    Args:
        versions: header and schema of each version, oldest first.
        record: the struct, whose defaults decide.

    Raises:
        ValueError: a schema uses an unsupported type.
    """
    source = _Writing()
    newest = versions[-1].schema
    lines = []
    for version in versions[:-1]:
        if (needed := conditions_of(version.schema, newest, record, "r", source.name)) is not None:
            written = source.record(version, "r")
            lines.append(f"    if {' and '.join(needed)}: return {written}" if needed else f"    return {written}")
    lines.append(f"    return {source.record(versions[-1], 'r')}")
    return function_of("write(r)", lines, source.names)  # type: ignore[no-any-return]


class _WrittenRuns(dict[tuple[Any, ...], bytes]):
    """The bytes of a run of fields by their values. Any thread may use it."""

    def remember(self, values: tuple[Any, ...], written: bytes) -> bytes:
        if len(self) >= RUNS_MAX:
            self.clear()
        self[values] = written
        return written


class _Writing:
    """Source of a writer: expressions that are the parts of the body, and the names that they use."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"join": b"".join, "L": LONGS, "T": TEXTS, "double": struct.Struct("<d").pack}

    def name(self, meaning: Any = None) -> str:
        name = f"v{len(self.names)}"
        self.names[name] = meaning
        return name

    def record(self, version: Version, record: str) -> str:
        """The expression that joins header and body."""
        return f"join(({self.name(version.header)}, {', '.join(self.fields(version.schema, record))}))"

    def fields(self, schema: Mapping[str, Any], record: str) -> list[str]:
        """Expressions for all fields of a struct.

        Args:
            schema: the Avro schema of the struct.
            record: expression for the struct; a name.
        """
        parts: list[str] = []
        for unsized, run in groupby(schema["fields"], lambda each: kind_of(each["type"]) in UNSIZED):
            values = [(each["type"], f"{record}.{each['name']}") for each in run]
            if unsized and len(values) >= RUN_MIN:
                parts.append(self._run(values))
            else:
                parts += [part for kind, value in values for part in self._parts(kind, value)]
        return parts

    def _run(self, values: Sequence[tuple[Any, str]]) -> str:
        """The expression for the bytes of a run of unsized fields, which are remembered by the values.

        Two values that are equal are not the same if they are 0.0 and -0.0. So the bytes of a double stand for it.
        """
        key = ", ".join(self._parts(kind, value)[0] if kind_of(kind) == "double" else value for kind, value in values)
        run, known = self.name(_WrittenRuns()), self.name()
        parts = ", ".join(part for kind, value in values for part in self._parts(kind, value))
        return f"{run}.get({known} := ({key})) or {run}.remember({known}, join(({parts})))"

    def _parts(self, schema: Any, value: str) -> list[str]:
        match kind_of(schema):
            case "int" | "long":
                return [f"L[{value}]"]
            case "string" if value.rpartition(".")[2] in COMMON_TEXTS:
                return [f"T[{value}]"]
            case "string":
                text = self.name()
                return [f"L[len({text} := {value}.encode())]", text]
            case "bytes":
                return [f"L[len({value})]", value]
            case "boolean":
                return [f"L[-1 if {value} else 0]"]
            case "double":
                return [f"double({value})"]
            case "enum":
                places = self.name({symbol: LONGS[place] for place, symbol in enumerate(schema["symbols"])})
                return [f"{places}[{value}]"]
            case "record":
                inner = self.name()
                first, *others = self.fields(schema, inner)
                if kind_of(schema["fields"][0]["type"]) in ("array", "map"):
                    # Its expression tests the list before it writes it, so the struct needs its name before.
                    return [f"({inner} := {value}) and b''", first, *others]
                return [first.replace(f"{inner}.", f"({inner} := {value}).", 1), *others]
            case "array" | "map":
                return [self._blocks(schema, value)]
            case _:
                raise unknown(schema)

    def _blocks(self, schema: Any, value: str) -> str:
        """Write an array or a map: one block with all items, and the empty block."""
        item, key = self.name(), self.name()
        if kind_of(schema) == "map":
            parts = [*self._parts("string", key), *self._parts(schema["values"], item)]
            each = f"for {key}, {item} in {value}.items()"
        else:
            parts, each = self._parts(schema["items"], item), f"for {item} in {value}"
        return f"L[len({value})] + join([join(({', '.join(parts)},)) {each}]) + L[0] if {value} else L[0]"

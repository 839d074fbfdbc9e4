"""Avro bodies to structs and back, by functions that are made for each schema.

A general library walks the schema for every record and passes through a dict. Here a schema becomes the source of one
function that has its fields one after the other, and no decision left that the schema has made: half of a fold was
decoding. Only what `schemas/` uses is known: no unions, no fixed, no logical types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import Enum
from itertools import groupby
from typing import Any, get_args

import msgspec

Read = Callable[[bytes, int], tuple[Any, int]]
"""Bytes, and where the body begins, to the struct, and where it ended: behind the bytes if they were cut short.
Raises whatever it happens to, where they are no such body."""
Write = Callable[[Any], bytes]
"""A struct to its header and body. Raises OverflowError for an integer of more than 64 bits."""

REMEMBERED_MAX = 4_096
"""Integers that are not small are times, mostly: those of a batch are the same, and of its neighbours close."""
UNSIZED = frozenset({"int", "long", "boolean", "double", "enum"})
RUN_MIN = 8
"""So many such fields in a row are settings (those of a `JobSpec`), and many records have the same."""
RUNS_MAX = 64
SMALL = tuple((n >> 1) ^ -(n & 1) for n in range(128))
"""What one byte holds."""


def reader(schema: Mapping[str, Any], record: type[msgspec.Struct]) -> Read:
    """What reads bodies written by `schema`, of any version, as `record`: what the schema lacks is left at its default.

    Raises ValueError if there is no such default, or for a schema that is none of ours.
    """
    source = _Reading()
    made = source.record(schema, record, 1)
    return _compiled("read(d, i)", [*source.lines, f"    return {made}, i"], source.names)  # type: ignore[no-any-return]


def writer(schema: Mapping[str, Any], head: bytes) -> Write:
    """What writes `head` and the fields of `schema`. Raises ValueError for a schema that is none of ours."""
    source = _Writing(head)
    parts = ", ".join(source.fields(schema, "r"))
    return _compiled("write(r)", [f"    return join((HEAD, {parts}))"], source.names)  # type: ignore[no-any-return]


def _compiled(signature: str, body: list[str], names: dict[str, Any]) -> Any:
    exec("\n".join([f"def {signature}:", *body]), names)  # noqa: S102  (source made from schemas that we ship)
    return names[signature.partition("(")[0]]


def _kind(schema: Any) -> str:
    return str(schema["type"] if isinstance(schema, dict) else schema)


def _unknown(schema: Any) -> ValueError:
    return ValueError(f"expected a schema made of what schemas/ uses, but found {schema}")


class _Reading:
    """Statements that read at `i` of `d`, and the names that they use."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"SMALL": SMALL, "BOOLS": (False, True), "double": struct.Struct("<d").unpack_from}
        self.names |= {"long": _long, "size": _size, "block": _block}

    def _name(self, meaning: Any = None) -> str:
        name = f"v{len(self.names)}"
        self.names[name] = meaning
        return name

    def _add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]

    def record(self, schema: Mapping[str, Any], record: type[msgspec.Struct] | None, depth: int) -> str:
        """Read all fields; the expression that makes the struct."""
        fields = {field.name: field for field in msgspec.structs.fields(record)} if record else {}
        given: list[tuple[str, str]] = []
        for unsized, run in groupby(schema["fields"], lambda each: _kind(each["type"]) in UNSIZED):
            run_of = {each["name"]: each["type"] for each in run}
            types = {name: fields[name].type if name in fields else None for name in run_of}
            if unsized and len(run_of) >= RUN_MIN:
                values = self._run(run_of, types, depth)
            else:
                values = [self._value(kind, types[name], depth) for name, kind in run_of.items()]
            given += [(name, value) for name, value in zip(run_of, values, strict=True)]
        if lacking := [name for name, field in fields.items() if field.required and name not in dict(given)]:
            raise ValueError(f"expected defaults for what {schema['name']} lacks, but there are none for {lacking}")
        arguments = ", ".join(f"{name}={value}" for name, value in given if name in fields)
        return f"{self._name(record)}({arguments})" if record else "None"

    def _run(self, kinds: Mapping[str, Any], types: Mapping[str, Any], depth: int) -> list[str]:
        """Read so many values, or know them by their bytes: these end where those of an earlier run ended."""
        run = self._name(_Run())
        self._add(depth, f"m = {run}.size", f"known = {run}.get(d[i:i + m])", "if known is None:")
        self._add(depth + 1, "k = i")
        values = [self._value(kind, types[name], depth + 1) for name, kind in kinds.items()]
        together = ", ".join(values)
        self._add(depth + 1, f"{run}.remember(d[k:i], ({together}))")
        self._add(depth, f"else: i += m; {together} = known")
        return values

    def _value(self, schema: Any, annotation: Any, depth: int) -> str:
        """Read a value that `annotation` is to hold, or nobody (None); the name that has it."""
        found, kind = self._name(), _kind(schema)
        match kind:
            case "int" | "long":
                self._long(found, depth)
            case "string" if isinstance(annotation, type) and issubclass(annotation, Enum):
                members = self._name({str(member.value).encode(): member for member in annotation})
                self._sized(found, f"{members}[d[i:j]]", f"{members}[b'']", depth)
            case "string":
                self._sized(found, "d[i:j].decode()", "''", depth)
            case "bytes":
                self._sized(found, "d[i:j]", "b''", depth)
            case "boolean":
                self._add(depth, f"{found} = BOOLS[d[i]]; i += 1")
            case "double":
                self._add(depth, f"{found} = double(d, i)[0]; i += 8")
            case "enum":
                symbols = self._name(dict(enumerate(map(annotation or str, schema["symbols"]))))
                self._long(found, depth)
                self._add(depth, f"{found} = {symbols}[{found}]")
            case "record":
                self._add(depth, f"{found} = {self.record(schema, annotation, depth)}")
            case "array" | "map":
                self._blocks(schema, annotation, found, depth)
            case _:
                raise _unknown(schema)
        return found

    def _long(self, found: str, depth: int) -> None:
        self._add(depth, f"{found} = d[i]", f"if {found} < 128: {found} = SMALL[{found}]; i += 1")
        self._add(depth, f"else: {found}, i = long(d, i)")

    def _sized(self, found: str, some: str, none: str, depth: int) -> None:
        self._add(depth, "n = d[i]; i += 1", "if n:")
        self._add(depth + 1, "if n & 129: n, i = size(d, i - 1)", "else: n >>= 1")
        self._add(depth + 1, f"j = i + n; {found} = {some}; i = j")
        self._add(depth, f"else: {found} = {none}")

    def _blocks(self, schema: Any, annotation: Any, found: str, depth: int) -> None:
        """An array or a map: blocks of items, the last one empty."""
        mapped = _kind(schema) == "map"
        inner = get_args(annotation)[-1] if annotation else None
        self._add(depth, f"{found} = {'{}' if mapped else '[]'}", "n = d[i]")
        self._add(depth, "if n: n, i = block(d, i)", "else: i += 1", "while n:")
        # Blocks within blocks have counts of their own.
        left = self._name()
        self._add(depth + 1, f"for {left} in range(n):")
        key = self._value("string", None, depth + 2) if mapped else ""
        item = self._value(schema["values" if mapped else "items"], inner, depth + 2)
        self._add(depth + 2, f"{found}[{key}] = {item}" if mapped else f"{found}.append({item})")
        self._add(depth + 1, "n, i = block(d, i)")


class _Run(dict[bytes, tuple[Any, ...]]):
    """The values of a run of fields by their bytes, all of one size; from any thread."""

    size = 0

    def remember(self, run: bytes, values: tuple[Any, ...]) -> None:
        if len(run) != self.size or len(self) >= RUNS_MAX:
            self.clear()
            self.size = len(run)
        self[run] = values


def _long(d: bytes, i: int) -> tuple[int, int]:
    """The integer at `i`, and where it ended. Raises IndexError where it has none, ValueError beyond 64 bits."""
    n = d[i]
    if n < 128:
        return SMALL[n], i + 1
    more = d[i + 1]
    if more < 128:
        n += (more << 7) - 128
        return (n >> 1) ^ -(n & 1), i + 2
    # Times as ms since the Unix epoch have six bytes.
    value = _times.get(d[i : i + 6])
    if value is not None:
        return value, i + 6
    end, shift = i + 1, 7
    n &= 127
    while shift < 70:
        more = d[end]
        end += 1
        n |= (more & 127) << shift
        if more < 128:
            break
        shift += 7
    if n >> 64 or shift == 70:
        raise ValueError("expected an integer of at most 64 bits")
    value = (n >> 1) ^ -(n & 1)
    if end - i == 6:
        if len(_times) >= REMEMBERED_MAX:
            _times.clear()
        _times[d[i:end]] = value
    return value, end


_times: dict[bytes, int] = {}


def _size(d: bytes, i: int) -> tuple[int, int]:
    """A length. Raises ValueError for a negative one, with which a reader would go back, and for ever."""
    n, i = _long(d, i)
    if n < 0:
        raise ValueError(f"expected a length, but found {n}")
    return n, i


def _block(d: bytes, i: int) -> tuple[int, int]:
    """How many items a block has, and where they begin: with a negative count comes their size, which is not needed."""
    n, i = _long(d, i)
    if n < 0:
        _, i = _size(d, i)
        return -n, i
    return n, i


class _Longs(dict[int, bytes]):
    """Integers to their bytes: the small ones, and those that came of late."""

    def __missing__(self, value: int) -> bytes:
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"expected an integer of at most 64 bits, but found {value}")
        n, made = (value << 1) ^ (value >> 63), bytearray()
        while n > 127:
            made.append(n & 127 | 128)
            n >>= 7
        made.append(n)
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[value] = bytes(made)
        return self[value]


class _Writing:
    """Expressions, each of which is some bytes of the body, and the names that they use."""

    def __init__(self, head: bytes) -> None:
        self.names: dict[str, Any] = {"HEAD": head, "join": b"".join, "L": _longs, "double": struct.Struct("<d").pack}

    def _name(self, meaning: Any = None) -> str:
        name = f"v{len(self.names)}"
        self.names[name] = meaning
        return name

    def fields(self, schema: Mapping[str, Any], record: str) -> list[str]:
        """Of the struct that the expression `record` is, and which is evaluated for the first field only."""
        return [part for each in schema["fields"] for part in self._parts(each["type"], f"{record}.{each['name']}")]

    def _parts(self, schema: Any, value: str) -> list[str]:
        match _kind(schema):
            case "int" | "long":
                return [f"L[{value}]"]
            case "string":
                text = self._name()
                return [f"L[len({text} := {value}.encode())]", text]
            case "bytes":
                return [f"L[len({value})]", value]
            case "boolean":
                return [f"L[-1 if {value} else 0]"]
            case "double":
                return [f"double({value})"]
            case "enum":
                places = self._name({symbol: _longs[place] for place, symbol in enumerate(schema["symbols"])})
                return [f"{places}[{value}]"]
            case "record":
                inner = self._name()
                first, *others = self.fields(schema, inner)
                return [first.replace(f"{inner}.", f"({inner} := {value}).", 1), *others]
            case "array" | "map":
                return [self._blocks(schema, value)]
            case _:
                raise _unknown(schema)

    def _blocks(self, schema: Any, value: str) -> str:
        """One block with all items, and the empty one."""
        item, key = self._name(), self._name()
        if _kind(schema) == "map":
            parts = [*self._parts("string", key), *self._parts(schema["values"], item)]
            each = f"for {key}, {item} in {value}.items()"
        else:
            parts, each = self._parts(schema["items"], item), f"for {item} in {value}"
        return f"L[len({value})] + join([join(({', '.join(parts)},)) {each}]) + L[0] if {value} else L[0]"


_longs = _Longs()

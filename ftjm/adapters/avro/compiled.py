"""Avro bodies to structs and back, by functions that are generated for each schema.

A general Avro library walks the schema for every record and builds a dict, from which a struct is then made; decoding
took half of the time of a fold. Here each schema is turned, once, into the source of a Python function that reads its
fields one after the other and makes the struct. What the schema decides is decided when the source is written;
only what the bytes decide is left. For a record of a string, a long and a boolean the reader is:

    def read(d, i):                              # bytes, and where the body begins
        n = d[i]; i += 1                         # length of the string, zigzag: twice its value
        if n:
            if n & 129: n, i = size(d, i - 1)    # more than one byte, or negative
            else: n >>= 1
            j = i + n; v6 = d[i:j].decode(); i = j
        else: v6 = ''
        v7 = d[i]                                # the long: one byte mostly, looked up in a table
        if v7 < 128: v7 = SMALL[v7]; i += 1
        elif (t := time(d[i:i + 6])) is not None: v7 = t; i += 6     # a time, which was read before
        else: v7, i = long(d, i)
        v8 = BOOLS[d[i]]; i += 1
        return v9(queue=v6, at=v7, forced=v8), i

and the writer is one expression, in which `L` is a dict from integers to their bytes, and `T` one from texts:

    join((header, T[r.queue], L[r.at], L[-1 if r.forced else 0]))

What repeats is remembered: large integers, which are mostly times; the texts of fields that many records have in
common (`COMMON_TEXTS`); and long runs of fields without a length, such as the settings of a `JobSpec`.

The format is Avro's binary encoding (specification 1.11: zigzag variable-length integers, blocks of arrays and maps).
Only what `schemas/` uses is supported: no unions, no fixed, no logical types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from inspect import signature
from itertools import groupby
from typing import Any, get_args

import msgspec

from ftjm.adapters.avro.integers import SMALL, known_time, read_block, read_long, read_size
from ftjm.adapters.avro.versions import kind_of, unknown

Read = Callable[[bytes, int], tuple[Any, int]]
"""Reads a struct from bytes at an offset; returns it and the offset behind it.

If the bytes were cut short, that offset may be behind their end. If they are no such body, any exception may be raised.
"""


UNSIZED = frozenset({"int", "long", "boolean", "double", "enum"})
"""Avro types whose values have no length of their own."""
RUN_MIN = 8
"""This many unsized fields in a row are settings (those of a `JobSpec`), which many records have in common."""
RUNS_MAX = 64
"""Runs of one kind that are remembered."""
NAMED_MAX = 15
"""Arguments with which Python calls by name without making a dict of them."""


def reader(schema: Mapping[str, Any], record: type[msgspec.Struct]) -> Read:
    """Generate the function that reads bodies of one schema.

    Args:
        schema: the schema that wrote the body, of any version.
        record: the struct to make. Fields that the schema lacks get their defaults.

    Raises:
        ValueError: a field that the schema lacks has no default, or the schema uses an unsupported type.
    """
    source = _Reading()
    made = source.record(schema, record, 1)
    return function_of("read(d, i)", [*source.lines, f"    return {made}, i"], source.names)  # type: ignore[no-any-return]


def function_of(signature: str, body: list[str], names: dict[str, Any]) -> Any:
    """The function of this signature and these lines, with `names` as its globals."""
    exec("\n".join([f"def {signature}:", *body]), names)  # noqa: S102  (source made from schemas that we ship)
    return names[signature.partition("(")[0]]


class _Reading:
    """Source of a reader: statements that read `d` at `i`, and the names that they use."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"SMALL": SMALL, "BOOLS": (False, True), "double": struct.Struct("<d").unpack_from}
        self.names |= {"long": read_long, "size": read_size, "block": read_block, "time": known_time}

    def _name(self, meaning: Any = None) -> str:
        name = f"v{len(self.names)}"
        self.names[name] = meaning
        return name

    def _add(self, depth: int, *lines: str) -> None:
        self.lines += ["    " * depth + line for line in lines]

    def record(self, schema: Mapping[str, Any], record: type[msgspec.Struct] | None, depth: int) -> str:
        """Add statements that read all fields; returns the expression that makes the struct.

        With `record` None, the fields are read and dropped.
        """
        fields = {field.name: field for field in msgspec.structs.fields(record)} if record else {}
        given: list[tuple[str, str]] = []
        for unsized, run in groupby(schema["fields"], lambda each: kind_of(each["type"]) in UNSIZED):
            run_of = {each["name"]: each["type"] for each in run}
            types = {name: fields[name].type if name in fields else None for name in run_of}
            if unsized and len(run_of) >= RUN_MIN:
                values = self._run(run_of, types, depth)
            else:
                values = [self._value(kind, types[name], depth) for name, kind in run_of.items()]
            given += [(name, value) for name, value in zip(run_of, values, strict=True)]
        if lacking := [name for name, field in fields.items() if field.required and name not in dict(given)]:
            raise ValueError(f"expected defaults for what {schema['name']} lacks, but there are none for {lacking}")
        return self._made(record, fields, [pair for pair in given if pair[0] in fields], depth) if record else "None"

    def _made(
        self,
        record: type[msgspec.Struct],
        fields: Mapping[str, msgspec.structs.FieldInfo],
        given: Sequence[tuple[str, str]],
        depth: int,
    ) -> str:
        """The expression that makes the struct. Python calls with more than 15 names take seven times as long, since
        they make a dict: so a struct's first fields are given by position, or its last optional ones are set later."""
        parameters = signature(record).parameters.values()
        positional = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
        if len(given) > NAMED_MAX and [name for name, _ in given] == positional[: len(given)]:
            return f"{self._name(record)}({', '.join(value for _, value in given)})"
        later: list[tuple[str, str]] = []
        if not record.__struct_config__.frozen:
            optional = [pair for pair in given if not fields[pair[0]].required]
            later = optional[len(optional) - max(0, len(given) - NAMED_MAX) :]
        arguments = ", ".join(f"{name}={value}" for name, value in given if (name, value) not in later)
        made = f"{self._name(record)}({arguments})"
        if later:
            struct_made = self._name()
            self._add(depth, f"{struct_made} = {made}")
            self._add(depth, *(f"{struct_made}.{name} = {value}" for name, value in later))
            return struct_made
        return made

    def _run(self, kinds: Mapping[str, Any], types: Mapping[str, Any], depth: int) -> list[str]:
        """Add statements that read a run of unsized fields, or recognize it by its bytes.

        The bytes of a run have no length. So as many bytes are looked up as the last run of this kind had; if they are
        unknown, the fields are read one by one, and remembered.
        """
        run = self._name(_Run())
        self._add(depth, f"m = {run}.size", f"known = {run}.get(d[i:i + m])", "if known is None:")
        self._add(depth + 1, "k = i")
        values = [self._value(kind, types[name], depth + 1) for name, kind in kinds.items()]
        together = ", ".join(values)
        self._add(depth + 1, f"{run}.remember(d[k:i], ({together}))")
        self._add(depth, f"else: i += m; {together} = known")
        return values

    def _value(self, schema: Any, annotation: Any, depth: int) -> str:
        """Add statements that read one value; returns the name that they assign.

        Args:
            schema: the Avro schema of the value.
            annotation: type of the struct's field; None if no field wants the value.
            depth: levels of indentation.
        """
        found, kind = self._name(), kind_of(schema)
        match kind:
            case "int" | "long":
                self._long(found, depth, may_be_time=kind == "long")
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
                raise unknown(schema)
        return found

    def _long(self, found: str, depth: int, *, may_be_time: bool = False) -> None:
        self._add(depth, f"{found} = d[i]", f"if {found} < 128: {found} = SMALL[{found}]; i += 1")
        if may_be_time:
            self._add(depth, f"elif (t := time(d[i:i + 6])) is not None: {found} = t; i += 6")
        self._add(depth, f"else: {found}, i = long(d, i)")

    def _sized(self, found: str, some: str, none: str, depth: int) -> None:
        self._add(depth, "n = d[i]; i += 1", "if n:")
        self._add(depth + 1, "if n & 129: n, i = size(d, i - 1)", "else: n >>= 1")
        self._add(depth + 1, f"j = i + n; {found} = {some}; i = j")
        self._add(depth, f"else: {found} = {none}")

    def _blocks(self, schema: Any, annotation: Any, found: str, depth: int) -> None:
        """Read an array or a map: blocks of items, ended by an empty block."""
        mapped = kind_of(schema) == "map"
        inner = get_args(annotation)[-1] if annotation else None
        self._add(depth, f"{found} = {'{}' if mapped else '[]'}", "n = d[i]")
        self._add(depth, "if n & 129: n, i = block(d, i)", "else: n >>= 1; i += 1", "while n:")
        # Blocks within blocks have counts of their own.
        left = self._name()
        self._add(depth + 1, f"for {left} in range(n):")
        key = self._value("string", None, depth + 2) if mapped else ""
        item = self._value(schema["values" if mapped else "items"], inner, depth + 2)
        self._add(depth + 2, f"{found}[{key}] = {item}" if mapped else f"{found}.append({item})")
        self._add(depth + 1, "n = d[i]")
        self._add(depth + 1, "if n: n, i = block(d, i)", "else: i += 1")


class _Run(dict[bytes, tuple[Any, ...]]):
    """The values of a run of fields by their bytes, all of one size. Any thread may use it."""

    size = 0

    def remember(self, run: bytes, values: tuple[Any, ...]) -> None:
        if len(run) != self.size or len(self) >= RUNS_MAX:
            self.clear()
            self.size = len(run)
        self[run] = values

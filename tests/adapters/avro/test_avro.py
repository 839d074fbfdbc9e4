"""The compiled codec agrees with a general Avro library, and it ends on any bytes."""

from __future__ import annotations

import io
import json
import struct
from enum import StrEnum
from typing import Any, get_args

import msgspec
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters.avro import codec, compiled, compiled_writers, integers, texts
from tests.adapters.avro.golden import schema_files
from tests.adapters.avro.test_codec import RECORDS

PARSED = {
    codec.header_of(schema): parse_schema(schema)
    for schema in (json.loads(path.read_text()) for path in schema_files())
}


@given(RECORDS)
def test_a_general_library_writes_the_same_bytes_and_reads_the_same_fields(record):
    data = codec.encode(record)
    schema = PARSED[data[: codec.HEADER_BYTES]]
    fields = schemaless_reader(io.BytesIO(data[codec.HEADER_BYTES :]), schema, None)
    assert msgspec.convert(_rows(fields, type(record)), type(record)) == record
    out = io.BytesIO()
    schemaless_writer(out, schema, fields)
    assert data == data[: codec.HEADER_BYTES] + out.getvalue()


def _rows(value: Any, kind: Any) -> Any:
    """Convert dicts to the lists that array-like structs are made from."""
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        # an older version lacks some fields
        fields = [field for field in msgspec.structs.fields(kind) if field.name in value]
        made = {field.name: _rows(value[field.name], field.type) for field in fields}
        return list(made.values()) if kind.__struct_config__.array_like else made
    if isinstance(value, list):
        return [_rows(item, get_args(kind)[0]) for item in value]
    return value


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Part(msgspec.Struct):
    name: str
    sizes: list[int] = []


class Whole(msgspec.Struct, kw_only=True):
    number: int = 0
    colour: Colour = Colour.RED
    weight: float = 0.0
    parts: list[Part] = []
    names: dict[str, str] = {}
    loose: bool = False
    text: str = "none"


def field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


PART = {
    "type": "record",
    "name": "Part",
    "fields": [field("name", "string"), field("sizes", {"type": "array", "items": "long"})],
}
WHOLE = {
    "type": "record",
    "name": "Whole",
    "fields": [
        field("number", "long"),
        field("colour", {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}),
        field("weight", "double"),
        field("parts", {"type": "array", "items": PART}),
        field("names", {"type": "map", "values": "string"}),
        field("loose", "boolean"),
        field("text", "string"),
    ],
}
VALUE = Whole(
    number=-(2**63),
    colour=Colour.GREEN,
    weight=0.5,
    parts=[Part("a", [1, 2**40]), Part("")],
    names={"a": "b", "ü": ""},
    loose=True,
    text="x" * 200,
)


def writer(schema: dict[str, Any], header: bytes = b"", record: type[msgspec.Struct] = Whole) -> compiled_writers.Write:
    """The writer of a record with one version."""
    return compiled_writers.writer([compiled_writers.Version(header, schema)], record)


def written(schema: dict[str, Any], value: msgspec.Struct) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), msgspec.to_builtins(value))
    return out.getvalue()


def test_every_kind_of_field_is_written_and_read():
    body = writer(WHOLE)(VALUE)
    assert body == written(WHOLE, VALUE)
    assert compiled.reader(WHOLE, Whole)(body, 0) == (VALUE, len(body))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_of_every_length_are_written_and_read(number, size):
    value = Whole(number=number, parts=[Part("p", [size])])
    body = writer(WHOLE, b"head")(value)
    assert body == b"head" + written(WHOLE, value)
    assert compiled.reader(WHOLE, Whole)(body, 4) == (value, len(body))


def test_the_cache_of_integers_is_bounded_and_reads_stay_right(monkeypatch):
    monkeypatch.setattr(integers, "REMEMBERED_MAX", 3)
    read, write = compiled.reader(WHOLE, Whole), writer(WHOLE)
    for number in (2**40, 2**40 + 1, 2**40 + 2, 2**40 + 3, 2**40, 2**40 + 3):
        assert read(write(Whole(number=number)), 0)[0].number == number
    assert len(integers._times) <= 3
    assert len(integers.LONGS) <= 3


class Settings(msgspec.Struct, kw_only=True):
    a: int
    b: int
    c: bool
    d: float
    e: int
    f: int
    g: int
    h: int


SETTINGS = {
    "type": "record",
    "name": "Settings",
    "fields": [field(n, {"c": "boolean", "d": "double"}.get(n, "long")) for n in Settings.__struct_fields__],
}
SOME = st.sampled_from([0, -1, 63, 64, 2**20])


@given(st.lists(st.builds(Settings, **dict.fromkeys("abefgh", SOME), c=st.booleans(), d=st.sampled_from([0.0, 1.5]))))
def test_repeated_and_new_settings_are_read(many):
    read, write = compiled.reader(SETTINGS, Settings), writer(SETTINGS, record=Settings)
    for value in [*many, *many]:
        body = write(value)
        assert read(b"x" + body + b"y", 1) == (value, 1 + len(body))
        with pytest.raises((IndexError, struct.error)):
            read(body[:-1], 0)


def test_the_cache_of_settings_is_bounded(monkeypatch):
    monkeypatch.setattr(compiled, "RUNS_MAX", 2)
    run = compiled._Run()
    for raw in (b"a", b"b", b"c"):
        run.remember(raw, ())
    assert list(run) == [b"c"]
    run.remember(b"longer", ())
    assert (run.size, list(run)) == (6, [b"longer"])


def test_the_cache_of_written_settings_is_bounded_and_tells_zeros_apart(monkeypatch):
    monkeypatch.setattr(compiled_writers, "RUNS_MAX", 2)
    write = writer(SETTINGS, record=Settings)
    for d in (0.0, -0.0, 1.5, 2.5, 0.0, -0.0):
        value = Settings(a=1, b=2, c=True, d=d, e=3, f=4, g=5, h=6)
        for _ in range(2):
            assert write(value) == written(SETTINGS, value)
    runs = compiled_writers._WrittenRuns()
    for key in range(3):
        runs.remember((key,), b"x")
    assert list(runs) == [(2,)]


def test_the_cache_of_texts_is_bounded_and_holds_no_long_ones(monkeypatch):
    monkeypatch.setattr(texts, "REMEMBERED_MAX", 2)
    known = texts.Texts()
    for text in ("a", "b", "ü", "x" * 300, "a", ""):
        assert known[text] == writer(TEXT)(Whole(text=text))
    assert set(known) == {""}


WIDE_NAMES = [f"f{n}" for n in range(18)]
BY_POSITION = msgspec.defstruct("Wide", [(name, int, 0) for name in WIDE_NAMES], frozen=True)
BY_NAME = msgspec.defstruct(
    "Wide", [*((n, int) for n in WIDE_NAMES[:2]), ("g", int, 7), *((n, int, 9) for n in WIDE_NAMES[2:])], kw_only=True
)
FROZEN_BY_NAME = msgspec.defstruct("Wide", [(name, int, 0) for name in WIDE_NAMES], kw_only=True, frozen=True)


@pytest.mark.parametrize("record", [BY_POSITION, BY_NAME, FROZEN_BY_NAME])
@pytest.mark.parametrize("most", [14, 15, 16, 18])
def test_structs_of_many_fields_are_read(record, most):
    fields = WIDE_NAMES[:most]
    values = {name: number for number, name in enumerate(fields)}
    schema = {"type": "record", "name": "Wide", "fields": [field(name, "long") for name in fields]}
    body = bytes(2 * number for number in values.values())
    assert compiled.reader(schema, record)(body, 0) == (record(**values), most)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_an_integer_of_more_than_64_bits_is_refused(number):
    with pytest.raises(OverflowError, match="64 bits"):
        writer(WHOLE)(Whole(number=number))


NUMBER = {"type": "record", "name": "Number", "fields": [field("number", "long")]}
TEXT = {"type": "record", "name": "Text", "fields": [field("text", "string")]}
PARTS = {"type": "record", "name": "Parts", "fields": [field("parts", {"type": "array", "items": PART})]}


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (NUMBER, b""),
        (NUMBER, b"\xff"),
        (NUMBER, b"\xff" * 5),
        (NUMBER, b"\xff" * 9 + b"\x02"),
        (NUMBER, b"\x80" * 2_000_000 + b"\x01"),
        (TEXT, b"\x01abc"),
        (TEXT, b"\xff\x01" + b"abc" * 100),
        (TEXT, b"\x02\xff"),
        (PARTS, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"),
        (PARTS, b"\x03\x01"),
    ],
    ids=lambda v: v["name"] if isinstance(v, dict) else v[:12].hex(),
)
def test_bytes_that_are_no_body_raise(schema, body):
    with pytest.raises((IndexError, ValueError)):
        compiled.reader(schema, Whole)(body, 0)


@pytest.mark.parametrize("body", [b"\x06ab", b"\xfe\x01" + b"x"])
def test_a_truncated_text_ends_behind_the_bytes(body):
    assert compiled.reader(TEXT, Whole)(body, 0)[1] > len(body)


def test_blocks_with_a_size_and_overlong_integers_are_read():
    read = compiled.reader(PARTS, Whole)
    one, two = b"\x02a\x02\x02\x00", b"\x02b\x00"
    # Two blocks of one item: one with the block's size, one whose count takes three bytes.
    body = b"\x01" + bytes([2 * len(one)]) + one + b"\x82\x80\x00" + two + b"\x80\x00"
    assert read(body, 0) == (Whole(parts=[Part("a", [1]), Part("b")]), len(body))


def test_fields_not_in_the_schema_get_defaults_and_fields_not_in_the_struct_are_skipped():
    extra: list[dict[str, Any]] = [
        field("gone", PART),
        field("faded", {"type": "enum", "name": "Old", "symbols": ["a"]}),
        field("lost", {"type": "map", "values": "long"}),
    ]
    old = {**WHOLE, "fields": [*extra, field("number", "int")]}
    body = b"\x02x\x02\x02\x00" + b"\x00" + b"\x02\x02k\x04\x00" + b"\x0e"
    assert compiled.reader(old, Whole)(body, 0) == (Whole(number=7), len(body))


def test_a_field_without_a_default_must_be_in_every_schema():
    with pytest.raises(ValueError, match=r"defaults for what Part lacks.*name"):
        compiled.reader({**PART, "fields": PART["fields"][1:]}, Part)


def test_an_unsupported_kind_of_schema_is_refused():
    union = {"type": "record", "name": "Union", "fields": [field("text", ["null", "string"])]}
    fixed = {"type": "record", "name": "Fixed", "fields": [field("text", {"type": "fixed", "size": 4, "name": "F"})]}
    for schema in (union, fixed):
        with pytest.raises(ValueError, match="expected a schema made of"):
            compiled.reader(schema, Whole)
        with pytest.raises(ValueError, match="expected a schema made of"):
            writer(schema)


# ---- several versions: the oldest that can hold the record is written


def without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**schema, "fields": [each for each in schema["fields"] if each["name"] not in names]}


def changed(schema: dict[str, Any], name: str, kind: Any) -> dict[str, Any]:
    return {**schema, "fields": [field(name, kind) if each["name"] == name else each for each in schema["fields"]]}


PALE = {"type": "enum", "name": "Colour", "symbols": ["red"]}
BARE = without(PART, "sizes")


@pytest.mark.parametrize(
    ("older", "held", "not_held"),
    [
        (without(WHOLE, "number"), Whole(text="x"), Whole(number=1)),
        (without(WHOLE, "text"), Whole(number=1), Whole(text="")),
        (without(WHOLE, "loose", "weight"), Whole(), Whole(loose=True)),
        (without(WHOLE, "names"), Whole(), Whole(names={"a": "b"})),
        (without(WHOLE, "colour"), Whole(), Whole(colour=Colour.GREEN)),
        (changed(WHOLE, "colour", PALE), Whole(), Whole(colour=Colour.GREEN)),
        (
            changed(WHOLE, "parts", {"type": "array", "items": BARE}),
            Whole(parts=[Part("a"), Part("b")]),
            Whole(parts=[Part("a"), Part("b", [1])]),
        ),
        (changed(WHOLE, "number", "string"), None, Whole()),
        (changed(WHOLE, "text", {"type": "string", "doc": "The same."}), Whole(text="x"), None),
    ],
)
def test_a_record_is_written_in_the_oldest_version_that_can_hold_it(older, held, not_held):
    versions = [compiled_writers.Version(b"1", older), compiled_writers.Version(b"2", WHOLE)]
    write = compiled_writers.writer(versions, Whole)
    if held is not None:
        assert write(held)[:1] == b"1"
        assert compiled.reader(older, Whole)(write(held), 1) == (held, len(write(held)))
    if not_held is not None:
        assert write(not_held) == b"2" + written(WHOLE, not_held)


@pytest.mark.parametrize(("value", "version"), [(Whole(), b"1"), (Whole(loose=True), b"2"), (Whole(number=1), b"3")])
def test_of_three_versions_the_oldest_that_can_hold_the_record_is_written(value, version):
    versions = [
        compiled_writers.Version(b"1", without(WHOLE, "loose", "number")),
        compiled_writers.Version(b"2", without(WHOLE, "number")),
        compiled_writers.Version(b"3", WHOLE),
    ]
    assert compiled_writers.writer(versions, Whole)(value)[:1] == version


def test_a_version_that_lacks_a_field_without_a_default_cannot_hold_the_record():
    versions = [compiled_writers.Version(b"1", without(PART, "name")), compiled_writers.Version(b"2", PART)]
    assert compiled_writers.writer(versions, Part)(Part("a"))[:1] == b"2"


class Parcel(msgspec.Struct, kw_only=True):
    part: Part


def test_fields_of_a_nested_record_are_compared_with_their_defaults():
    def parcel(part: dict[str, Any]) -> dict[str, Any]:
        return {"type": "record", "name": "Parcel", "fields": [field("part", part)]}

    write = compiled_writers.writer(
        [compiled_writers.Version(b"1", parcel(BARE)), compiled_writers.Version(b"2", parcel(PART))], Parcel
    )
    assert write(Parcel(part=Part("a"))) == b"1\x02a"
    assert write(Parcel(part=Part("a", [3]))) == b"2\x02a\x02\x06\x00"

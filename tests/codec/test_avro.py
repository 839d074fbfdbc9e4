"""Functions made from schemas say what a general Avro library says, and whatever bytes hold, they end."""

from __future__ import annotations

import io
import json
import struct
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters import avro, codec
from tests.codec.golden import schema_files
from tests.codec.test_codec import RECORDS

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
    """Dicts as the rows that array-like structs are converted from."""
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        made = {field.name: _rows(value[field.name], field.type) for field in msgspec.structs.fields(kind)}
        return list(made.values()) if kind.__struct_config__.array_like else made
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


def written(schema: dict[str, Any], value: msgspec.Struct) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), msgspec.to_builtins(value))
    return out.getvalue()


def test_every_kind_of_field_that_is_known():
    body = avro.writer(WHOLE, b"")(VALUE)
    assert body == written(WHOLE, VALUE)
    assert avro.reader(WHOLE, Whole)(body, 0) == (VALUE, len(body))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_of_every_length(number, size):
    value = Whole(number=number, parts=[Part("p", [size])])
    body = avro.writer(WHOLE, b"head")(value)
    assert body == b"head" + written(WHOLE, value)
    assert avro.reader(WHOLE, Whole)(body, 4) == (value, len(body))


def test_what_is_remembered_is_bounded_and_forgets_nothing(monkeypatch):
    monkeypatch.setattr(avro, "REMEMBERED_MAX", 3)
    read, write = avro.reader(WHOLE, Whole), avro.writer(WHOLE, b"")
    for number in (2**40, 2**40 + 1, 2**40 + 2, 2**40 + 3, 2**40, 2**40 + 3):
        assert read(write(Whole(number=number)), 0)[0].number == number
    assert len(avro._times) <= 3
    assert len(avro._longs) <= 3


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
def test_settings_that_were_seen_before_and_others(many):
    read, write = avro.reader(SETTINGS, Settings), avro.writer(SETTINGS, b"")
    for value in [*many, *many]:
        body = write(value)
        assert read(b"x" + body + b"y", 1) == (value, 1 + len(body))
        with pytest.raises((IndexError, struct.error)):
            read(body[:-1], 0)


def test_settings_that_are_remembered_are_few(monkeypatch):
    monkeypatch.setattr(avro, "RUNS_MAX", 2)
    run = avro._Run()
    for raw in (b"a", b"b", b"c"):
        run.remember(raw, ())
    assert list(run) == [b"c"]
    run.remember(b"longer", ())
    assert (run.size, list(run)) == (6, [b"longer"])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_an_integer_of_more_than_64_bits_is_refused(number):
    with pytest.raises(OverflowError, match="64 bits"):
        avro.writer(WHOLE, b"")(Whole(number=number))


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
        avro.reader(schema, Whole)(body, 0)


@pytest.mark.parametrize("body", [b"\x06ab", b"\xfe\x01" + b"x"])
def test_a_text_that_is_cut_short_ends_behind_the_bytes(body):
    assert avro.reader(TEXT, Whole)(body, 0)[1] > len(body)


def test_blocks_that_tell_their_size_and_integers_that_are_longer_than_they_need_be():
    read = avro.reader(PARTS, Whole)
    one, two = b"\x02a\x02\x02\x00", b"\x02b\x00"
    # Two blocks: of one item, with the block's size; of one item, counted in three bytes.
    body = b"\x01" + bytes([2 * len(one)]) + one + b"\x82\x80\x00" + two + b"\x80\x00"
    assert read(body, 0) == (Whole(parts=[Part("a", [1]), Part("b")]), len(body))


def test_what_the_schema_lacks_is_at_its_default_and_what_the_struct_lacks_is_passed_over():
    extra: list[dict[str, Any]] = [
        field("gone", PART),
        field("faded", {"type": "enum", "name": "Old", "symbols": ["a"]}),
        field("lost", {"type": "map", "values": "long"}),
    ]
    old = {**WHOLE, "fields": [*extra, field("number", "int")]}
    body = b"\x02x\x02\x02\x00" + b"\x00" + b"\x02\x02k\x04\x00" + b"\x0e"
    assert avro.reader(old, Whole)(body, 0) == (Whole(number=7), len(body))


def test_a_field_without_a_default_must_be_in_every_schema():
    with pytest.raises(ValueError, match=r"defaults for what Part lacks.*name"):
        avro.reader({**PART, "fields": PART["fields"][1:]}, Part)


def test_a_kind_of_schema_that_is_not_in_use_is_refused():
    union = {"type": "record", "name": "Union", "fields": [field("text", ["null", "string"])]}
    fixed = {"type": "record", "name": "Fixed", "fields": [field("text", {"type": "fixed", "size": 4, "name": "F"})]}
    for schema in (union, fixed):
        with pytest.raises(ValueError, match="expected a schema made of"):
            avro.reader(schema, Whole)
        with pytest.raises(ValueError, match="expected a schema made of"):
            avro.writer(schema, b"")

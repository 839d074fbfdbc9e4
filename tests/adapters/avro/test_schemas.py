"""Structs and schemas describe the same records."""

import json
from collections.abc import Iterator
from enum import EnumMeta, StrEnum
from typing import Any, get_args, get_origin

import msgspec
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from ftjm.adapters.avro import codec
from ftjm.core.records.commands import COMMANDS
from ftjm.core.records.levels import ADDITIONS
from tests.adapters.avro.golden import schema_files, types

PRIMITIVES: dict[Any, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("int", "long"),
    float: ("double",),
    str: ("string",),
    bytes: ("bytes",),
}


def newest(kind: str, name: str) -> dict[str, Any]:
    folder = codec.schema_folder() / kind
    versions = [p for p in folder.glob("*.avsc") if p.stem.split(".")[0] == name]
    schema: dict[str, Any] = json.loads(max(versions, key=lambda p: int(p.stem.partition(".")[2] or 1)).read_text())
    return schema


def assert_same_type(annotation: Any, schema: Any) -> None:
    if get_origin(annotation) is list:
        assert schema["type"] == "array"
        assert_same_type(get_args(annotation)[0], schema["items"])
    elif get_origin(annotation) is dict:
        assert schema["type"] == "map"
        assert_same_type(get_args(annotation)[1], schema["values"])
    elif isinstance(annotation, EnumMeta):
        assert issubclass(annotation, StrEnum)
        # A set that may grow is a string; a closed one is an enum with exactly its values.
        assert schema == "string" or schema["symbols"] == [member.value for member in annotation]
    elif issubclass(annotation, msgspec.Struct):
        assert_same_record(annotation, schema)
    else:
        assert schema in PRIMITIVES[annotation]


def assert_same_record(record: type[msgspec.Struct], schema: dict[str, Any]) -> None:
    fields = msgspec.structs.fields(record)
    assert schema["name"] == record.__name__
    assert schema["doc"]
    assert [f["name"] for f in schema["fields"]] == [field.name for field in fields]
    for field, written in zip(fields, schema["fields"], strict=True):
        assert_same_type(field.type, written["type"])
        if field.required:
            assert "default" not in written, field.name
        else:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            expected = default.decode("latin-1") if isinstance(default, bytes) else default
            assert written["default"] == expected, field.name


@pytest.mark.parametrize(("kind", "record"), types(), ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_a_struct_agrees_with_its_newest_schema(kind, record):
    schema = newest(kind, record.__name__)
    assert schema["namespace"] == f"ftjm.{kind}"
    assert_same_record(record, schema)


@pytest.mark.parametrize("record", COMMANDS, ids=lambda record: record.__name__)
def test_a_field_that_a_command_got_later_is_listed_under_the_level_that_adds_it(record):
    """Otherwise an owner would carry it out before the upgrade is final, and an older build could not read the log."""
    first = json.loads((codec.schema_folder() / "commands" / f"{record.__name__}.avsc").read_text())
    listed = {addition.field for addition in ADDITIONS if addition.record is record}
    assert set(paths(newest("commands", record.__name__))) - set(paths(first)) <= listed


def paths(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    """The fields of a record and of the records in it, with dots between."""
    for field in schema["fields"]:
        if isinstance(field["type"], dict) and field["type"]["type"] == "record":
            yield from paths(field["type"], f"{above}{field['name']}.")
        else:
            yield above + field["name"]


def test_no_two_schemas_share_a_fingerprint():
    headers = [codec.header_of(json.loads(path.read_text())) for path in schema_files()]
    assert len(set(headers)) == len(headers)


def test_no_schema_has_a_union():
    def kinds(schema: Any) -> None:
        assert not isinstance(schema, list)
        if isinstance(schema, dict):
            for inner in (schema["type"], schema.get("items"), schema.get("values")):
                if isinstance(inner, dict | list):
                    kinds(inner)
            for field in schema.get("fields", ()):
                kinds(field["type"])

    for path in schema_files():
        kinds(json.loads(path.read_text()))


def test_the_fingerprint_is_that_of_the_avro_specification():
    # From the test data of Avro itself (share/test/data/schema-tests.txt): 7195948357588979594 for "null".
    assert codec.header_of("null") == b"\xc3\x01" + (7195948357588979594).to_bytes(8, "little")


def test_fastavro_finds_the_same_fingerprints():
    for path in schema_files():
        schema = json.loads(path.read_text())
        expected = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
        assert codec.header_of(schema)[2:].hex() == expected, path

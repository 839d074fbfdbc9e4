"""Records as bytes: Avro in the single-object encoding, where the fingerprint selects the record type.

One schema a record and no unions, since a union costs several times the decoding. Everything that can be known
beforehand (headers, parsed schemas, which fields hold structs) is computed once, when the schemas are loaded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form
from msgspec.structs import asdict

from ftjm.core import commands, events, messages
from ftjm.core.errors import UndecodableError

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
"""Marker and fingerprint."""
RECORD_BYTES_MAX = 4 * 1024 * 1024
"""Of one encoded record: no batch is longer, so nothing longer can have come from us."""

KINDS: Mapping[str, tuple[type[msgspec.Struct], ...]] = {
    "commands": commands.COMMANDS,
    "events": (*events.EVENTS, events.BatchClosed),
    "messages": (*messages.DISPATCHES, *messages.REPLIES, *messages.HEARTBEATS),
}
"""The record types by folder of `schemas/`."""


class Undecodable(StrEnum):
    """Why bytes are no record of ours."""

    NOT_SINGLE_OBJECT = "NOT_SINGLE_OBJECT"
    """They do not begin with the marker of Avro's single-object encoding."""
    UNKNOWN_FINGERPRINT = "UNKNOWN_FINGERPRINT"
    """No schema that this version knows: another program's record, or a newer version's."""
    BAD_BODY = "BAD_BODY"
    """The body is not what its schema says."""
    TRAILING_BYTES = "TRAILING_BYTES"
    TOO_LARGE = "TOO_LARGE"


class _Encoder(NamedTuple):
    header: bytes
    schema: Any
    nested: tuple[tuple[str, Callable[[Any], Any]], ...]


class _Decoder(NamedTuple):
    record: type[msgspec.Struct]
    writer: Any
    reader: Any
    """None where the writer's schema is the newest: resolution costs, and there is nothing to resolve."""
    nested: tuple[tuple[str, Callable[[Any], Any]], ...]


class Codec:
    """Encodes structs by the newest schema of their type, and decodes records of every version in `folder`.

    Raises ValueError if a type has no schema there, or a schema no type: what was ever shipped must be readable.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, Iterable[type[msgspec.Struct]]] = KINDS) -> None:
        self._encoders: dict[type[msgspec.Struct], _Encoder] = {}
        self._decoders: dict[bytes, _Decoder] = {}
        for kind, types in kinds.items():
            versions = _versions(folder / kind)
            for record in types:
                self._add(record, versions.pop(record.__name__, {}), folder / kind)
            if versions:
                raise ValueError(f"expected a record type for every schema in {folder / kind}, but none for {versions}")

    def _add(self, record: type[msgspec.Struct], versions: Mapping[int, Path], folder: Path) -> None:
        if not versions:
            raise ValueError(f"expected a schema for {record.__name__} in {folder}, but there is none")
        schemas = {version: json.loads(path.read_text()) for version, path in versions.items()}
        newest = schemas[max(schemas)]
        flatten, build = _flatteners(record), _builders(record)
        for schema in schemas.values():
            resolve = None if schema is newest else parse_schema(newest)
            self._decoders[header_of(schema)] = _Decoder(record, parse_schema(schema), resolve, build)
        self._encoders[record] = _Encoder(header_of(newest), parse_schema(newest), flatten)

    def encode(self, record: msgspec.Struct) -> bytes:
        """One record in the single-object encoding. Raises KeyError for a type that has no schema."""
        header, schema, nested = self._encoders[type(record)]
        fields = asdict(record)
        for name, flatten in nested:
            fields[name] = flatten(fields[name])
        out = io.BytesIO()
        out.write(header)
        schemaless_writer(out, schema, fields)
        return out.getvalue()

    def decode(self, data: bytes) -> Any:
        """The struct that `data` holds, in its newest version. Raises UndecodableError, and nothing else."""
        decoder = self._decoders.get(data[:HEADER_BYTES])
        if decoder is None or len(data) > RECORD_BYTES_MAX:
            raise _why_not(data)
        record, writer, reader, nested = decoder
        body = io.BytesIO(data)
        body.seek(HEADER_BYTES)
        try:
            fields: Any = schemaless_reader(body, writer, reader)
            for name, build in nested:
                fields[name] = build(fields[name])
            decoded = msgspec.convert(fields, record)
        except Exception as error:  # a library may raise anything on bytes that others wrote
            text = f"expected a {record.__name__}, but its body cannot be read: {type(error).__name__} {error}"
            raise UndecodableError(Undecodable.BAD_BODY, text) from error
        if body.tell() != len(data):
            text = f"expected the {record.__name__} to end at byte {body.tell()}, but there are {len(data)} bytes"
            raise UndecodableError(Undecodable.TRAILING_BYTES, text)
        return decoded

    def type_of(self, data: bytes) -> type[msgspec.Struct] | None:
        """The record type that the fingerprint names, without decoding the body; None where there is none."""
        decoder = self._decoders.get(data[:HEADER_BYTES])
        return decoder.record if decoder else None


def header_of(schema: Any) -> bytes:
    """The first 10 bytes of every record of this schema: marker and fingerprint, little-endian."""
    return MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def schema_folder() -> Path:
    """Where the schemas are: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def _why_not(data: bytes) -> UndecodableError:
    if len(data) > RECORD_BYTES_MAX:
        text = f"expected a record of at most {RECORD_BYTES_MAX} bytes, but it has {len(data)}"
        return UndecodableError(Undecodable.TOO_LARGE, text)
    if data[:2] != MARKER or len(data) < HEADER_BYTES:
        text = (
            f"expected Avro's single-object encoding (c3 01, fingerprint, body), but it begins {data[:10].hex(' ')!r}"
        )
        return UndecodableError(Undecodable.NOT_SINGLE_OBJECT, text)
    text = f"expected the fingerprint of a schema that this version knows, but found {data[2:HEADER_BYTES].hex()}"
    return UndecodableError(Undecodable.UNKNOWN_FINGERPRINT, text)


def _versions(folder: Path) -> dict[str, dict[int, Path]]:
    """`Name.avsc` is version 1, `Name.2.avsc` version 2, and so on."""
    found: dict[str, dict[int, Path]] = {}
    for path in folder.glob("*.avsc"):
        name, _, version = path.stem.partition(".")
        found.setdefault(name, {})[int(version or 1)] = path
    return found


def _nested_fields(record: type[msgspec.Struct]) -> Iterable[tuple[str, type[msgspec.Struct], bool]]:
    """Fields that hold a struct, or (True) a list of them: no other nesting is used in records."""
    for field in msgspec.structs.fields(record):
        listed = get_origin(field.type) is list
        inner = get_args(field.type)[0] if listed else field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield field.name, inner, listed


def _flatteners(record: type[msgspec.Struct]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """What turns each struct field into the dict that Avro writes."""

    def one(inner: type[msgspec.Struct]) -> Callable[[Any], Any]:
        deeper = _flatteners(inner)
        if not deeper:
            return asdict

        def flatten(value: Any) -> dict[str, Any]:
            fields = asdict(value)
            for name, flatten_inner in deeper:
                fields[name] = flatten_inner(fields[name])
            return fields

        return flatten

    def many(flatten: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda values: [flatten(value) for value in values]

    return tuple((n, many(one(inner)) if listed else one(inner)) for n, inner, listed in _nested_fields(record))


def _builders(record: type[msgspec.Struct]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """What turns a dict that Avro read into the row that an array-like struct is converted from."""
    return tuple(
        (name, itemgetter(*inner.__struct_fields__))
        for name, inner, listed in _nested_fields(record)
        if inner.__struct_config__.array_like and not listed
    )


_codec = Codec(schema_folder())
encode = _codec.encode
decode = _codec.decode
type_of = _codec.type_of

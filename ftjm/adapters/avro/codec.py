"""Records as bytes: Avro's single-object encoding, in which a fingerprint of the schema names the record type.

    c3 01 | fingerprint (8 bytes, CRC-64-AVRO, little-endian) | body

Each record type has a schema of its own and there are no unions: with a union, decoding takes several times as long.
The functions that read and write a record are generated from its schema when they are first needed (`compiled.py`,
`compiled_writers.py`).
The format is in the Avro specification 1.11, under "Single-object encoding".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from fastavro.schema import to_parsing_canonical_form

from ftjm.adapters.avro.compiled import Read, reader
from ftjm.adapters.avro.compiled_writers import Version, Write, writer
from ftjm.core.errors import UndecodableError
from ftjm.core.limits import RECORD_BYTES_MAX
from ftjm.core.records import commands, events, messages

MARKER = b"\xc3\x01"
HEADER_BYTES = 10
"""Length of marker and fingerprint."""

CRC_EMPTY = 0xC15D213AA4D7A795
"""The fingerprint of no bytes, and the polynomial of the others."""

KINDS: Mapping[str, tuple[type[msgspec.Struct], ...]] = {
    "commands": commands.COMMANDS,
    "events": (*events.EVENTS, events.BatchClosed),
    "messages": (*messages.DISPATCHES, *messages.REPLIES, *messages.HEARTBEATS),
}
"""The record types by folder of `schemas/`."""


class Undecodable(StrEnum):
    """Codes for the reasons why bytes cannot be decoded."""

    NOT_SINGLE_OBJECT = "NOT_SINGLE_OBJECT"
    """The bytes do not begin with the marker of Avro's single-object encoding."""
    UNKNOWN_FINGERPRINT = "UNKNOWN_FINGERPRINT"
    """This version knows no such schema: the record is of another program, or of a newer version."""
    BAD_BODY = "BAD_BODY"
    """The body does not match its schema."""
    TRAILING_BYTES = "TRAILING_BYTES"
    TOO_LARGE = "TOO_LARGE"


# Same name as ftjm.engine.ports.Codec: this class implements that port.
class Codec:
    """Encodes structs in the oldest version that can hold them, and decodes records of every version in `folder`.

    A struct whose newer fields all have their defaults is written as the version that lacks these fields, so that
    programs that know no newer version can read it.

    Raises:
        ValueError: a type has no schema in the folder, or a schema has no type. Every schema that was ever shipped must
            stay readable.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, Iterable[type[msgspec.Struct]]] = KINDS) -> None:
        self._versions: dict[type[msgspec.Struct], list[Version]] = {}
        """The versions of each record type, oldest first."""
        self._schemas: dict[bytes, tuple[type[msgspec.Struct], Any]] = {}
        self._writers: dict[type[msgspec.Struct], Write] = {}
        self._readers: dict[bytes, Read] = {}
        for kind, types in kinds.items():
            versions = _versions(folder / kind)
            for record in types:
                self._add(record, versions.pop(record.__name__, {}), folder / kind)
            if versions:
                raise ValueError(f"expected a record type for every schema in {folder / kind}, but none for {versions}")

    def _add(self, record: type[msgspec.Struct], versions: Mapping[int, Path], folder: Path) -> None:
        if not versions:
            raise ValueError(f"expected a schema for {record.__name__} in {folder}, but there is none")
        schemas = [json.loads(versions[version].read_bytes()) for version in sorted(versions)]
        self._versions[record] = [Version(header_of(schema), schema) for schema in schemas]
        self._schemas |= {header: (record, schema) for header, schema in self._versions[record]}

    def encode(self, record: msgspec.Struct) -> bytes:
        """Encode one record. Raises KeyError for a type that has no schema."""
        kind = type(record)
        write = self._writers.get(kind)
        if write is None:
            write = self._writers[kind] = writer(self._versions[kind], kind)
        return write(record)

    def decode(self, data: bytes) -> Any:
        """Decode one record of any version. Raises UndecodableError, and no other exception."""
        header = data[:HEADER_BYTES]
        read = self._readers.get(header)
        if read is None or len(data) > RECORD_BYTES_MAX:
            if len(data) > RECORD_BYTES_MAX or header not in self._schemas:
                raise _refusal(data)
            record, schema = self._schemas[header]
            read = self._readers[header] = reader(schema, record)
        try:
            decoded, end = read(data, HEADER_BYTES)
        except Exception as error:  # bytes that another program wrote may raise anything
            raise self._bad_body(header, f"{type(error).__name__} {error}") from error
        if end != len(data):
            if end > len(data):
                raise self._bad_body(header, f"it should end at byte {end}, but the record has {len(data)} bytes")
            text = f"expected the {type(decoded).__name__} to end at byte {end}, but there are {len(data)} bytes"
            raise UndecodableError(Undecodable.TRAILING_BYTES, text)
        return decoded

    def _bad_body(self, header: bytes, reason: str) -> UndecodableError:
        text = f"expected a {self._schemas[header][0].__name__}, but its body cannot be read: {reason}"
        return UndecodableError(Undecodable.BAD_BODY, text)

    def type_of(self, data: bytes) -> type[msgspec.Struct] | None:
        """The record type that the fingerprint names; None if it is unknown. The body is not decoded."""
        found = self._schemas.get(data[:HEADER_BYTES])
        return found[0] if found else None


def header_of(schema: Any) -> bytes:
    """The first 10 bytes of every record of this schema: marker and fingerprint, little-endian."""
    return MARKER + fingerprint(to_parsing_canonical_form(schema).encode())


def fingerprint(data: bytes) -> bytes:
    """CRC-64-AVRO, little-endian: see the Avro specification 1.11, "Schema Fingerprints".

    `fastavro.schema.fingerprint` makes its table anew for each schema, which is a twentieth of the start of a process.
    """
    found = CRC_EMPTY
    for byte in data:
        found = (found >> 8) ^ _CRC_TABLE[(found ^ byte) & 0xFF]
    return found.to_bytes(8, "little")


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (CRC_EMPTY if value & 1 else 0)
    return value


def schema_folder() -> Path:
    """The folder of schemas: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def _refusal(data: bytes) -> UndecodableError:
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
    """The files of schemas by record name and version: `Name.avsc` is version 1, `Name.2.avsc` version 2, and so on."""
    found: dict[str, dict[int, Path]] = {}
    for path in folder.glob("*.avsc"):
        name, _, version = path.stem.partition(".")
        found.setdefault(name, {})[int(version or 1)] = path
    return found


_CRC_TABLE = [_crc_entry(value) for value in range(256)]
_codec = Codec(schema_folder())
encode = _codec.encode
decode = _codec.decode
type_of = _codec.type_of

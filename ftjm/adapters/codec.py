"""Records as bytes: Avro in the single-object encoding, where the fingerprint selects the record type.

One schema a record and no unions, since a union costs several times the decoding. What reads and writes a record
is made from its schema when the first one comes (`avro.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from fastavro.schema import fingerprint, to_parsing_canonical_form

from ftjm.adapters.avro import Read, Write, reader, writer
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


class Codec:
    """Encodes structs by the newest schema of their type, and decodes records of every version in `folder`.

    Raises ValueError if a type has no schema there, or a schema no type: what was ever shipped must be readable.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, Iterable[type[msgspec.Struct]]] = KINDS) -> None:
        self._newest: dict[type[msgspec.Struct], Any] = {}
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
        schemas = {version: json.loads(path.read_text()) for version, path in versions.items()}
        self._newest[record] = schemas[max(schemas)]
        self._schemas |= {header_of(schema): (record, schema) for schema in schemas.values()}

    def encode(self, record: msgspec.Struct) -> bytes:
        """One record in the single-object encoding. Raises KeyError for a type that has no schema."""
        kind = type(record)
        write = self._writers.get(kind)
        if write is None:
            schema = self._newest[kind]
            write = self._writers[kind] = writer(schema, header_of(schema))
        return write(record)

    def decode(self, data: bytes) -> Any:
        """The struct that `data` holds, in its newest version. Raises UndecodableError, and nothing else."""
        header = data[:HEADER_BYTES]
        if len(data) > RECORD_BYTES_MAX or header not in self._schemas:
            raise _why_not(data)
        read = self._readers.get(header)
        if read is None:
            record, schema = self._schemas[header]
            read = self._readers[header] = reader(schema, record)
        try:
            decoded, end = read(data, HEADER_BYTES)
        except Exception as error:  # bytes that others wrote may lead anywhere
            raise self._bad_body(header, f"{type(error).__name__} {error}") from error
        if end != len(data):
            if end > len(data):
                raise self._bad_body(header, f"it ends at byte {len(data)}, and not at {end}")
            text = f"expected the {type(decoded).__name__} to end at byte {end}, but there are {len(data)} bytes"
            raise UndecodableError(Undecodable.TRAILING_BYTES, text)
        return decoded

    def _bad_body(self, header: bytes, why: str) -> UndecodableError:
        text = f"expected a {self._schemas[header][0].__name__}, but its body cannot be read: {why}"
        return UndecodableError(Undecodable.BAD_BODY, text)

    def type_of(self, data: bytes) -> type[msgspec.Struct] | None:
        """The record type that the fingerprint names, without decoding the body; None where there is none."""
        found = self._schemas.get(data[:HEADER_BYTES])
        return found[0] if found else None


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


_codec = Codec(schema_folder())
encode = _codec.encode
decode = _codec.decode
type_of = _codec.type_of

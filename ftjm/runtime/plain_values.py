"""Records as plain values, which JSON and tables can show."""

from __future__ import annotations

from base64 import b64encode
from enum import Enum
from typing import Any

import msgspec


def present(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the fields that have no value: None, or an empty text."""
    return {name: value for name, value in document.items() if value is not None and value != ""}


def plain(value: Any) -> Any:
    """A value that JSON can hold.

    A struct becomes a dict of its fields. Bytes become text where they are UTF-8, else `{"base64": ...}`.
    """
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": b64encode(value).decode()}
    if isinstance(value, Enum):
        # A StrEnum is readable by its value, an IntEnum by its name.
        return value.value if isinstance(value, str) else value.name
    if isinstance(value, msgspec.Struct):
        return {name: plain(field) for name, field in msgspec.structs.asdict(value).items()}
    if isinstance(value, dict):
        return {name: plain(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

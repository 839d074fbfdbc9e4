"""Records as plain values: what JSON and tables show of structs and bytes."""

from __future__ import annotations

from base64 import b64encode
from enum import Enum
from typing import Any

import msgspec


def plain(value: Any) -> Any:
    """A value that JSON can hold: structs by field, bytes as text where they are UTF-8, else {"base64": ...}."""
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

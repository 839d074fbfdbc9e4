"""Shared parts of documents: the base of all structs, forms of single fields, and documents as plain values."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ftjm.core import json_values

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time, RFC 3339."""


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of all documents: what equals its default is left out when the document is written."""


def plain_document(document: Document) -> dict[str, Any]:
    """The document as a dictionary, without the fields that have no value."""
    built: dict[str, Any] = msgspec.to_builtins(document)
    return built


def json_value(data: bytes) -> Any:
    """JSON bytes as a value: None for no bytes, and text for bytes that no door of ftjm takes as JSON.

    Other programs write to the log as well, and what is in it must be shown.
    """
    if not data:
        return None
    try:
        return json_values.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def exit_fields(exit_code: int, signal: int, *, succeeded: bool) -> dict[str, int]:
    """How a process ended, as fields of a document.

    Returns:
        `signal` if a signal ended it; otherwise `exit_code` if it is known, which 0 is only for a success: rows and
        records hold a 0 as well where there was no process at all.
    """
    if signal:
        return {"signal": signal}
    return {"exit_code": exit_code} if exit_code or succeeded else {}

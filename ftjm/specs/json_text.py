"""Reads JSON as users write it: a job or a resource, a list of them, or the value of a field.

The rules for values are in `written.py`.

The parser of Python's standard library hands out every number as its text and every mapping as pairs, so that no digit
and no repeated name is lost before it is judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import JSONDecoder
from typing import Any

from ftjm.specs.written import (
    DOCUMENT_DEPTH_MAX,
    TOO_DEEP,
    FieldPath,
    Located,
    UnreadableError,
    check_depth,
    checked_text,
    decode_utf8,
    is_data,
    number,
)

_SPACE = re.compile(r"[ \t\n\r]*")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


class _Number(str):
    """A number, as it is written."""

    __slots__ = ()


class _Constant(str):
    """NaN, Infinity or -Infinity, which Python's parser takes and JSON does not have."""

    __slots__ = ()


class _Mapping(list[tuple[str, Any]]):
    """The names and values of a mapping, in their order."""


_decoder = JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Constant, object_pairs_hook=_Mapping)


def decode_value(data: bytes) -> Any:
    """The value of a field that holds data, such as `payload`. Raises UnreadableError."""
    return _converted(_parsed(decode_utf8(data)), (), data=True)


def decode_item(data: bytes) -> Any:
    """The fields of one job or resource, by name; any other value of JSON as it is. Raises UnreadableError."""
    return _converted(_parsed(decode_utf8(data)), (), data=False)


def json_items(data: bytes, under: str = "") -> Iterator[Located]:
    """The items of a JSON document, jobs or resources: a list, or one item.

    An item that cannot be read is returned too, with the reason in `broken`.

    Args:
        data: The text.
        under: A name under which the document may have its list, too; empty for none.

    Raises:
        UnreadableError: The whole is not JSON.
    """
    text = decode_utf8(data)
    whole = _parsed(text)
    start = _SPACE.match(text).end()  # type: ignore[union-attr]  # it matches everywhere
    if under and isinstance(whole, _Mapping) and any(name == under for name, _ in whole):
        if len(whole) > 1 or type(whole[0][1]) is not list:
            fault = UnreadableError((), f"expected a list under {under}, and nothing beside it")
            yield Located(None, _line(text, start), broken=fault)
            return
        [(_, _, start, whole)] = _items(text, start)
    line, counted = 1, 0
    for _, _, at, value in _items(text, start) if type(whole) is list else [(0, start, start, whole)]:
        line, counted = line + text.count("\n", counted, at), at
        yield _located(text, at, line, value)


def _located(text: str, start: int, line: int, value: Any) -> Located:
    def find(path: FieldPath) -> int | None:
        named = at = start
        for part in path:
            found = [(named, at) for name, named, at, _ in _items(text, at) if name == part]
            if not found:
                return None
            named, at = found[-1]
        return line + text.count("\n", start, named)

    try:
        return Located(_converted(value, (), data=False), line, find)
    except UnreadableError as error:
        return Located(None, line, find, error)


def _parsed(text: str) -> Any:
    """The value of the text, not converted yet. Raises UnreadableError."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        fault = f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"
        raise UnreadableError((), f"expected JSON, but {fault}", error.lineno) from None
    except RecursionError:
        raise UnreadableError((), TOO_DEEP, _line(text, _too_deep_at(text))) from None


def _too_deep_at(text: str) -> int:
    """The place of the first bracket that opens more levels than a document may have."""
    depth = 0
    for found in _BRACKETS.finditer(text):
        if found.group() in "[{":
            depth += 1
            if depth > DOCUMENT_DEPTH_MAX:
                return found.start()
        elif found.group() in "]}":
            depth -= 1
    return len(text)


def _converted(value: Any, path: FieldPath, *, data: bool) -> Any:
    """The value by the rules for values. Raises UnreadableError."""
    match value:
        case _Number():
            return number(value, path) if data or is_data(path) else str(value)
        case _Constant():
            raise UnreadableError(path, f"expected a finite number, but found {value}; JSON has no such thing")
        case str():
            return checked_text(value, path)
        case bool():
            return value if data or is_data(path) else str(value).lower()
        case _Mapping():
            check_depth(path)
            found: dict[str, Any] = {}
            for name, item in value:
                checked_text(name, path)
                if name in found:
                    raise UnreadableError((*path, name), "expected each name once, but found it again")
                found[name] = _converted(item, (*path, name), data=data)
            return found
        case list():
            check_depth(path)
            return [_converted(item, (*path, index), data=data) for index, item in enumerate(value)]
        case _:
            return value


def _items(text: str, at: int) -> Iterator[tuple[str | int, int, int, Any]]:
    """The items of the list or mapping that begins at `at`: name or index, where the item and its value are, the value.

    The text is known to be JSON.
    """
    in_list, index = text[at] == "[", 0
    if text[at] not in "[{":
        return
    at = _skip(text, at + 1)
    while text[at] not in "]}":
        begin, name = at, index
        if not in_list:
            name, at = _decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        value, end = _decoder.raw_decode(text, at)
        yield name, begin, at, value
        at = _skip(text, end)
        if text[at] == ",":
            at, index = _skip(text, at + 1), index + 1


def _skip(text: str, at: int) -> int:
    """Where the next character is that is no space."""
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches everywhere


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1

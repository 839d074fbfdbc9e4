"""Arguments, results and checkpoints are JSON. A value that JSON cannot hold is refused where it is made.

They are never pickled: a record of the log must be readable by every program, and must run no code. `None`, `bool`,
`int` (of 64 bits), finite `float`, `str`, and lists and dicts of those (with `str` keys) arrive as they were. A tuple
arrives as a list. Any other type (dates, bytes, sets, dataclasses, …) is converted by the user, who knows how to read
it back.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import Any

import msgspec

DEPTH_MAX = 100
"""Levels of lists and dicts in one another, at most: the same at every door. Libraries have limits of their own, which
differ, so what one of them read another could not write."""
INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1
HINTS = {
    "datetime": "pass its .isoformat()",
    "date": "pass its .isoformat()",
    "bytes": "pass text, or where the data is",
    "set": "pass a sorted list",
    "frozenset": "pass a sorted list",
    "Decimal": "pass it as text",
    "Path": "pass it as text",
    "PosixPath": "pass it as text",
    "UUID": "pass it as text",
}


Path = tuple[str | int, ...]
PATH_PARTS_SHOWN = 8


class NotJsonError(TypeError):
    """A value that JSON cannot hold: `path` leads to a part of the value, and `text` says what is wrong there."""

    def __init__(self, what: str, path: Path, text: str) -> None:
        where = "".join(f"[{part!r:.80}]" for part in path[:PATH_PARTS_SHOWN])
        super().__init__(f"{what}{where}{'…' if len(path) > PATH_PARTS_SHOWN else ''}: {text}")
        self.path = path
        self.text = text


def encode(value: Any, what: str) -> bytes:
    """`value` as JSON.

    Args:
        value: the value to encode.
        what: names the value in an error, such as "the result".

    Raises:
        NotJsonError: JSON cannot hold a part of the value. It is a TypeError.
    """
    if found := _fault(value, ()):
        raise NotJsonError(what, *found)
    return msgspec.json.encode(value)


def loads(data: bytes, depth_max: int = DEPTH_MAX) -> Any:
    """The value of JSON bytes that came from outside.

    Raises:
        ValueError: they are no JSON, or have more levels than `depth_max`.
    """
    if depth(data, depth_max) > depth_max:
        raise ValueError(f"it has more than {depth_max} levels of lists and objects in one another; flatten it")
    try:
        return msgspec.json.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def depth(data: bytes, enough: int = 0) -> int:
    """How many levels of lists and objects JSON bytes have; `enough` or less for bytes with no more brackets than that.

    It looks at brackets alone, so it is right for JSON, and returns something for all other bytes.
    """
    brackets = data.count(b"[") + data.count(b"{")
    if brackets <= enough:
        return brackets
    outside_of_texts = _ESCAPED.sub(b"", data).split(b'"')[::2]
    steps = b"".join(outside_of_texts).translate(_STEPS, _OTHER_BYTES)
    return max(accumulate((1 if step else -1 for step in steps), initial=0))


_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"
_OTHER_BYTES = bytes(byte for byte in range(256) if byte not in _OPENING + _CLOSING)
_STEPS = bytes(byte in _OPENING for byte in range(256))


def decode(data: bytes) -> Any:
    """The value of JSON bytes; None for empty ones."""
    return msgspec.json.decode(data) if data else None


def number_fault(value: float) -> str:
    """The reason why JSON, or a program that reads it, cannot hold this number; empty if it can."""
    if isinstance(value, int):
        if INT_MIN <= value <= INT_MAX:
            return ""
        return f"expected a whole number of 64 bits, but found one of {value.bit_length()} bits; pass it as text"
    return "" if math.isfinite(value) else f"expected a finite number, but found {value}; JSON has no such thing"


def text_fault(value: str) -> str:
    """The reason why this text has no UTF-8; empty if it has."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return f"expected text in UTF-8, but found {value[:40]!r}"
    return ""


def _fault(value: Any, path: Path) -> tuple[Path, str] | None:
    """The first part of the value that JSON cannot hold: the path to it, and the reason."""
    kind = type(value)
    text = ""
    if value is None or kind is bool:
        return None
    if len(path) >= DEPTH_MAX and kind in (list, tuple, dict):
        text = f"expected at most {DEPTH_MAX} levels, but found more"
    elif kind is int or kind is float:
        text = number_fault(value)
    elif kind is str:
        text = text_fault(value)
    elif kind is list or kind is tuple:
        return next(filter(None, (_fault(item, (*path, index)) for index, item in enumerate(value))), None)
    elif kind is dict:
        return next(filter(None, (_member_fault(key, item, path) for key, item in value.items())), None)
    else:
        hint = HINTS.get(kind.__name__, "convert it, for instance to a dict")
        text = f"expected what JSON can hold, but found {kind.__qualname__}; {hint}"
    return (path, text) if text else None


def _member_fault(key: Any, value: Any, path: Path) -> tuple[Path, str] | None:
    if type(key) is not str:
        return path, f"expected text as keys, but found {type(key).__qualname__}; JSON has no others"
    if text := text_fault(key):
        return path, text
    return _fault(value, (*path, key))

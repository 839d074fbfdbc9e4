"""What may travel: arguments, results and checkpoints are JSON, and what JSON cannot hold is refused where it is made.

Never pickle: a record in the log must be readable by anyone, and must run nobody's code. `None`, `bool`, `int` (of 64
bits), finite `float`, `str`, and lists and dicts of those (with `str` keys) arrive as they were; a tuple arrives as a
list. Everything else (dates, bytes, sets, dataclasses, …) is converted by its owner, who knows how to read it back.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

DEPTH_MAX = 100
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


def encode(value: Any, what: str) -> bytes:
    """`value` as JSON. Raises TypeError, which names the place by `what` and the way to it."""
    _check(value, what, DEPTH_MAX)
    return msgspec.json.encode(value)


def decode(data: bytes) -> Any:
    """The value of JSON bytes; None for none."""
    return msgspec.json.decode(data) if data else None


def _check(value: Any, where: str, depth: int) -> None:
    kind = type(value)
    if value is None or kind is bool:
        return
    if depth == 0:
        raise TypeError(f"{where[:200]}: expected at most {DEPTH_MAX} levels, but found more")
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise TypeError(f"{where}: expected a whole number of 64 bits, but found {value:.3e}; pass it as text")
    elif kind is float:
        if not math.isfinite(value):
            raise TypeError(f"{where}: expected a finite number, but found {value}; JSON has no such thing")
    elif kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise TypeError(f"{where}: expected text in UTF-8, but found {value[:40]!r}") from None
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth - 1)
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where}: expected text as keys, but found {key!r}; JSON has no others")
            _check(item, f"{where}[{key!r}]", depth - 1)
    else:
        hint = HINTS.get(kind.__name__, "convert it, for instance to a dict")
        raise TypeError(f"{where}: expected what JSON can hold, but found {kind.__qualname__}; {hint}")

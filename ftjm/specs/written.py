"""The rules for values as users write them, the same in YAML, in JSON, in files, on standard input and over HTTP.

- Outside of `payload`, `args` and `kwargs` of a job every scalar is the text as it is written, so that `job_id: 007`,
  `DEBUG: on`, `{"A": 1.50}` and `command: [sleep, 1.50]` keep their texts.
- Inside of them, a value has the type that it has in JSON or in YAML 1.2. A number must fit 64 bits or be finite.
- A name occurs once in a mapping. Text is UTF-8. There are at most `DEPTH_MAX` levels.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ftjm.core import json_values
from ftjm.core.json_values import DEPTH_MAX
from ftjm.runtime.errors import short

FieldPath = tuple[str | int, ...]
DATA = frozenset({"payload", "args", "kwargs"})
"""Fields of a job whose values are data, with types."""
JOBS_OF_RESOURCES = (("spec", "job"), ("spec",))
"""Where a resource has a job: the template of a schedule, and the spec of a job."""
DIGITS_MAX = 20
"""Digits of the largest whole number of 64 bits. A longer one is not converted, since that takes quadratic time."""
DOCUMENT_DEPTH_MAX = DEPTH_MAX + 3
"""Levels of a document: a mapping with the list `jobs`, the list, and a job are around a payload."""
TOO_DEEP = f"expected at most {DEPTH_MAX} levels of lists and mappings, but found more"

_WHOLE = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_BYTE_ORDER_MARKS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


class UnreadableError(Exception):
    """Text that is no job, or that JSON cannot hold: the path to the field, and what is wrong."""

    def __init__(self, path: FieldPath, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.path = path
        self.text = text
        self.line = line
        """The line in the text, from 1, where no path leads to the fault."""


class Located(NamedTuple):
    """A job as it is written, and where its fields are."""

    fields: Any
    line: int
    find: Callable[[FieldPath], int | None] = lambda _: None
    """The line of a field; None if the field is not there. By default, a job is on one line."""
    broken: UnreadableError | None = None
    """The reason why the job could not be read at all."""

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, or of the innermost mapping or list around it whose line is known."""
        while path:
            if line := self.find(path):
                return line
            path = path[:-1]
        return self.line


def utf8(data: bytes) -> bytes:
    """The text without its byte order mark. Raises UnreadableError if the mark is of another encoding."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            raise UnreadableError((), f"expected text in UTF-8, but found {encoding}; save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def decode_utf8(data: bytes) -> str:
    """The text without its byte order mark. Raises UnreadableError if it is not UTF-8."""
    try:
        return utf8(data).decode()
    except UnicodeDecodeError as error:
        found, line = data[error.start], data.count(b"\n", 0, error.start) + 1
        raise UnreadableError((), f"expected text in UTF-8, but found the byte 0x{found:02x}", line) from None


def is_data(path: FieldPath) -> bool:
    """Whether the value at this path of a job or a resource has a type. All others are text as written."""
    for around in JOBS_OF_RESOURCES:
        if path[: len(around)] == around:
            path = path[len(around) :]
            break
    return not DATA.isdisjoint(path[:1])


def number(text: str, path: FieldPath) -> int | float:
    """The number that a text stands for in data: by JSON, or by the core schema of YAML 1.2.

    Raises:
        UnreadableError: It does not fit 64 bits, or is not finite.
    """
    value: int | float
    if whole := _WHOLE.match(text) or _BASED.match(text):
        if len(whole.group().lstrip("-+").lstrip("0")) > DIGITS_MAX + 2:
            found = short(text, 40)
            raise UnreadableError(path, f"expected a whole number of 64 bits, but found {found}; pass it as text")
        value = int(text, 0 if _BASED.match(text) else 10)
    else:
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if fault := json_values.number_fault(value):
        raise UnreadableError(path, fault)
    return value


def checked_text(text: str, path: FieldPath) -> str:
    """The text, if it has UTF-8. Raises UnreadableError."""
    if not text.isascii() and (fault := json_values.text_fault(text)):
        raise UnreadableError(path, fault)
    return text


def check_depth(path: FieldPath) -> None:
    """Raise UnreadableError for a list or a mapping that lies too deep in a job."""
    if len(path) > DEPTH_MAX:
        raise UnreadableError(path[:1], TOO_DEEP)

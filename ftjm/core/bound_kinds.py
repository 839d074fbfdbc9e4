"""Kinds of bounds: a number, a text, a list, a name. `bounds.py` has the bound of each field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec


class Bound(NamedTuple):
    """What one field may hold.

    The tests are the source of Python expressions about `{0}`. Those of a record are compiled to one function, since
    every command passes it: calling a function for each field would take several times as long.
    """

    expected: str
    """The text for "expected …, but found …"."""
    test: str
    """Whether a value is inside the bound."""
    test_of_all: str = ""
    """Whether all items of a list that has some are, if the bound is that of an item."""
    nearest: Callable[[Any], Any] | None = None
    """The nearest value inside the bound, for a field that only informs people; None where the record is refused."""
    inner: type[msgspec.Struct] | None = None
    """The struct of the value, or of the list's items, if it has bounds of its own."""


def number(least: float, most: float, *, informs: bool = False) -> Bound:
    """A number from `least` to `most`. A float that is no number is outside."""

    def nearest(value: float) -> float:
        return max(least, min(value, most))

    test_of_all = f"{least} <= min({{0}}) and max({{0}}) <= {most}"
    return Bound(f"{least} to {most}", f"{least} <= {{0}} <= {most}", test_of_all, nearest if informs else None)


def text(most: int, *, informs: bool = False, keep_end: bool = False) -> Bound:
    """Text of at most `most` characters. If it is cut, its beginning is kept, or its end."""

    def nearest(value: str) -> str:
        return value[-most:] if keep_end else value[:most]

    test_of_all = f"max(map(len, {{0}})) <= {most}"
    return Bound(f"at most {most} characters", f"len({{0}}) <= {most}", test_of_all, nearest if informs else None)


def size(most: int) -> Bound:
    """At most `most` bytes."""
    return Bound(f"at most {most} bytes", f"len({{0}}) <= {most}")


def items(most: int, each: Bound) -> Bound:
    """A list of at most `most` items."""
    test = f"(not {{0}} or len({{0}}) <= {most} and {each.test_of_all})"
    return Bound(f"at most {most} items, each {each.expected}", test)


def pairs(most: int, each: Bound) -> Bound:
    """A map of at most `most` keys."""
    values = each.test_of_all.replace("{0}", "{0}.values()")
    test = f"(not {{0}} or len({{0}}) <= {most} and {each.test_of_all} and {values})"
    return Bound(f"at most {most} keys, each key and value {each.expected}", test)


def struct(inner: type[msgspec.Struct]) -> Bound:
    """A struct that has bounds of its own."""
    return Bound(f"a {inner.__name__}", f"within({inner.__name__})({{0}})", inner=inner)


def structs(most: int, inner: type[msgspec.Struct]) -> Bound:
    """A list of at most `most` such structs."""
    test = f"len({{0}}) <= {most} and all(map(within({inner.__name__}), {{0}}))"
    return Bound(f"at most {most} items", test, inner=inner)


NAME = Bound(
    "a name of 1 to 128 of A-Z a-z 0-9 . _ - that starts with a letter or a digit",
    "match({0}) is not None",
    "all(map(match, {0}))",
)
OPTIONAL_NAME = Bound(f"{NAME.expected}, or none", "(not {0} or match({0}) is not None)")

"""Values that JSON can hold arrive as they were; others are refused with the path to the part that is wrong."""

from __future__ import annotations

import math

import pytest

from ftjm.core import json_values
from ftjm.core.json_values import NotJsonError


@pytest.mark.parametrize(
    "value", [None, True, 0, -(1 << 63), (1 << 64) - 1, 0.5, "ü", [], {}, [{"a": [1, [None]]}], {"": 1}]
)
def test_values_of_json_come_back_unchanged(value):
    assert json_values.decode(json_values.encode(value, "it")) == value


def test_a_tuple_arrives_as_a_list():
    assert json_values.decode(json_values.encode({"a": (1, (2,))}, "it")) == {"a": [1, [2]]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "finite"),
        (math.inf, "finite"),
        (1 << 64, "64 bits"),
        (b"x", "found bytes; pass text"),
        ({1}, "found set; pass a sorted list"),
        ({1: 2}, "text as keys"),
        ({"a": [0, {"b": object()}]}, r"it\['a'\]\[1\]\['b'\]: .* found object"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_value_that_json_cannot_hold_is_refused_with_its_path(value, message):
    with pytest.raises(TypeError, match=message):
        json_values.encode(value, "it")


def test_a_value_that_contains_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="levels"):
        json_values.encode(endless, "it")


@pytest.mark.parametrize(
    ("value", "path", "text"),
    [
        (10**5_000, (), "expected a whole number of 64 bits, but found one of 16610 bits; pass it as text"),
        ({"a": [1, -(10**5_000)]}, ("a", 1), "expected a whole number of 64 bits"),
        ({"a": {"\ud800": 1}}, ("a",), "expected text in UTF-8, but found '\\ud800'"),
        ({"a": {b"x": 1}}, ("a",), "expected text as keys, but found bytes"),
        ((1, {"a": float("inf")}), (1, "a"), "expected a finite number, but found inf"),
    ],
    ids=["long", "long inside", "name", "bytes as name", "infinite"],
)
def test_what_json_cannot_hold_is_named_with_its_path(value, path, text):
    with pytest.raises(NotJsonError) as caught:
        json_values.encode(value, "it")
    assert caught.value.path == path
    assert caught.value.text.startswith(text)
    assert str(caught.value).startswith("it")

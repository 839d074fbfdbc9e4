"""JSON from outside: one limit of depth for every door."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.core import json_values
from ftjm.core.json_values import DEPTH_MAX, depth, loads

TEXTS = st.text(alphabet='[]{}"\\ab\n')
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)


def levels(value: Any) -> int:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if items is None else 1 + max(map(levels, items), default=0)


@given(VALUES)
def test_the_depth_of_json_is_that_of_its_value(value: Any) -> None:
    assert depth(json.dumps(value).encode()) == levels(value)
    assert loads(json.dumps(value).encode()) == value


@given(st.binary())
def test_other_bytes_have_some_depth_and_raise_value_errors_alone(data: bytes) -> None:
    assert depth(data) >= 0
    try:
        loads(data)
    except ValueError:
        return


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"[":', b"}]")])
def test_a_value_may_have_so_many_levels_and_no_more(opening: bytes, closing: bytes) -> None:
    each = opening.count(b"[") + opening.count(b"{") - opening.count(b'"["')
    most = DEPTH_MAX // each
    deepest = opening * most + b"1" + closing * most
    value = loads(deepest)
    assert json_values.encode(value, "it") == deepest
    deeper = b"[" + deepest + b"]"
    with pytest.raises(ValueError, match="100 levels"):
        loads(deeper)
    assert loads(deeper, DEPTH_MAX + 1) == [value]
    with pytest.raises(TypeError, match="100 levels"):
        json_values.encode([value], "it")


@pytest.mark.parametrize("data", [b"[" * 1_000_000, b'{"a":' * 200_000, b"", b"nope", b'"\xff"', b"[1", b"9" * 5_000])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        loads(data)


def test_many_brackets_in_texts_are_no_levels() -> None:
    assert loads(json.dumps(["[" * 500, "\\" * 5 + '"' + "{" * 500]).encode())

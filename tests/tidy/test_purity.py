"""The core cannot wait or wonder: time, names and chance are handed in; and the engine neither."""

from __future__ import annotations

import ast

import pytest

from tests.tidy.source import files, imports, name, top, tree

NO_MODULES = {"random", "uuid", "secrets", "time", "datetime", "os", "socket", "subprocess", "asyncio", "io", "pathlib"}
NO_CALLS = {"open", "print", "input", "id", "hash"}
"""`hash` of a text differs from process to process, and `id` from object to object."""
PURE = [*files("core"), *files("engine")]


@pytest.mark.parametrize("path", PURE, ids=name)
def test_no_clock_no_chance_and_no_world(path):
    assert not {m for m in imports(path) if top(m) in NO_MODULES}


@pytest.mark.parametrize("path", PURE, ids=name)
def test_nothing_is_called_that_answers_otherwise_tomorrow(path):
    called = {
        node.func.id for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & NO_CALLS


@pytest.mark.parametrize("path", files("core"), ids=name)
def test_no_set_is_walked_in_the_order_of_chance(path):
    """Texts of a set come in another order in every process: replayed state would differ."""
    for node in ast.walk(tree(path)):
        walked = [node.iter] if isinstance(node, ast.For | ast.comprehension) else []
        assert not any(isinstance(it, ast.Set | ast.SetComp) for it in walked), f"{name(path)}:{walked[0].lineno}"


@pytest.mark.parametrize("path", files("core"), ids=name)
def test_the_core_has_no_global_that_changes(path):
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Global | ast.Nonlocal), name(path)

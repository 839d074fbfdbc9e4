"""A name has one meaning: no class name occurs twice in the product, unless a comment above the class gives the reason.

The comment stands right above the class (above its decorators) and names the other class:

    # Same name as ftjm.core.state.model.Job: OpenAPI shows this name to users, and a job is a job there, too.
    class Job(msgspec.Struct): ...

One of the classes of a name needs no comment: the one that the others refer to.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from typing import NamedTuple

import pytest

from tests.tidy.source import PACKAGE, files, module_of, tree

MARKER = re.compile(r"# Same name as (?P<other>ftjm[\w.]+): (?P<reason>.+)")


class Definition(NamedTuple):
    """A class of the product."""

    path: str
    """As it is imported: `ftjm.core.state.model.Job`."""
    marked: str
    """The class that the comment above it names; empty without such a comment."""


def definitions() -> dict[str, list[Definition]]:
    """All classes of the product at the top level of their files, by name."""
    found: dict[str, list[Definition]] = defaultdict(list)
    for path in files():
        lines = path.read_text().splitlines()
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
                found[node.name].append(Definition(f"{module_of(path)}.{node.name}", marked_above(lines, first)))
    return found


def marked_above(lines: list[str], first: int) -> str:
    """The class of the same name that the comment above line `first` (from 0) refers to; empty for none."""
    begin = first
    while begin and lines[begin - 1].startswith("#"):
        begin -= 1
    match = MARKER.match(" ".join(lines[begin:first]))
    return match["other"] if match else ""


DEFINED = definitions()
TWICE = {name: found for name, found in DEFINED.items() if len(found) > 1}


@pytest.mark.parametrize("name", sorted(TWICE))
def test_a_class_name_that_occurs_twice_says_why(name):
    unexplained = [each.path for each in TWICE[name] if not each.marked]
    assert len(unexplained) <= 1, f"rename one of {unexplained}, or say `# Same name as …: why` above it"


def test_a_comment_on_a_name_refers_to_a_class_of_that_name():
    for name, found in DEFINED.items():
        paths = {each.path for each in found}
        for each in found:
            assert not each.marked or each.marked in paths - {each.path}, f"{each.path}: no other {name} is there"


def test_no_room_has_a_file_and_a_folder_of_one_name():
    folders = {path.parent for path in files()}
    assert not [path for path in files() if path.with_suffix("") in folders and path.parent != PACKAGE.parent]

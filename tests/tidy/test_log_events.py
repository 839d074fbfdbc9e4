"""Log lines: an event is one word, a warning says what to do, and the documents name events that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ftjm.runtime.config import Settings
from ftjm.specs.job import Disconnect, PolicyFields
from tests.tidy.source import ROOT, files, name, tree

LEVELS = ("debug", "info", "warning", "error", "exception")
WITH_TODO = ("warning", "error", "exception")
LOGGER = re.compile(r"\b(_log|log|logs\.get\(.*\))$")
WORD = re.compile(r"[a-z]+(_[a-z]+)*")
OTHER_WORDS = {"problem": "error", "because": "reason", "why": "reason", "cause": "reason"}
"""Names of fields that have a name already."""


class Line(NamedTuple):
    """A call that logs."""

    place: str
    level: str
    event: str
    fields: frozenset[str]


def logged() -> Iterator[Line]:
    """Every call of `log.warning(...)` and the like in the product."""
    for path in files():
        for node in ast.walk(tree(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and LOGGER.search(ast.unparse(node.func.value))
            ):
                event = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
                fields = frozenset(keyword.arg or "**" for keyword in node.keywords)
                yield Line(f"{name(path)}:{node.lineno}", node.func.attr, str(event), fields)


LINES = list(logged())
EVENTS = {line.event for line in LINES}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.place} {line.event}")
def test_a_log_line_has_the_one_form(line):
    assert WORD.fullmatch(line.event), "an event is words in lower case, joined by _"
    if line.level in WITH_TODO:
        assert "todo" in line.fields, "a warning says what to do, or what is done by itself"
    for other, word in OTHER_WORDS.items():
        assert other not in line.fields, f"call the field {word}"


def test_the_calls_that_log_are_found():
    assert len(LINES) > 80


def named_in_changelog() -> list[str]:
    """The log events that the changelog lists."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    (listed,) = re.findall(r"^- New log events: (.*?)\. The", changelog, re.DOTALL | re.MULTILINE)
    return [word for word in re.findall(r"`([a-z_]+)`", listed) if not word.startswith("ftjm_")]


def test_each_log_event_of_the_changelog_exists_and_is_in_the_runbook():
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    found = named_in_changelog()
    assert len(found) > 10
    assert set(found) <= EVENTS
    assert not [event for event in found if f"`{event}`" not in runbook]


def test_each_log_event_of_the_runbook_exists():
    """Words in code with a `_` are log events, settings, fields of jobs or metrics."""
    known = EVENTS | set(Settings.model_fields) | set(PolicyFields.model_fields) | set(Disconnect.model_fields)
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", (ROOT / "docs" / "runbook.md").read_text()))
    assert len(words & EVENTS) > 20
    assert not {word for word in words - known if not word.startswith("ftjm_")}

"""Each decision is one page of the same form, and the index names every page."""

from __future__ import annotations

import re

import pytest

from tests.tidy.source import ROOT

FOLDER = ROOT / "docs" / "decisions"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
HEADINGS = ["Context", "Decision", "Consequences", "Held by"]
LINES_MAX = 80


def number(path):
    return path.name[:3]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_decision_is_one_page_of_one_form(path):
    text = path.read_text()
    assert re.fullmatch(r"\d{3}-[a-z0-9-]+", path.stem)
    assert text.startswith(f"# {number(path)}: ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert len(text.splitlines()) <= LINES_MAX


def test_numbers_are_unique():
    assert len({number(path) for path in PAGES}) == len(PAGES)


def test_the_index_names_every_page_by_its_title():
    index = (FOLDER / "README.md").read_text()
    expected = []
    for path in PAGES:
        title = path.read_text().splitlines()[0].removeprefix(f"# {number(path)}: ")
        expected.append(f"| [{number(path)}]({path.name}) | {title} |")
    assert [line for line in index.splitlines() if line.startswith("| [")] == expected

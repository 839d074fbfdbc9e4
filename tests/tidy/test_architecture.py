"""ARCHITECTURE.md is short, and its source map is the table of rooms in words."""

from __future__ import annotations

from tests.tidy.rooms import ARCHITECTURE, ROOMS, mapped, written
from tests.tidy.source import ROOT

LINES_MAX = 250
BESIDE = {"simulation", "contracts", "tidy", "compose", "examples", "scripts", "systemd"}
"""Folders of tests that are of no room."""


def test_the_page_is_short():
    assert len(ARCHITECTURE.read_text().splitlines()) <= LINES_MAX


def test_the_source_map_names_every_room_in_the_order_of_the_floors():
    assert mapped(ARCHITECTURE.read_text()) == list(ROOMS)


def test_the_source_map_has_the_same_imports_as_the_table():
    text = ARCHITECTURE.read_text()
    assert text == written(text), "run: python -m tests.tidy.rooms"


def test_each_folder_of_tests_has_the_name_of_a_room():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    names = {".".join(folder.parts) for folder in folders}
    assert names - BESIDE <= set(ROOMS)
    for name in BESIDE:
        assert f"`tests/{name}`" in ARCHITECTURE.read_text()

"""One idea per file, one screen per function: about 300 and 50 lines, and more than the limits only with a reason."""

from __future__ import annotations

import pytest

from tests.tidy.source import files, functions, name

FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60

LARGE_FILES: dict[str, tuple[int, str]] = {}
"""Files that may be longer, up to how many lines, and why."""


@pytest.mark.parametrize("path", files(), ids=name)
def test_a_file_holds_one_idea(path):
    lines = len(path.read_text().splitlines())
    most, _ = LARGE_FILES.get(name(path), (FILE_LINES_MAX, ""))
    assert lines <= most, f"{name(path)} has {lines} lines: split it, or give a reason in {__file__}"


def test_the_exceptions_are_needed():
    lengths = {name(path): len(path.read_text().splitlines()) for path in files()}
    assert not {path for path in LARGE_FILES if lengths.get(path, 0) <= FILE_LINES_MAX}


@pytest.mark.parametrize("path", files(), ids=name)
def test_a_function_fits_on_a_screen(path):
    long = {function: lines for function, lines in functions(path) if lines > FUNCTION_LINES_MAX}
    assert not long

"""Text that others wrote cannot command a terminal."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.runtime.terminal import one_line, printable, printable_json

TITLE = "\x1b]0;owned\x07"
HOSTILE = [
    TITLE,
    "\x1b[2J\x1b[1;1H",
    "\x9b31m",
    "good\rbad",
    "a\x08\x08\x08",
    "\x7f",
    "\x00",
    "\u202eevil",
    "\u2028",
    "\ud800",
]


@given(st.text())
def test_what_is_printed_holds_no_control_characters(text: str) -> None:
    for safe in (printable(text), one_line(text), printable_json(json.dumps(text, ensure_ascii=False))):
        assert not any(ord(c) < 0x20 and c not in "\n\t" for c in safe)
        assert not any(0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in safe)
        safe.encode()
    assert "\n" not in one_line(text)
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_escapes(text: str) -> None:
    assert printable(text) != text
    assert printable(text).isprintable()


def test_usual_text_is_unchanged() -> None:
    for text in ("grüße, 世界 🎉", "two\nlines\tand a tab", "\\x1b is fine", ""):
        assert printable(text) == text
    assert one_line("a\nb\tc") == "a\\nb\\tc"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_log_line_holds_no_control_characters(log_format: str) -> None:
    program = f"""
import logging
from ftjm.runtime import logs
logs.configure({log_format!r})
hostile = "\\x1b]0;owned\\x07\\x9b\\u202e\\rx"
logs.get("a").info(hostile, reason=hostile, several=[hostile], **{{"na\\x1bme": 1}})
logging.getLogger("b").warning("%s", hostile)
try:
    raise ValueError(hostile)
except ValueError:
    logs.get("a").exception("failed")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    text = done.stderr.decode()
    assert "owned" in text
    assert not [c for c in text if (not c.isprintable()) and c != "\n"]

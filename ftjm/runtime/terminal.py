"""Text that others wrote, made safe for a terminal.

Names of files, reasons, errors and outputs come from other people's jobs and programs. A terminal obeys the control
characters in them: they move the cursor, change what was printed, set the window's title, or answer as if the user had
typed. So they are shown as escapes, such as `\\x1b`. Only `ftjm logs` prints bytes as they are.
"""

from __future__ import annotations

import re

# C0, DEL and C1; the marks that reverse the direction of text; halves of characters, which cannot be encoded.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE = re.compile(f"[{_CONTROL}]")
_UNSAFE_IN_LINE = re.compile(f"[\t\n{_CONTROL}]")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    """The text with its control characters escaped; line ends and tabs stay."""
    return _UNSAFE.sub(_escape, text)


def one_line(text: str) -> str:
    """The text with its control characters, line ends and tabs escaped, so that it cannot look like a further line."""
    return _UNSAFE_IN_LINE.sub(_escape, text)


def printable_json(text: str) -> str:
    """JSON, with the control characters that JSON allows in its texts escaped as JSON does. It says the same."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")

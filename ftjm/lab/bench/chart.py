"""Draws a report as SVG, one bar for each figure. The same report gives the same bytes.

Figures of stages (`STAGE`) follow each other in time: each bar begins where the one before ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from ftjm.lab.bench.report import STAGE, BenchReport, Figure

UNITS = {"_per_s": "per second", "_ms": "milliseconds", "_us": "microseconds of processor time a job", "_s": "seconds"}
AFTER_ANOTHER = "one stage after the other, milliseconds (mean)"
WIDTH, LABELS, VALUES = 720, 210, 90
ROW, BAR, HEAD, GAP = 26, 16, 56, 34
FONT = "font-family='system-ui, sans-serif'"
INK, FAINT, FILL = "#1f2933", "#7b8794", "#2a78b8"


def unit_of(name: str) -> str:
    """Return the unit that the suffix of a figure's name stands for; empty for plain numbers."""
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def draw(report: BenchReport) -> str:
    """Return the picture as the text of an SVG file. Figures of one unit share a scale; plain numbers are text."""
    groups: dict[str, dict[str, Figure]] = {}
    for name, value in report.figures.items():
        groups.setdefault(AFTER_ANOTHER if name.startswith(STAGE) else unit_of(name), {})[name] = value
    plain = groups.pop("", {})
    parts: list[str] = []
    y = HEAD
    for unit, figures in groups.items():
        parts += _group(unit, figures, y)
        y += GAP + ROW * len(figures)
    if plain:
        text = "   ".join(f"{name} {_number(value)}" for name, value in plain.items())
        parts.append(_text(16, y + 18, text, 13, INK))
        y += ROW
    title = _text(16, 26, f"ftjm bench {report.suite}", 16, INK, weight="600")
    machine = report.machine
    about = f"{machine.get('cpu', '')}, {machine.get('cores', '?')} cores, Python {machine.get('python', '')}"
    head = [title, _text(16, 44, about, 11, FAINT)]
    size = f"width='{WIDTH}' height='{y + 16}' viewBox='0 0 {WIDTH} {y + 16}'"
    back = f"<rect width='{WIDTH}' height='{y + 16}' fill='#ffffff'/>"
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' {size} {FONT}>", back, *head, *parts, "</svg>", ""])


def _group(unit: str, figures: Mapping[str, Figure], y: int) -> list[str]:
    parts = [_text(16, y + 18, unit, 11, FAINT)]
    after_another = unit == AFTER_ANOTHER
    longest = (sum if after_another else max)(figures.values()) or 1
    room = WIDTH - LABELS - VALUES
    left = float(LABELS)
    for row, (name, value) in enumerate(figures.items()):
        top = y + 26 + ROW * row
        width = max(1.0, room * value / longest)
        parts.append(_text(LABELS - 10, top + 13, name.removeprefix(STAGE), 13, INK, anchor="end"))
        parts.append(f"<rect x='{left:.1f}' y='{top}' width='{width:.1f}' height='{BAR}' rx='2' fill='{FILL}'/>")
        parts.append(_text(left + width + 8, top + 13, _number(value), 13, INK))
        left += width if after_another else 0
    return parts


def _text(x: float, y: float, text: str, size: int, fill: str, anchor: str = "start", weight: str = "400") -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{fill}' text-anchor='{anchor}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"


def _number(value: Figure) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:g}"

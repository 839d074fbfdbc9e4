"""Draws a chaos run as SVG: jobs, faults and takeovers over time. The same run gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

from ftjm.lab.chaos.faults import InjectedFault
from ftjm.lab.chaos.report import ChaosReport, Takeover

WIDTH, LEFT, RIGHT = 1_000, 150, 20
TOP, LOAD, ROW, GAP, TAKEOVERS = 70, 90, 18, 34, 90
INK, FAINT, FILL, BAD, LINE = "#1f2933", "#7b8794", "#2a78b8", "#c2410c", "#d5dbe1"
COLOURS = {"kill": BAD, "stop": "#8a5cb8", "freeze": "#8a5cb8", "cut": "#b8860b", "skew": "#2f855a"}
"""Colour of a fault by the first word of its kind; all others are faults of disks."""
DISK = "#4a5568"


class ChaosRun(msgspec.Struct):
    """The result of a run: its report, and the data that the picture is drawn from."""

    report: ChaosReport
    injected: list[InjectedFault]
    takeovers: list[Takeover]
    ends: dict[int, int]
    """Number of jobs that ended in each second (wall clock, s)."""
    began_ms: int


class _Axis:
    """Maps times of a run to positions in the picture."""

    def __init__(self, began_ms: int, seconds: float) -> None:
        self.began_ms = began_ms
        self.seconds = max(1.0, seconds)

    def x(self, at_ms: float) -> float:
        part = (at_ms - self.began_ms) / 1000 / self.seconds
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, part))


def draw(run: ChaosRun) -> str:
    """Return the picture as the text of an SVG file."""
    ends = [at * 1000 for at in run.ends] + [each.healed_ms for each in run.injected]
    axis = _Axis(run.began_ms, (max(ends, default=run.began_ms) - run.began_ms) / 1000 + 1)
    members = sorted({each.member for each in run.injected})
    faults = TOP + LOAD + GAP
    taken = faults + ROW * len(members) + GAP
    height = taken + TAKEOVERS + GAP
    parts = [
        *_head(run.report),
        *_load(run, axis),
        *_faults(run.injected, members, axis, faults),
        *_takeovers(run.takeovers, axis, taken),
        *_ticks(axis, taken + TAKEOVERS),
    ]
    size = f"width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'"
    back = f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>"
    start = f"<svg xmlns='http://www.w3.org/2000/svg' {size} font-family='system-ui, sans-serif'>"
    return "\n".join([start, back, *parts, "</svg>", ""])


def _head(report: ChaosReport) -> list[str]:
    title = f"ftjm chaos --seed {report.seed} --duration {report.duration_s:g}s"
    shape = report.settings
    about = f"{shape['brokers']} broker(s), {shape['schedulers']} schedulers, {shape['workers']} workers"
    counts = (
        f"{report.faults} faults, {report.jobs} jobs, {report.attempts} attempts: {report.lost} lost, "
        f"{report.doubled} doubled, {report.overlapped} overlapped"
    )
    verdict = "" if report.passed else f"; {len(report.violations)} violations"
    return [
        _text(16, 26, title, 16, INK, weight="600"),
        _text(16, 44, f"{counts}{verdict}", 12, INK if report.passed else BAD),
        _text(16, 60, about, 11, FAINT),
    ]


def _load(run: ChaosRun, axis: _Axis) -> list[str]:
    most = max(run.ends.values(), default=1)
    width = max(1.0, (WIDTH - LEFT - RIGHT) / axis.seconds - 1)
    parts = [_text(16, TOP + 20, "jobs ended a second", 11, FAINT), _text(16, TOP + 36, f"at most {most}", 11, FAINT)]
    for second, count in sorted(run.ends.items()):
        height = LOAD * count / most
        parts.append(_box(axis.x(second * 1000), TOP + LOAD - height, width, height, FILL, f"{count} jobs"))
    return parts


def _faults(injected: Sequence[InjectedFault], members: Sequence[str], axis: _Axis, top: int) -> list[str]:
    parts = []
    for row, member in enumerate(members):
        y = top + ROW * row
        parts.append(_text(16, y + 12, member, 11, FAINT))
        parts.append(f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y + 8}' y2='{y + 8}' stroke='{LINE}'/>")
    for each in injected:
        kind = str(each.fault.kind)
        x, y = axis.x(each.began_ms), top + ROW * members.index(each.member) + 2
        title = f"{kind} for {(each.healed_ms - each.began_ms) / 1000:.1f} s {each.detail}".strip()
        colour = COLOURS.get(kind.partition("-")[0], DISK)
        parts.append(_box(x, y, max(3.0, axis.x(each.healed_ms) - x), ROW - 6, colour, title))
    return parts


def _takeovers(found: Sequence[Takeover], axis: _Axis, top: int) -> list[str]:
    most = max((each.seconds for each in found), default=1.0)
    parts = [_text(16, top + 20, "takeovers", 11, FAINT), _text(16, top + 36, f"at most {most:.2f} s", 11, FAINT)]
    for each in found:
        x, height = axis.x(each.killed_ms), (TAKEOVERS - 12) * each.seconds / most
        title = f"partition {each.partition}: {each.seconds:.2f} s{'' if each.alone else ', among other faults'}"
        colour = INK if each.alone else FAINT
        dot = f"<circle cx='{x:.1f}' cy='{top + TAKEOVERS - height:.1f}' r='4' fill='{colour}'>"
        parts.append(f"{dot}<title>{escape(title)}</title></circle>")
    return parts


def _ticks(axis: _Axis, y: int) -> list[str]:
    step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3600) if axis.seconds / step <= 15 or step == 3600)
    parts = [f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y}' y2='{y}' stroke='{INK}'/>"]
    for second in range(0, int(axis.seconds) + 1, step):
        x = axis.x(axis.began_ms + second * 1000)
        parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{y}' y2='{y + 5}' stroke='{INK}'/>")
        parts.append(_text(x - 6, y + 18, f"{second} s", 11, FAINT))
    return parts


def _box(x: float, y: float, width: float, height: float, fill: str, title: str) -> str:
    position = f"x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' rx='2'"
    return f"<rect {position} fill='{fill}'><title>{escape(title)}</title></rect>"


def _text(x: float, y: float, text: str, size: int, fill: str, weight: str = "400") -> str:
    style = f"font-size='{size}' font-weight='{weight}' fill='{fill}'"
    return f"<text x='{x:g}' y='{y:g}' {style}>{escape(text)}</text>"

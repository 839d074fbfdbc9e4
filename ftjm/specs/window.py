"""A window as users declare it, and the `WindowSpec` of the log.

    effect: allow                       its queues start jobs only while it is open; or deny: not while it is open
    cron: 0 22 * * mon-fri              when it opens
    duration: 8h                        for how long
    time_zone: Europe/Berlin            for cron
    calendar: workdays                  it opens only on days of this calendar
    queues: [etl, batch-*]              which queues it is about
    workers: [big-*]                    it is about starts on these workers alone; left out: all
    on_close: finish                    what runs at its close goes on to its end; stop: it is stopped

`written` gives the fields that stand for a `WindowSpec`: what `ftjm window describe -o yaml` prints is what
`ftjm apply -f` takes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ftjm.core.limits import PATTERNS_MAX, WINDOW_MS_MAX, WINDOW_MS_MIN
from ftjm.core.state.windows import OnClose, WindowEffect, WindowSpec
from ftjm.runtime.durations import format_duration
from ftjm.specs.executors import Fields
from ftjm.specs.fields import Name, at_most, duration, one_of, written_as, wrong_value
from ftjm.specs.schedule import Cron, TimeZone

TO_COME = ()
"""Fields that a later build has."""
PATTERN = re.compile(r"[A-Za-z0-9*][A-Za-z0-9._*-]{0,127}\Z")
_DEFAULT = WindowSpec("", 0)


def _duration(value: Any) -> int:
    if not WINDOW_MS_MIN <= (ms := duration(value)) <= WINDOW_MS_MAX:
        raise wrong_value(f"{format_duration(WINDOW_MS_MIN)} to {format_duration(WINDOW_MS_MAX)}", value)
    return ms


def _pattern(value: Any) -> str:
    if not isinstance(value, str) or PATTERN.match(value) is None:
        raise wrong_value("a name, in which * may stand for any characters", value)
    return value


def _some(value: Any) -> Any:
    if value == []:
        raise ValueError("expected at least one name, but found none")
    return value


Pattern = Annotated[
    str, BeforeValidator(_pattern), written_as("string", pattern="^[A-Za-z0-9*][A-Za-z0-9._*-]{0,127}$")
]
Patterns = Annotated[list[Pattern], BeforeValidator(_some), at_most(PATTERNS_MAX, "names", "use * for several")]
Effect = one_of(WindowEffect)
Closing = one_of(OnClose)


class WindowFields(Fields):
    """What a window's declaration says. A field that is left out has its default."""

    effect: Effect | None = Field(  # type: ignore[valid-type]
        None,
        description="`allow`: its queues start jobs only while it is open, or another of their windows that allow. "
        "`deny`: they start no job while it is open.",
        json_schema_extra={"default": _DEFAULT.effect.value},
    )
    cron: Cron = Field(
        description="When it opens: minute, hour, day of the month, month, day of the week, in the local time of "
        "`time_zone`; or a macro such as `@daily`."
    )
    duration: Annotated[int, BeforeValidator(_duration), written_as("string", examples=["8h", "30m"])] = Field(
        description="So long it is open each time, in real time. Openings that touch each other are one."
    )
    time_zone: TimeZone | None = Field(
        None,
        description="A name of the IANA database; `cron` is in its local time.",
        json_schema_extra={"default": _DEFAULT.time_zone},
    )
    calendar: Name | None = Field(
        None, description="A `Calendar`: it opens only on days that count there. Left out: every day."
    )
    queues: Patterns = Field(
        description="The queues that it is about. `*` stands for any characters.", examples=[["etl", "batch-*"]]
    )
    workers: Patterns | None = Field(
        None,
        description="It is about starts on workers of these names alone. `*` stands for any characters. Left out: all.",
        examples=[["big-*"]],
    )
    on_close: Closing | None = Field(  # type: ignore[valid-type]
        None,
        description="What happens to attempts that run when their queue may start no more on their worker. `finish`: "
        "they run to their end. `stop`: they are stopped, and their jobs wait for the next opening; nothing counts as "
        "a failure or a loss. Where several windows allow a queue, attempts are stopped only while all of these are "
        "closed and say `stop`.",
        json_schema_extra={"default": _DEFAULT.on_close.value},
    )


def window_spec(fields: WindowFields) -> WindowSpec:
    """The `WindowSpec` that validated fields stand for."""
    given = {
        "effect": fields.effect,
        "time_zone": fields.time_zone,
        "calendar": fields.calendar,
        "queues": fields.queues,
        "workers": fields.workers,
        "on_close": fields.on_close,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return WindowSpec(fields.cron, fields.duration, **chosen)


def written(spec: WindowSpec) -> dict[str, Any]:
    """The fields that users write for this `WindowSpec`, with all that hold."""
    found: dict[str, Any] = {
        "effect": spec.effect.value,
        "cron": spec.cron,
        "duration": format_duration(spec.duration_ms),
        "time_zone": spec.time_zone,
        "queues": list(spec.queues),
        "on_close": spec.on_close.value,
    }
    found |= {"calendar": spec.calendar} if spec.calendar else {}
    return found | ({"workers": list(spec.workers)} if spec.workers else {})

"""Calendars: the days on which something may happen. Every partition adopts them: see `ftjm.core.state.resources`.

The conventions of `model.py` hold for these rows, too.
"""

from typing import NamedTuple

import msgspec


class CalendarSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a calendar's declaration says. A day counts if it is included, or if it is one of the days of the week and
    is not excluded."""

    time_zone: str = "UTC"
    """A name of the IANA database. Days begin and end by its clock."""
    weekdays: list[int] = []
    """Days of the week, 0 is Monday; empty is every day."""
    included: list[str] = []
    """Dates that count whatever day of the week they are, as `2026-12-24`."""
    excluded: list[str] = []
    """Dates that do not count."""


class AdoptedCalendar(NamedTuple):
    """A calendar as a partition knows it."""

    revision: int
    spec: CalendarSpec

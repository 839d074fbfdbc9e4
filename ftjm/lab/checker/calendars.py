"""The days of calendars, as the checker reckons them by itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.records import events as e
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.resources import ResourceKind

PREFIX = f"{ResourceKind.CALENDAR}/"
MARGIN = timedelta(hours=3)
"""A day is passed over up to so long before its end: then a change of the clock in it makes no difference."""


class Calendars:
    """The calendars that one partition knows."""

    def __init__(self) -> None:
        self._known: dict[str, CalendarSpec] = {}

    def take(self, event: e.Event) -> Iterable[str]:
        """Apply an event. Returns the names of the calendars that it changes."""
        if isinstance(event, e.ResourcesReconciled):
            dropped = [key.removeprefix(PREFIX) for key in event.dropped if key.startswith(PREFIX)]
            for name in dropped:
                self._known.pop(name, None)
            return dropped
        if not isinstance(event, e.ResourceApplied | e.ResourceAdopted | e.ResourceDeleted):
            return ()
        if event.kind is not ResourceKind.CALENDAR:
            return ()
        self._known.pop(event.name, None)
        if not isinstance(event, e.ResourceDeleted):
            self._known.update((event.name, spec) for spec in event.spec.calendar)
        return (event.name,)

    def knows(self, name: str) -> bool:
        """Whether there is a calendar of this name; there is always one without a name, of all days."""
        return not name or name in self._known

    def counts(self, name: str, instant: int) -> bool:
        """Whether a time, ms since the Unix epoch, is on a day of the calendar. One without a name has all days."""
        return not name or (name in self._known and _counts(self._known[name], instant))

    def first(self, name: str, instant: int, every_ms: int) -> int:
        """The first instant of an interval that is on a day of the calendar, from one of its instants on."""
        while not self.counts(name, instant):
            local = _local(self._known[name], instant)
            left = datetime(local.year, local.month, local.day) + timedelta(days=1) - MARGIN - local  # noqa: DTZ001
            instant += max(1, left // timedelta(milliseconds=every_ms)) * every_ms
        return instant


def _local(spec: CalendarSpec, instant: int) -> datetime:
    return datetime.fromtimestamp(instant // 1_000, UTC).astimezone(load_time_zone(spec.time_zone)).replace(tzinfo=None)


def _counts(spec: CalendarSpec, instant: int) -> bool:
    day = _local(spec, instant).date()
    if day.isoformat() in spec.included:
        return True
    return (not spec.weekdays or day.weekday() in spec.weekdays) and day.isoformat() not in spec.excluded

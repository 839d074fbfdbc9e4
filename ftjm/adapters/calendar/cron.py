"""Cron expressions: the next instant at which one is due.

cronsim finds the local times that match the five fields. `local_time.py` has the instants of a local time, and the
table of what a change of the clock means. An expression whose minute or hour begins with `*` asks for a rhythm and not
for a time of day. For a rhythm real time goes on, as in cron of Debian: it is not due in a gap, and it is due in both
passes of a fold, whatever `dst` is.

cronsim has rules of its own for time zones. They are not used: they know only `once`, and they lose instants of a
rhythm where a fold is shorter than an hour.

The search goes through the local times that match, from the given instant on. Their first instants are in the order of
the local times, so the first one that is late enough is the earliest. This is not enough in the first pass of a fold:
local times before the present one are still to come in the second pass. So a second search begins where that begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache

from cronsim import CronSim, CronSimError

from ftjm.adapters.calendar.cron_fields import expand
from ftjm.adapters.calendar.local_time import change_of_clock, instants_of, read_clock
from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.state.schedules import Dst
from ftjm.runtime.errors import short

YEARS_MAX = 50
"""Years that are searched. cronsim gives up after the same time. The rarest day is 29 February on a given day of the
week: it comes after 28 years, or after 40 where there is a year such as 2100 in between."""
PARSED_MAX = 16_384
"""Number of parsed expressions that are kept."""
SECOND = timedelta(seconds=1)
A_YEAR = datetime(2000, 1, 1)  # noqa: DTZ001 - local times have no time zone


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression that was checked: see `parse_cron`."""

    expression: str
    """Five fields in numbers, without macros and `H`."""

    @property
    def is_rhythm(self) -> bool:
        """Whether the minute or the hour begins with `*`."""
        minute, hour, *_ = self.expression.split()
        return minute.startswith("*") or hour.startswith("*")

    def after(self, after_ms: int, zone: tzinfo, dst: Dst) -> int | None:
        """The first instant after `after_ms`, both in ms since the Unix epoch.

        None if there is none within 50 years, or none before the year 10000. An example of the former: the midnight at
        which Egypt puts its clocks forward, with `skip`. All its local times fall into gaps.
        """
        try:
            reading = read_clock(after_ms, zone)
            found = self._search(reading.local, after_ms, zone, dst)
            here = instants_of(reading.local, zone)
            if not here.are_in_fold or reading.is_second_pass or not self._fires_twice(dst):
                return found
            # Local times from the fold's begin on are still to come a second time, also those before this one.
            second_pass = change_of_clock(here, zone)
            again = self._search(read_clock(second_pass, zone).local - SECOND, second_pass - 1, zone, dst)
        except OverflowError:  # Python has no dates after the year 9999
            return None
        return min((each for each in (found, again) if each is not None), default=None)

    def _fires_twice(self, dst: Dst) -> bool:
        return dst is Dst.BOTH or self.is_rhythm

    def _search(self, after: datetime, after_ms: int, zone: tzinfo, dst: Dst) -> int | None:
        """The first instant after `after_ms` of the local times after `after`."""
        fires_after_gap = dst is not Dst.SKIP and not self.is_rhythm
        for local in CronSim(self.expression, after):
            if local.year > after.year + YEARS_MAX:
                break
            instants = instants_of(local, zone)
            if instants.are_in_gap:
                if fires_after_gap:
                    return change_of_clock(instants, zone)
            elif instants.first > after_ms:
                return instants.first
            elif instants.second > after_ms and self._fires_twice(dst):
                return instants.second
        return None


@lru_cache(maxsize=PARSED_MAX)
def parse_cron(text: str, name: str) -> Cron:
    """Parse an expression of five fields, or a macro such as `@daily`. See `cron_fields.py` for its form.

    Args:
        text: the expression, as users write it.
        name: the name of the schedule, which `H` depends on.

    Raises:
        ValueError: It is no cron expression, or no date ever matches it, such as 30 February.
    """
    cron = Cron(expand(text, name))
    try:
        next(CronSim(cron.expression, A_YEAR))
    except (CronSimError, StopIteration):  # the fields are right one by one, so the date is wrong
        raise ValueError(f"expected a date that comes, but {short(text)!r} is never due") from None
    return cron


def next_of_cron(text: str, name: str, time_zone: str, dst: Dst, after_ms: int) -> int | None:
    """The first instant after `after_ms` at which an expression is due, or None: see `parse_cron` and `Cron.after`.

    Raises:
        ValueError: It is no cron expression, or `time_zone` is no name of a time zone.
    """
    return parse_cron(text, name).after(after_ms, load_time_zone(time_zone), dst)

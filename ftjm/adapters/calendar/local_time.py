"""From local time to instants: what a change of the clock means for a schedule.

A clock that is put forward skips local times, the *gap*. One that is put back shows local times twice, in the two
passes of a *fold*. It does not matter here why: daylight saving, or a country that changes its offset for good.

| `dst` | a local time in a gap | a local time in a fold |
|---|---|---|
| `once` | when the gap ends, once for all local times that fell into it | the first pass |
| `skip` | not | the first pass |
| `both` | as `once` | both passes |

`once` is what cron of Debian does (cron(8), "Daylight Saving Time and other time changes").

A local time is a `datetime` without a time zone here. An instant is a number of milliseconds since the Unix epoch.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times have no time zone
EPOCH_UTC = EPOCH.replace(tzinfo=UTC)
MS = timedelta(milliseconds=1)


class Reading(NamedTuple):
    """What the clock of a time zone shows at an instant."""

    local: datetime
    is_second_pass: bool
    """Whether the clock has shown this local time before, in the first pass of a fold."""


class Instants(NamedTuple):
    """The instants of one local time, in ms. They are equal but for a gap and a fold.

    In a fold they are the first and the second pass. In a gap, the offset before it gives the later instant, which is
    `first` then, and the offset behind it gives `second`; the gap ends in between (PEP 495, "Conversion from Naive to
    Aware").
    """

    first: int
    second: int

    @property
    def are_in_gap(self) -> bool:
        """Whether the clock never shows the local time."""
        return self.first > self.second

    @property
    def are_in_fold(self) -> bool:
        """Whether the clock shows the local time twice."""
        return self.first < self.second


def read_clock(instant_ms: int, zone: tzinfo) -> Reading:
    """The local time of an instant. Raises OverflowError for one before the year 1 or after the year 9999."""
    shown = (EPOCH_UTC + instant_ms * MS).astimezone(zone)
    return Reading(shown.replace(tzinfo=None, fold=0), shown.fold == 1)


def instants_of(local: datetime, zone: tzinfo) -> Instants:
    """The instants of a local time."""
    first, second = (_instant(local, _offset(local.replace(tzinfo=zone, fold=fold))) for fold in (0, 1))
    return Instants(first, second)


def change_of_clock(instants: Instants, zone: tzinfo) -> int:
    """The instant at which the clock is changed, in ms: a gap's end, or the begin of a fold's second pass.

    Args:
        instants: those of a local time in the gap or in the fold.
        zone: the time zone.
    """
    # The offset changes once between the two. Offsets change at whole seconds.
    before, behind = min(instants) // 1000, max(instants) // 1000
    offset = _offset_at(before, zone)
    while behind - before > 1:
        middle = (before + behind) // 2
        if _offset_at(middle, zone) == offset:
            before = middle
        else:
            behind = middle
    return behind * 1000


def _instant(local: datetime, offset: timedelta) -> int:
    return (local - offset - EPOCH) // MS


def _offset(time: datetime) -> timedelta:
    offset = time.utcoffset()
    assert offset is not None, "a zone of the IANA database has an offset at every time"
    return offset


def _offset_at(instant_seconds: int, zone: tzinfo) -> timedelta:
    return _offset((EPOCH_UTC + timedelta(seconds=instant_seconds)).astimezone(zone))

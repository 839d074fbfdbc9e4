"""All instants of an expression in a window, by ftjm and by two libraries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from croniter import croniter
from cronsim import CronSim

from ftjm.adapters.calendar.cron import next_of_cron
from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.state.schedules import Dst

SECOND = timedelta(seconds=1)


def to_ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def ours(expression: str, zone: str, dst: Dst, begin: datetime, end: datetime) -> list[datetime]:
    found, ms = [], to_ms(begin) - 1
    while (instant := next_of_cron(expression, "any", zone, dst, ms)) is not None and instant < to_ms(end):
        assert instant > ms
        found.append(from_ms(instant))
        ms = instant
    return found


def of_cronsim(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    return _before(end, CronSim(expression, (begin - SECOND).astimezone(load_time_zone(zone))))


def of_croniter(expression: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    times = croniter(expression, (begin - SECOND).astimezone(load_time_zone(zone)))
    return _before(end, iter(lambda: times.get_next(datetime), None))


def _before(end: datetime, times: Iterator[datetime]) -> list[datetime]:
    found = []
    for time in times:
        if time.astimezone(UTC) >= end:
            break
        found.append(time.astimezone(UTC))
    return found

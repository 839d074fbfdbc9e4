"""Decisions when a calendar changes: the schedules that use it are reckoned anew.

A timer that comes due would find it out by itself, but the new next instant may be earlier than the old one. So a
process (`processes.py`) goes through the schedules of the partition. What a schedule has decided stays: its next
instant is the first one behind that. One that the new calendar has in the past is missed, or late, as any other.
"""

from ftjm.core.decide.decision import Events, Policy
from ftjm.core.decide.schedules import reckoned
from ftjm.core.records import events as e
from ftjm.core.schedule_calendars import calendar_revision
from ftjm.core.state.processes import Reckon
from ftjm.core.state.view import StateView

LOOKED_MAX = 300
"""Schedules that a slice looks at."""
RECKONED_MAX = 10
"""Schedules that a slice reckons: 2 to 20 ms of expressions of cron."""
ROWS_OF_A_SCHEDULE = 3
"""Rows that a change of its next instant writes: its own, and its old and its new timer."""


def next_slice(state: StateView, calendar: str, process: Reckon, rows: int, policy: Policy) -> Events:
    """The events of the next slice: those of its schedules, and a `SchedulesReckoned`.

    Args:
        rows: how many rows the batch may change yet.
    """
    most = min(RECKONED_MAX, rows // ROWS_OF_A_SCHEDULE)
    events: Events = []
    following = ""
    for looked, key in enumerate(state.schedule_keys(process.next_schedule)):
        if looked == LOOKED_MAX or len(events) == most:
            following = key
            break
        row = state.schedule(key)
        assert row is not None
        is_old = row.calendar_revision != calendar_revision(state, row.spec)
        if row.spec.calendar == calendar and not row.paused_at and is_old:
            events.append(reckoned(state, key, row, policy))
    return [*events, e.SchedulesReckoned(calendar=calendar, next_schedule=following)]

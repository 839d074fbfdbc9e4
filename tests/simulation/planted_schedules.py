"""Rules of schedules, each switched off at its smallest place."""

from typing import Any
from unittest.mock import patch

import msgspec

from ftjm.core.calendar import next_instant
from ftjm.core.decide import backfills, calendars, firings, schedules
from ftjm.core.decide import handlers as decide
from ftjm.core.decide.backfills import _Slice
from ftjm.core.decide.firings import _Firing
from ftjm.core.evolve import handlers as evolve
from ftjm.core.evolve import schedules as evolve_schedules
from ftjm.core.limits import BACKFILL_ACTIVE_MAX
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.model import TERMINAL
from ftjm.core.state.schedules import FiredBy, ScheduleSpec
from ftjm.core.state.state import State
from ftjm.engine.partition import Partition
from tests.simulation.planted import Patch, planted


@planted
def a_schedule_does_not_look_whether_its_last_job_has_ended() -> list[Patch]:
    ended = patch.object(firings, "is_under_way", lambda *_: False)
    return [ended, patch.object(schedules, "is_under_way", lambda *_: False)]


@planted
def an_instant_fires_that_waits_though_the_job_has_not_ended() -> list[Patch]:
    def fired(self: _Firing) -> Any:
        row = self._schedule
        if row.waiting_instant:
            return self._fire(row.waiting_instant, row.waiting_start, FiredBy.WAITED, row.next_at)
        return real(self)

    real = _Firing.decide
    return [patch.object(_Firing, "decide", fired)]


@planted
def what_is_missed_fires_late() -> list[Patch]:
    def decide_in_time(self: _Firing) -> Any:
        with patch.object(self, "_now", self._schedule.next_at):
            return real(self)

    real = _Firing.decide
    return [patch.object(_Firing, "decide", decide_in_time)]


@planted
def a_firing_goes_on_with_the_next_instant_from_now_on() -> list[Patch]:
    real = _Firing._fire

    def fire(self: _Firing, instant: int, start: int, by: FiredBy, next_at: int) -> Any:
        row = self._schedule
        if by is FiredBy.DUE:
            next_at = next_instant(self._calendar, row.spec, self._key, max(instant, self._now))
        return real(self, instant, start, by, next_at)

    return [patch.object(_Firing, "_fire", fire)]


@planted
def each_owner_begins_its_schedules_anew() -> list[Patch]:
    def lead(partition: Partition, *arguments: Any) -> None:
        real(partition, *arguments)
        state = partition.state
        for key in [key[1:].decode() for key, _ in state.rows.scan(b"a", b"b")]:
            row = state.schedule(key)
            if row is not None and row.last_instant and not row.paused_at:
                row.next_at = row.last_instant

    real = Partition.lead
    return [patch.object(Partition, "lead", lead)]


@planted
def a_paused_schedule_goes_on() -> list[Patch]:
    def paused(state: State, event: e.SchedulePaused, _key: str) -> None:
        row = evolve_schedules._existing(state, event)
        row.pause_reason = event.reason
        evolve_schedules._save(state, event, row)

    return [patch.dict(evolve._HANDLERS, {e.SchedulePaused: paused})]


@planted
def a_pause_is_caught_up() -> list[Patch]:
    def resume(state: State, command: Any, now: int, policy: Any) -> Any:
        row = state.schedule(f"{command.queue}/{command.name}")
        return real(state, command, row.paused_at if row is not None and row.paused_at else now, policy)

    real = decide._HANDLERS[c.ResumeSchedule]
    return [patch.dict(decide._HANDLERS, {c.ResumeSchedule: resume})]


@planted
def a_job_that_is_replaced_goes_on() -> list[Patch]:
    real = _Firing._overlapping

    def overlapping(self: _Firing, instant: int, next_at: int) -> Any:
        found = real(self, instant, next_at)
        return [event for event in found if isinstance(event, e.ScheduleEvent)]

    return [patch.object(_Firing, "_overlapping", overlapping)]


@planted
def a_backfill_begins_more_runs_than_it_may() -> list[Patch]:
    def decide(self: _Slice, *arguments: Any) -> Any:
        self._backfill = msgspec.structs.replace(self._backfill, max_active=BACKFILL_ACTIVE_MAX)
        return real(self, *arguments)

    real = _Slice.decide
    return [patch.object(_Slice, "decide", decide)]


@planted
def a_backfill_runs_jobs_again_that_it_should_leave_alone() -> list[Patch]:
    return [patch.dict(backfills.REPROCESSED, dict.fromkeys(Reprocess, TERMINAL))]


@planted
def a_calendar_that_changes_is_not_noticed() -> list[Patch]:
    def always_one(_state: State, spec: ScheduleSpec) -> int:
        return 1 if spec.calendar else 0

    return [patch.object(module, "calendar_revision", always_one) for module in (firings, calendars, evolve_schedules)]

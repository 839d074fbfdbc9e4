"""Events of backfills: begun, advanced, stopped, and the ends of the runs that they have begun.

The row of a backfill is kept until a day after its end. While it is under way, its schedule names it, and a process
(`BackfillTurn`) is there if it has something to do.
"""

from ftjm.core.backfill_rows import first, following, without
from ftjm.core.limits import COMMAND_ID_MEMORY_MS
from ftjm.core.records import events as e
from ftjm.core.state.backfills import Backfill, backfill_name
from ftjm.core.state.model import Job, JobState
from ftjm.core.state.processes import BackfillTurn, ProcessKind
from ftjm.core.state.schedules import Schedule, schedule_key
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind


def begun(state: State, event: e.BackfillBegun, _key: str) -> None:
    """The backfill is under way."""
    key = schedule_key(event.queue, event.name)
    schedule = state.schedule(key)
    assert schedule is not None
    assert not schedule.backfill, f"{key} has a backfill under way, {schedule.backfill}"
    schedule.backfill = event.backfill
    state.save_schedule(key, schedule)
    state.save_backfill(backfill_name(event.queue, event.name, event.backfill), row := first(event))
    _give_turn(state, key, event.backfill, row)


def moved(state: State, event: e.BackfillAdvanced | e.BackfillStopped, _key: str) -> None:
    """A slice is done, or the backfill is stopped. Behind its last run, and where it is stopped, it has ended."""
    key, name = schedule_key(event.queue, event.name), backfill_name(event.queue, event.name, event.backfill)
    row = state.backfill(name)
    assert row is not None
    assert not row.ended_at, f"{type(event).__name__} of {name}, which is not under way"
    row = following(row, event)
    state.save_backfill(name, row)
    if row.has_turn and not row.ended_at:
        _give_turn(state, key, event.backfill, row)
    elif state.process(ProcessKind.BACKFILL, key) is not None:
        state.drop_process(ProcessKind.BACKFILL, key)
    if row.ended_at:
        state.set_timer(Timer(event.at + COMMAND_ID_MEMORY_MS, TimerKind.COMMAND_ID, name))
        schedule = state.schedule(key)
        if schedule is not None:  # else it was deleted
            schedule.backfill = ""
            state.save_schedule(key, schedule)


def job_ended(state: State, event: e.Event, job: Job, schedule: Schedule) -> None:
    """A job of a schedule has ended. If a backfill has begun its run, the next slice knows, and may begin another."""
    name = backfill_name(event.queue, job.schedule, schedule.backfill)
    row = state.backfill(name)
    assert row is not None
    if event.job_id in row.active:
        row = without(row, event.job_id, succeeded=job.state is JobState.SUCCEEDED)
        state.save_backfill(name, row)
        _give_turn(state, schedule_key(event.queue, job.schedule), schedule.backfill, row)


def _give_turn(state: State, key: str, command_id: str, row: Backfill) -> None:
    state.save_process(ProcessKind.BACKFILL, key, BackfillTurn(command_id, row.actor))

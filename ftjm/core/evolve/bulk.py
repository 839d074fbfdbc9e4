"""Events of bulk requests: begun, advanced, stopped. Each job that one changes has an event of its own.

What has become of a request is kept for a day, as long as its name is remembered.
"""

from ftjm.core.bulk_rows import first, following
from ftjm.core.limits import COMMAND_ID_MEMORY_MS
from ftjm.core.records import events as e
from ftjm.core.state.processes import Bulk, ProcessKind, bulk_name
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind


def begun(state: State, event: e.BulkBegun, _key: str) -> None:
    """The request is under way. It is about the jobs that are there now."""
    name = bulk_name(event.queue, event.bulk)
    state.save_process(ProcessKind.BULK, name, first(event, state.counters.order))
    state.remember(name)
    state.set_timer(Timer(event.at + COMMAND_ID_MEMORY_MS, TimerKind.COMMAND_ID, name))


def moved(state: State, event: e.BulkAdvanced | e.BulkStopped, _key: str) -> None:
    """A slice is done, or the request is stopped. Behind the last slice, and where it is stopped, it has ended."""
    name = bulk_name(event.queue, event.bulk)
    bulk = state.process(ProcessKind.BULK, name)
    assert isinstance(bulk, Bulk), f"{type(event).__name__} of {event.bulk}, which is not under way"
    bulk = following(bulk, event)
    if isinstance(event, e.BulkAdvanced) and event.next_job:
        state.save_process(ProcessKind.BULK, name, bulk)
    else:
        state.drop_process(ProcessKind.BULK, name)
        # Later, its name is forgotten, or about to be, and nothing would delete the result. (Whether the name is
        # remembered is not asked: the projection does not keep these rows.)
        if event.at < bulk.begun_at + COMMAND_ID_MEMORY_MS:
            state.save_bulk_result(name, bulk)

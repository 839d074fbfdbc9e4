"""Events of bulk requests: begun, advanced, stopped. Each job that one changes has an event of its own.

What has become of a request is kept for a day, as long as its name is remembered.
"""

import msgspec

from ftjm.core.evolve.jobs import COMMAND_ID_MEMORY_MS
from ftjm.core.records import events as e
from ftjm.core.state.model import Timer, TimerKind
from ftjm.core.state.processes import Bulk, ProcessKind, bulk_name
from ftjm.core.state.state import State


def begun(state: State, event: e.BulkBegun, _key: str) -> None:
    """The request is under way. It is about the jobs that are there now."""
    name = bulk_name(event.queue, event.bulk)
    bulk = Bulk(
        event.queue,
        event.action,
        event.filter,
        event.reason,
        event.priority,
        state.counters.order,
        event.actor,
        event.at,
    )
    state.save_process(ProcessKind.BULK, name, bulk)
    state.remember(name)
    state.set_timer(Timer(event.at + COMMAND_ID_MEMORY_MS, TimerKind.COMMAND_ID, name))


def advanced(state: State, event: e.BulkAdvanced, _key: str) -> None:
    """A slice is done. After the last one the request has ended."""
    counted = {"looked": event.looked, "changed": event.changed, "refused": event.refused}
    bulk = msgspec.structs.replace(_under_way(state, event), next_job=event.next_job, **counted)
    if event.next_job:
        state.save_process(ProcessKind.BULK, bulk_name(event.queue, event.bulk), bulk)
    else:
        _end(state, event, bulk)


def stopped(state: State, event: e.BulkStopped, _key: str) -> None:
    """The request has ended before its time."""
    _end(state, event, msgspec.structs.replace(_under_way(state, event), stopped=True))


def _under_way(state: State, event: e.BulkAdvanced | e.BulkStopped) -> Bulk:
    bulk = state.process(ProcessKind.BULK, bulk_name(event.queue, event.bulk))
    assert isinstance(bulk, Bulk), f"{type(event).__name__} of {event.bulk}, which is not under way"
    return bulk


def _end(state: State, event: e.BulkAdvanced | e.BulkStopped, bulk: Bulk) -> None:
    name = bulk_name(event.queue, event.bulk)
    state.drop_process(ProcessKind.BULK, name)
    state.save_bulk_result(name, msgspec.structs.replace(bulk, ended_at=event.at))

"""Decisions about windows: when each opens and closes in this partition, and which attempts that stops.

Every partition has a timer for the next edge of each window. The calendar reckons the edges; the event holds the
result, so that no fold ever reckons.
"""

from ftjm.core.decide.decision import Events, Policy, about, calendar_of
from ftjm.core.records import events as e
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.model import StopReason
from ftjm.core.state.processes import WindowStop
from ftjm.core.state.resources import ResourceKind, ResourceSpec, resource_key
from ftjm.core.state.view import StateView
from ftjm.core.state.windows import OnClose, WindowSpec
from ftjm.core.windows import QueueWindow, stops_on, windows_of


def turn(state: StateView, name: str, now: int, policy: Policy) -> Events:
    """`WindowTurned` when a window's timer is due."""
    window = state.resource(resource_key(ResourceKind.WINDOW, name))
    assert window is not None, f"a timer of the window {name}, which does not exist"
    (spec,) = window.spec.window
    return [_turned(name, spec, _days(state, spec), now, policy)]


def after_change(
    state: StateView, kind: ResourceKind, name: str, spec: ResourceSpec, now: int, policy: Policy
) -> Events:
    """`WindowTurned` of each window that a new declaration is about: of a window itself, or of a calendar.

    Args:
        state: as it was before the change.
        spec: without any part if the resource is deleted.
    """
    if kind is ResourceKind.WINDOW:
        return [_turned(name, window, _days(state, window), now, policy) for window in spec.window]
    if kind is not ResourceKind.CALENDAR:
        return []
    days = spec.calendar[0] if spec.calendar else None
    known = state.windows()
    return [_turned(user, known[user].spec.window[0], days, now, policy) for user in users_of(state, name)]


def next_stops(state: StateView, process: WindowStop, looked_max: int, changed_max: int) -> Events:
    """A slice of the process that stops attempts: those whose queues' windows say so now."""
    known = state.windows()
    none_stops = not any(one.on_close is OnClose.STOP for window in known.values() for one in window.spec.window)
    held = () if none_stops else state.held_attempts(process.next_session, process.next_job)
    of_queue: dict[str, tuple[QueueWindow, ...]] = {}
    events: Events = []
    following = ("", "")
    for looked, (name, key) in enumerate(held):
        if looked == looked_max or len(events) == changed_max:
            following = (name, key)
            break
        session, job, queue = state.session(name), state.job(key), key.partition("/")[0]
        assert session is not None
        assert job is not None
        if queue not in of_queue:
            of_queue[queue] = windows_of(known, queue)
        if job.stopping or not stops_on(of_queue[queue], session.worker):
            continue
        events.append(
            e.JobStopRequested(
                **about(key, job),
                attempt=job.attempt,
                reason=StopReason.WINDOW,
                grace_ms=state.spec(key).cancel_grace_ms,
            )
        )
    events.append(e.WindowStopsAdvanced(next_session=following[0], next_job=following[1]))
    return events


def users_of(state: StateView, calendar: str) -> list[str]:
    """Names of the windows that use a calendar."""
    return [name for name, known in state.windows().items() if known.spec.window[0].calendar == calendar]


def _days(state: StateView, spec: WindowSpec) -> CalendarSpec | None:
    found = state.calendar(spec.calendar) if spec.calendar else None
    return found.spec if found else None


def _turned(name: str, spec: WindowSpec, days: CalendarSpec | None, now: int, policy: Policy) -> e.Event:
    calendar = calendar_of(policy)
    is_open, until = calendar.window_at(spec, name, days, now)
    return e.WindowTurned(name=name, open=is_open, until=until, tzdata=calendar.version)

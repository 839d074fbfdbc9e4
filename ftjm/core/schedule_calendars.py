"""The calendar that a schedule uses, as its partition knows it."""

from ftjm.core.state.schedules import ScheduleSpec
from ftjm.core.state.view import StateView


def calendar_revision(state: StateView, spec: ScheduleSpec) -> int:
    """The revision of a schedule's calendar; 0 if it has none, or if this partition does not know it."""
    adopted = state.calendar(spec.calendar) if spec.calendar else None
    return adopted.revision if adopted else 0

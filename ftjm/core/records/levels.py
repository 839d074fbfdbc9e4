"""Record levels: which build knows which records and fields.

Each release that adds a record, or a field to one, raises `LEVEL` by one and lists what it adds in `ADDITIONS`. Values
that older builds do not know are in `NEW_VALUES`. Every member of a cluster announces its level, so one number says all
that it can read and write:

    level 1   the records of the first release (nothing is listed)
    level 2   ADDITIONS = (Addition(2, SubmitJob, "spec.gpus"), Addition(2, MoveJob))

What a level adds may come to lie in the log only after `ftjm upgrade finalize`. Until then the cluster can go back to
the older build, which must be able to read the log. `docs/decisions/041-versions-and-going-back.md` has the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from ftjm.core.records.backfill_events import BACKFILL_EVENTS
from ftjm.core.records.commands import (
    ApplyQueue,
    ApplySchedule,
    AwaitJob,
    BackfillSchedule,
    BulkJobs,
    DeleteQueue,
    DeleteSchedule,
    PauseQueue,
    PauseSchedule,
    PrioritizeJob,
    ResumeQueue,
    ResumeSchedule,
    StopBackfill,
    StopBulk,
    SubmitJob,
    TriggerSchedule,
)
from ftjm.core.records.events import (
    AttemptDispatched,
    AttemptStopped,
    BulkAdvanced,
    BulkBegun,
    BulkStopped,
    JobParked,
    JobPrioritized,
    JobReviewed,
    JobSkipped,
    JobStopRequested,
    JobStuck,
    JobSubmitted,
    KeysSettled,
    QueueApplied,
    QueueDeleted,
    QueuePaused,
    QueueReordered,
    QueueResumed,
    QueueUnchanged,
    WindowStopsAdvanced,
)
from ftjm.core.records.messages import QueueDemand, RunAttempt, SlotOffer, StopAttempt
from ftjm.core.records.resource_commands import RESOURCE_COMMANDS, AdoptResource, ApplyResource
from ftjm.core.records.resource_events import RESOURCE_EVENTS, ResourceAdopted, ResourceApplied
from ftjm.core.records.schedule_events import SCHEDULE_EVENTS, ScheduleApplied, SchedulesReckoned
from ftjm.core.state.model import StopReason
from ftjm.core.state.queues import QueueSpec
from ftjm.core.state.windows import OnClose

FIRST_LEVEL = 1
"""The level that every build supports which announces a level. A cluster that was never finalised is at this level."""
LEVEL = 6
"""The level of this build."""
AHEAD_LEVEL = 2
"""The level from which on attempts are sent ahead of free slots."""
PAUSE_LEVEL = 3
"""The level from which on a queue can be paused."""
QUEUE_LEVEL = 4
"""The level from which on a queue can be declared, and many jobs changed by one request."""
SHARING_LEVEL = 5
"""The level from which on a queue has defaults, a weight and shares, jobs have concurrency keys, and there are
resources that every partition knows."""
STOP_LEVEL = 6
"""The level from which on a window may stop attempts when it closes."""
SCHEDULE_LEVEL = 4
"""The level from which on there are schedules."""
UNANNOUNCED = 0
"""The level of a member that announces none: its build is older than levels are."""


class Addition(NamedTuple):
    """A record, or a field of one, that a level adds."""

    level: int
    record: type[msgspec.Struct]
    field: str = ""
    """The field's name, with dots where it is a field of a nested record (`spec.gpus`); empty for the record itself."""


_SCHEDULES: tuple[type[msgspec.Struct], ...] = (
    ApplySchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    TriggerSchedule,
    *SCHEDULE_EVENTS,
)
_QUEUES = (ApplyQueue, DeleteQueue, QueueApplied, QueueUnchanged, QueueDeleted, QueueReordered)
_OF_JOBS = tuple(
    Addition(SHARING_LEVEL, record, f"{path}.{field}")
    for record, path in (
        (SubmitJob, "spec"),
        (AwaitJob, "spec"),
        (JobSubmitted, "spec"),
        (RunAttempt, "spec"),
        (ApplySchedule, "spec.job"),
        (ScheduleApplied, "spec.job"),
    )
    for field in ("concurrency_key", "share_identifier")
)
_OF_QUEUES = tuple(
    Addition(SHARING_LEVEL, record, f"spec.{field}")
    for record in (ApplyQueue, QueueApplied)
    for field in QueueSpec.__struct_fields__[QueueSpec.__struct_fields__.index("weight") :]
)
_OF_SCHEDULES = tuple(
    Addition(SHARING_LEVEL, record, f"spec.{field}")
    for record in (ApplySchedule, ScheduleApplied)
    for field in ("explicit", "calendar")
)
_BACKFILLS: tuple[type[msgspec.Struct], ...] = (BackfillSchedule, StopBackfill, *BACKFILL_EVENTS, SchedulesReckoned)
_BULK = (BulkJobs, StopBulk, BulkBegun, BulkAdvanced, BulkStopped, PrioritizeJob, JobPrioritized)

ADDITIONS: tuple[Addition, ...] = (
    Addition(AHEAD_LEVEL, AttemptDispatched, "ahead"),
    Addition(AHEAD_LEVEL, SlotOffer, "ahead"),
    *(Addition(PAUSE_LEVEL, record) for record in (PauseQueue, ResumeQueue, QueuePaused, QueueResumed)),
    Addition(PAUSE_LEVEL, QueueDemand, "paused"),
    *(Addition(QUEUE_LEVEL, record) for record in (*_QUEUES, *_BULK)),
    Addition(QUEUE_LEVEL, QueueDemand, "limited"),
    *(Addition(SCHEDULE_LEVEL, record) for record in _SCHEDULES),
    *_OF_JOBS,
    *_OF_QUEUES,
    *_OF_SCHEDULES,
    *(Addition(SHARING_LEVEL, record) for record in (JobParked, JobStuck, JobReviewed, JobSkipped, KeysSettled)),
    *(Addition(SHARING_LEVEL, record) for record in _BACKFILLS),
    *(Addition(SHARING_LEVEL, record) for record in (*RESOURCE_COMMANDS, *RESOURCE_EVENTS)),
    Addition(SHARING_LEVEL, SubmitJob, "explicit"),
    Addition(SHARING_LEVEL, AwaitJob, "explicit"),
    Addition(SHARING_LEVEL, QueueDemand, "weight"),
    Addition(SHARING_LEVEL, QueueDemand, "starts_per_minute"),
    Addition(SHARING_LEVEL, AttemptDispatched, "passed"),
    Addition(SHARING_LEVEL, AttemptDispatched, "passed_reason"),
    *(Addition(STOP_LEVEL, record) for record in (AttemptStopped, WindowStopsAdvanced)),
)


class NewValue(NamedTuple):
    """A value that a level adds to a field which the record had before."""

    level: int
    record: type[msgspec.Struct]
    is_used: Callable[[Any], bool]
    """Whether a record has the value."""


NEW_VALUES: tuple[NewValue, ...] = (
    *(
        NewValue(STOP_LEVEL, record, lambda record: any(one.on_close is OnClose.STOP for one in record.spec.window))
        for record in (ApplyResource, AdoptResource, ResourceApplied, ResourceAdopted)
    ),
    *(
        NewValue(STOP_LEVEL, record, lambda record: record.reason is StopReason.WINDOW)
        for record in (JobStopRequested, StopAttempt)
    ),
)


class Levels:
    """Finds the level that a record needs. A record that uses nothing newer costs three lookups and a comparison."""

    def __init__(self, additions: tuple[Addition, ...], new_values: tuple[NewValue, ...] = ()) -> None:
        known = [one.level for one in additions] + [one.level for one in new_values]
        self.newest = max(known, default=FIRST_LEVEL)
        """A cluster of this level needs no other."""
        self._values: dict[type[msgspec.Struct], list[NewValue]] = {}
        for value in new_values:
            self._values.setdefault(value.record, []).append(value)
        self._records: dict[type[msgspec.Struct], int] = {}
        self._fields: dict[type[msgspec.Struct], _Fields] = {}
        by_record: dict[type[msgspec.Struct], list[Addition]] = {}
        for one in additions:
            if one.field:
                by_record.setdefault(one.record, []).append(one)
            else:
                self._records[one.record] = one.level
        for record, added in by_record.items():
            values = attrgetter(*(one.field for one in added))
            defaults = tuple(_default(record, one.field) for one in added)
            by_field: list[tuple[int, Callable[[Any], Any], Any]] = [
                (one.level, attrgetter(one.field), default) for one, default in zip(added, defaults, strict=True)
            ]
            self._fields[record] = _Fields(values, defaults if len(added) > 1 else defaults[0], by_field)

    def needed(self, record: msgspec.Struct) -> int:
        """The level that a reader must have: that of the record, of its newest field that has no default value, or of a
        new value."""
        kind = type(record)
        level = self._records.get(kind, FIRST_LEVEL)
        for value in self._values.get(kind, ()):
            if value.is_used(record):
                level = max(level, value.level)
        fields = self._fields.get(kind)
        if fields is None or fields.values(record) == fields.defaults:
            return level
        return max(level, *(newer for newer, value, default in fields.by_field if value(record) != default))


class _Fields(NamedTuple):
    """The fields of a record that came later."""

    values: Callable[[Any], Any]
    """Gives their values: a tuple; if it is one field, its value."""
    defaults: Any
    """Their defaults, in the same form."""
    by_field: list[tuple[int, Callable[[Any], Any], Any]]
    """Of each field: its level, the function that gives its value, and its default."""


def _default(record: type[Any], path: str) -> Any:
    """The default of a field; a path leads through nested records. Raises ValueError where the field has none."""
    name, _, rest = path.partition(".")
    fields = {field.name: field for field in msgspec.structs.fields(record)}
    if name not in fields:
        raise ValueError(f"expected a field of {record.__name__}, but found {name}")
    if rest:
        return _default(fields[name].type, rest)
    if fields[name].required:
        raise ValueError(f"expected {record.__name__}.{name} to have a default, since older records lack the field")
    return fields[name].default_factory() if fields[name].default is msgspec.NODEFAULT else fields[name].default


levels = Levels(ADDITIONS, NEW_VALUES)

"""Bounds: what each field of a command and of a heartbeat may hold. They are checked once, where the record enters.

Anything that can write to the log can send any value that a schema can express: a number of 64 bits, a name of a
megabyte, a list of a million items. Behind this check, every other file may rely on the bounds. So no sum overflows, no
name fills a cache, and every message that follows from a record can be sent.

A value outside its bound is treated in one of two ways:

- Something is decided by it, or a key is made of it: the record is refused. The reason names the field.
- It only informs people, and it comes with a report that must not be lost (a worker's clock is wrong, an error is
  long): it is set to the nearest value inside the bound.

To add a field to a record, declare its bound here. A test compares the table with the structs. Booleans and
enumerations need none: the codec takes no other value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from ftjm.core import limits
from ftjm.core.bound_kinds import NAME, OPTIONAL_NAME, Bound, items, number, pairs, size, struct, structs, text
from ftjm.core.names import NAME as NAME_PATTERN
from ftjm.core.records import commands as c
from ftjm.core.records import messages as m
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.model import JobSpec
from ftjm.core.state.processes import JobFilter
from ftjm.core.state.queues import JobDefaults, QueueSpec, Share, WaitingLimit
from ftjm.core.state.resources import CordonSpec, ResourceSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.core.state.windows import WindowSpec

SHOWN_MAX = 130
"""Characters of a refused value that a reason repeats."""

TIME = number(0, limits.TIME_MAX_MS)
INSTANT = number(0, limits.INSTANT_MAX_MS)
TIME_OF_REPORT = number(0, limits.TIME_MAX_MS, informs=True)
COUNT = number(0, limits.COUNT_MAX)
SMALL = number(0, limits.SMALL_MAX)
PARTITION = number(0, limits.PARTITIONS_MAX - 1)
LANE = number(0, limits.LANES_MAX - 1)
OFFSET = number(-1, limits.COUNT_MAX)
REASON = text(limits.TEXT_CHARACTERS_MAX)
NO_JOB = text(0)
TITLE = text(limits.TITLE_CHARACTERS_MAX)
OUTPUT = size(limits.RECORD_BYTES_MAX)
"""The decision cuts an output, and turns a result that is too large into a failure of its attempt."""

_COMMAND: dict[str, Bound] = {
    "queue": NAME,
    "job_id": NAME,
    "shard_key": TITLE,
    "command_id": OPTIONAL_NAME,
    "actor": text(limits.TITLE_CHARACTERS_MAX, informs=True),
    "sent_at": TIME_OF_REPORT,
}
_REPORT = _COMMAND | {"run": SMALL, "attempt": SMALL, "session": NAME}
_END = _REPORT | {
    "started_at": TIME_OF_REPORT,
    "ended_at": TIME_OF_REPORT,
    "exit_code": number(-limits.SMALL_MAX - 1, limits.SMALL_MAX, informs=True),
    "stdout": OUTPUT,
    "stderr": OUTPUT,
    "stdout_cut": number(0, limits.COUNT_MAX, informs=True),
    "stderr_cut": number(0, limits.COUNT_MAX, informs=True),
}
_SCHEDULE = _COMMAND | {"job_id": NO_JOB, "name": NAME}
_REVISION = {"expected_revision": number(c.ANY_REVISION, limits.COUNT_MAX)}
_PASSED = number(1, limits.INSTANT_MAX_MS)
_RESOURCE = _COMMAND | {"queue": NO_JOB, "job_id": NO_JOB, "name": NAME}
_TOLD = _RESOURCE | {"revision": COUNT}
_DATES = items(limits.CALENDAR_DATES_MAX, text(10))
_PATTERNS = items(limits.PATTERNS_MAX, text(128))
_WORD = text(limits.WORD_CHARACTERS_MAX)
_FIELDS = items(limits.LABELS_MAX, text(40))
"""Names of fields of a job."""
_PARTITIONS = items(limits.PARTITIONS_MAX, PARTITION)

BOUNDS: Mapping[type[msgspec.Struct], Mapping[str, Bound]] = {
    JobSpec: {
        "executor": text(40),
        "command": items(limits.WORDS_MAX, _WORD),
        "payload": size(limits.INLINE_BYTES_MAX),
        "environment": pairs(limits.WORDS_MAX, _WORD),
        "labels": pairs(limits.WORDS_MAX, _WORD),
        "working_directory": text(limits.PATH_CHARACTERS_MAX),
        "priority": number(0, limits.PRIORITY_MAX),
        "delay_ms": TIME,
        "start_at": TIME,
        "timeout_ms": TIME,
        "deadline_ms": TIME,
        "deadline_at": TIME,
        "max_attempts": number(1, limits.SMALL_MAX),
        "backoff_ms": TIME,
        "backoff_factor": number(1, 1_000),
        "backoff_max_ms": TIME,
        "worker_losses_max": SMALL,
        "continue_for_ms": number(0, limits.CONTINUE_FOR_MAX_MS),
        "cancel_grace_ms": TIME,
        "retention_ms": TIME,
        "concurrency_key": OPTIONAL_NAME,
        "share_identifier": OPTIONAL_NAME,
    },
    Share: {"identifier": OPTIONAL_NAME, "weight": number(1, limits.WEIGHT_MAX)},
    WaitingLimit: {"reason": text(40), "after_ms": number(limits.WAITING_MS_MIN, limits.WAITING_MS_MAX)},
    JobDefaults: {"fields": _FIELDS, "spec": struct(JobSpec)},
    QueueSpec: {
        "concurrency": SMALL,
        "rate_limit": number(0, limits.RATE_MAX),
        "rate_per_ms": number(1, limits.RATE_PER_MS_MAX),
        "rate_burst": number(1, limits.RATE_MAX),
        "ageing_ms": number(1, limits.AGEING_MS_MAX),
        "weight": number(1, limits.WEIGHT_MAX),
        "key_concurrency": number(1, limits.SMALL_MAX),
        "shares": structs(limits.SHARES_MAX, Share),
        "half_life_ms": number(limits.HALF_LIFE_MS_MIN, limits.HALF_LIFE_MS_MAX),
        "compute_reservation": number(0, 99),
        "waiting_limits": structs(limits.WAITING_LIMITS_MAX, WaitingLimit),
        "dead_letter_ms": number(0, limits.DEAD_LETTER_MS_MAX),
        "defaults": structs(1, JobDefaults),
    },
    ScheduleSpec: {
        "job": struct(JobSpec),
        "cron": text(limits.CRON_CHARACTERS_MAX),
        "every_ms": number(0, limits.EVERY_MS_MAX),
        "start_at": INSTANT,
        "end_at": INSTANT,
        "time_zone": text(limits.TIME_ZONE_CHARACTERS_MAX),
        "starting_deadline_ms": number(1, limits.STARTING_DEADLINE_MS_MAX),
        "jitter_ms": number(0, limits.JITTER_MS_MAX),
        "explicit": _FIELDS,
        "calendar": OPTIONAL_NAME,
    },
    JobFilter: {
        "states": items(limits.LABELS_MAX, text(40)),
        "labels": pairs(limits.LABELS_MAX, TITLE),
        "submitted_after": TIME,
        "submitted_before": TIME,
    },
    c.SubmitJob: _COMMAND | {"spec": struct(JobSpec), "explicit": _FIELDS},
    c.AwaitJob: _COMMAND | {"spec": struct(JobSpec), "explicit": _FIELDS},
    c.CancelJob: _COMMAND | {"reason": REASON},
    c.HoldJob: _COMMAND | {"reason": REASON},
    c.ReleaseJob: _COMMAND,
    c.RerunJob: _COMMAND | {"reason": REASON},
    c.PrioritizeJob: _COMMAND | {"priority": number(0, limits.PRIORITY_MAX)},
    c.PauseQueue: _COMMAND | {"job_id": NO_JOB, "reason": REASON},
    c.ResumeQueue: _COMMAND | {"job_id": NO_JOB},
    c.ApplyQueue: _COMMAND
    | _REVISION
    | {"job_id": NO_JOB, "spec": struct(QueueSpec), "labels": pairs(limits.LABELS_MAX, TITLE)},
    c.DeleteQueue: _COMMAND | _REVISION | {"job_id": NO_JOB},
    c.ApplySchedule: _SCHEDULE | _REVISION | {"spec": struct(ScheduleSpec), "labels": pairs(limits.LABELS_MAX, TITLE)},
    c.DeleteSchedule: _SCHEDULE | _REVISION,
    c.PauseSchedule: _SCHEDULE | {"reason": REASON},
    c.ResumeSchedule: _SCHEDULE,
    c.TriggerSchedule: _SCHEDULE,
    c.BackfillSchedule: _SCHEDULE
    | {"from_at": _PASSED, "to_at": _PASSED, "max_active": number(1, limits.BACKFILL_ACTIVE_MAX)},
    c.StopBackfill: _SCHEDULE | {"backfill": NAME},
    c.BulkJobs: _COMMAND
    | {
        "job_id": NO_JOB,
        "filter": struct(JobFilter),
        "reason": REASON,
        "priority": number(0, limits.PRIORITY_MAX),
    },
    CalendarSpec: {
        "time_zone": text(limits.TIME_ZONE_CHARACTERS_MAX),
        "weekdays": items(7, number(0, 6)),
        "included": _DATES,
        "excluded": _DATES,
    },
    WindowSpec: {
        "cron": text(limits.CRON_CHARACTERS_MAX),
        "duration_ms": number(limits.WINDOW_MS_MIN, limits.WINDOW_MS_MAX),
        "time_zone": text(limits.TIME_ZONE_CHARACTERS_MAX),
        "calendar": OPTIONAL_NAME,
        "queues": _PATTERNS,
        "workers": _PATTERNS,
    },
    CordonSpec: {"reason": REASON},
    ResourceSpec: {
        "calendar": structs(1, CalendarSpec),
        "window": structs(1, WindowSpec),
        "cordon": structs(1, CordonSpec),
    },
    c.ApplyResource: _RESOURCE | _REVISION | {"spec": struct(ResourceSpec), "labels": pairs(limits.LABELS_MAX, TITLE)},
    c.DeleteResource: _RESOURCE | _REVISION,
    c.AdoptResource: _TOLD
    | {"spec": struct(ResourceSpec), "labels": pairs(limits.LABELS_MAX, TITLE), "applied_at": TIME, "home": PARTITION},
    c.ReconcileResources: _COMMAND
    | {
        "queue": NO_JOB,
        "job_id": NO_JOB,
        "names": items(limits.RESOURCES_MAX, TITLE),
        "home": PARTITION,
    },
    c.ConfirmAdoption: _TOLD | {"partition": PARTITION},
    c.AskResources: _COMMAND | {"queue": NO_JOB, "job_id": NO_JOB, "partition": PARTITION},
    c.StopBulk: _COMMAND | {"job_id": NO_JOB, "bulk": NAME},
    c.StartAttempt: _REPORT | {"started_at": TIME_OF_REPORT},
    c.CompleteAttempt: _END | {"result": OUTPUT},
    c.FailAttempt: _END
    | {
        "error": text(limits.ERROR_CHARACTERS_MAX, informs=True, keep_end=True),
        "signal": number(0, 1_000, informs=True),
    },
    c.CheckpointAttempt: _REPORT
    | {
        "data": OUTPUT,
        "progress": Bound("a number", "True"),  # one that is no share of 1 counts as not reported
        "text": text(limits.PROGRESS_TEXT_MAX, informs=True),
    },
    c.DeclineAttempt: _REPORT | {"reason": text(limits.TEXT_CHARACTERS_MAX, informs=True)},
    m.SlotOffer: {"partition": PARTITION, "number": COUNT, "slots": SMALL, "ahead": SMALL},
    m.WorkerHeartbeat: {
        "session": NAME,
        "worker": NAME,
        "host": TITLE,
        "pid": COUNT,
        "lane": LANE,
        "lease_ms": number(limits.LEASE_MS_MIN, limits.LEASE_MS_MAX),
        "slots": SMALL,
        "busy": SMALL,
        "queues": items(limits.LIST_MAX, NAME),
        "offers": structs(limits.PARTITIONS_MAX, m.SlotOffer),
    },
    m.QueueDemand: {
        "queue": OPTIONAL_NAME,
        "ready": COUNT,
        "counts": items(100, COUNT),
        "oldest_at": TIME,
        "weight": SMALL,
        "starts_per_minute": COUNT,
    },
    m.OfferTaken: {"session": NAME, "number": COUNT},
    m.PartitionReport: {
        "partition": PARTITION,
        "role": TITLE,
        "owner_epoch": COUNT,
        "applied_offset": OFFSET,
        "next_command": COUNT,
        "demand": structs(limits.LIST_MAX, m.QueueDemand),
        "taken": structs(limits.LIST_MAX, m.OfferTaken),
        "cordoned": items(limits.RESOURCES_MAX, NAME),
    },
    m.SchedulerHeartbeat: {
        "instance": TITLE,
        "host": TITLE,
        "pid": COUNT,
        "port": number(0, 65_535),
        "partitions": structs(limits.PARTITIONS_MAX, m.PartitionReport),
        "lifeline": TITLE,
    },
    m.PartitionVersion: {"partition": PARTITION, "level": SMALL, "state_version": SMALL},
    m.MemberVersion: {
        "member": TITLE,
        "name": TITLE,
        "role": TITLE,
        "release": TITLE,
        "level": SMALL,
        "state_version": SMALL,
        "partitions": structs(limits.PARTITIONS_MAX, m.PartitionVersion),
    },
    m.DrainWorker: {"worker": NAME, "actor": TITLE},
    m.TakeSnapshot: {"partitions": _PARTITIONS, "actor": TITLE},
    m.FinalizeUpgrade: {"partitions": _PARTITIONS, "level": SMALL, "state_version": SMALL, "actor": TITLE},
}


_OF_COMMANDS = (JobSpec, QueueSpec, ScheduleSpec, JobFilter, ResourceSpec)
"""Structs of which a command has one. Their fields are named as they are, without the struct."""


def confine(record: msgspec.Struct) -> str:
    """Check all fields of a command or a heartbeat, and set those that only inform people inside their bounds.

    Args:
        record: changed in place where a field of the second kind is outside its bound.

    Returns:
        The first fault, as text that names the field; empty if there is none.
    """
    if type(record) not in BOUNDS:
        return f"expected a command or a heartbeat, but found {type(record).__name__}"
    return "" if within(type(record))(record) else _confine_fields(record)


def _confine_fields(record: msgspec.Struct) -> str:
    for name, bound in BOUNDS[type(record)].items():
        value = getattr(record, name)
        if holds(bound)(value):
            continue
        for part in value if isinstance(value, list) else (value,):
            if type(part) is bound.inner and (fault := _confine_fields(part)):
                if type(record) is ScheduleSpec:
                    return f"{name}.{fault}"
                return fault if type(part) in _OF_COMMANDS else f"{name}: {fault}"
        if bound.nearest is None:
            return f"{name}: expected {bound.expected}, but found {_shown(value)}"
        setattr(record, name, bound.nearest(value))
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and len(value) <= SHOWN_MAX:
        return repr(value)
    unit = "bytes" if isinstance(value, bytes) else "characters" if isinstance(value, str) else "items"
    return f"{len(value)} {unit}"


@cache
def holds(bound: Bound) -> Callable[[Any], bool]:
    """The function that tells whether a value is inside the bound."""
    return _compiled(f"lambda value: {bound.test.format('value')}")


@cache
def within(record: type[msgspec.Struct]) -> Callable[[Any], bool]:
    """The function that tells whether all fields of a record are inside their bounds."""
    tests = (bound.test.format(f"record.{name}") for name, bound in BOUNDS[record].items())
    return _compiled(f"lambda record: {' and '.join(tests)}")


def _compiled(source: str) -> Callable[[Any], bool]:
    structs_by_name = {record.__name__: record for record in BOUNDS}
    found: Callable[[Any], bool] = eval(  # noqa: S307  (source made from the table above)
        source, {"match": NAME_PATTERN.match, "within": within, **structs_by_name}
    )
    return found

"""Compares resources as they are written with what is declared: what is to be created, changed and deleted.

A change holds the revision of the declaration that it was compared with. Its command expects that revision, so an edit
that comes in between is refused with `CONFLICT` and is not lost. What the files do not name stays, unless `prune` says
which of it goes. Specs are compared as users write them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from ftjm.core.records.commands import (
    ApplyQueue,
    ApplyResource,
    ApplySchedule,
    Command,
    DeleteQueue,
    DeleteResource,
    DeleteSchedule,
    SubmitJob,
)
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.queues import QueueSpec
from ftjm.core.state.resources import ResourceKind, ResourceSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.core.state.windows import WindowSpec
from ftjm.specs.job import JobRequest
from ftjm.specs.job_resource import SubmittedContent
from ftjm.specs.resource_files import PlacedResource
from ftjm.specs.resources import CALENDAR, KINDS, SCHEDULE, WINDOW, Spec
from ftjm.specs.written import DATA

CLUSTER_KINDS = (CALENDAR, WINDOW)
"""Kinds of which every partition must know each resource."""


class Declared(NamedTuple):
    """A resource that is declared."""

    kind: str
    name: str
    """As in `Resource`."""
    revision: int
    labels: dict[str, str]
    spec: Spec


class ChangeKind(StrEnum):
    """The action that a change takes on its resource."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    REPLACE = "replace"
    """It is a job with another content than the one of its name, and a job cannot be changed."""
    NONE = "unchanged"


SIGNS = {
    ChangeKind.CREATE: "+",
    ChangeKind.CHANGE: "~",
    ChangeKind.DELETE: "-",
    ChangeKind.REPLACE: "!",
    ChangeKind.NONE: "=",
}
DONE = {
    ChangeKind.CREATE: "created",
    ChangeKind.CHANGE: "changed",
    ChangeKind.DELETE: "deleted",
    ChangeKind.REPLACE: "replaced",
    ChangeKind.NONE: "unchanged",
}
"""What is told of a change that was carried out."""


class FieldDifference(NamedTuple):
    """A field that is to be changed. None stands for a field that is not there."""

    field: str
    before: Any
    after: Any


class Change(NamedTuple):
    """What is to be done to one resource."""

    action: ChangeKind
    kind: str
    name: str
    revision: int
    """The revision of the declaration that was seen; 0 if there was none; `ANY_REVISION` if it does not matter."""
    differences: list[FieldDifference]
    wanted: PlacedResource | None = None
    """The resource as it is written; None if it is to be deleted."""
    note: str = ""
    """What its author may have overlooked, for people."""


def plan(
    wanted: Iterable[PlacedResource],
    declared: Iterable[Declared],
    prune: Mapping[str, str] | None = None,
    jobs: Mapping[str, SubmittedContent] | None = None,
) -> list[Change]:
    """Compare resources with what is declared.

    Args:
        wanted: The resources as they are written.
        declared: The resources that are declared. Those that nobody names may be left out.
        prune: Delete what has all of these labels and is not wanted; None to delete nothing. Jobs stay.
        jobs: What the wanted jobs that exist were submitted with, by their names.

    Returns:
        A change for each wanted resource, in their order, and then those that delete, by kind and name.
    """
    there = {(one.kind, one.name): one for one in declared}
    changes = [
        _compared_job(one, one.resource.spec, (jobs or {}).get(one.resource.name))
        if isinstance(one.resource.spec, JobRequest)
        else _compared(one, there.pop((one.resource.kind, one.resource.name), None))
        for one in wanted
    ]
    changes = [_with_note(change, there.values()) for change in changes]
    if prune is not None:
        changes += [
            Change(ChangeKind.DELETE, kind, name, one.revision, _differences(_fields(kind, one.labels, one.spec), {}))
            for (kind, name), one in sorted(there.items())
            if prune.items() <= one.labels.items()
        ]
    return changes


def command(change: Change) -> Command | None:
    """The command that carries out a change; None if there is nothing to do. That of a job which must be replaced is
    refused, with the reason."""
    match change.action:
        case ChangeKind.NONE:
            return None
        case ChangeKind.DELETE if change.kind == SCHEDULE:
            return DeleteSchedule(**schedule_fields(change.name), expected_revision=change.revision)
        case ChangeKind.DELETE if change.kind in CLUSTER_KINDS:
            return DeleteResource(kind=ResourceKind(change.kind), name=change.name, expected_revision=change.revision)
        case ChangeKind.DELETE:
            return DeleteQueue(queue=change.name, expected_revision=change.revision)
        case _:
            assert change.wanted is not None
            resource = change.wanted.resource
            if isinstance(resource.spec, JobRequest):
                job = resource.spec
                return SubmitJob(queue=job.queue, job_id=job.job_id, spec=job.spec, explicit=[*job.explicit])
            expected: dict[str, Any] = {"labels": resource.labels, "expected_revision": change.revision}
            if isinstance(resource.spec, QueueSpec):
                return ApplyQueue(queue=change.name, spec=resource.spec, **expected)
            if isinstance(resource.spec, ScheduleSpec):
                return ApplySchedule(**schedule_fields(change.name), spec=resource.spec, **expected)
            spec = resource_spec(resource.spec)
            return ApplyResource(kind=spec.kinds[0], name=change.name, spec=spec, **expected)


def resource_spec(spec: CalendarSpec | WindowSpec) -> ResourceSpec:
    """The spec of a calendar or a window, as the log has it."""
    return ResourceSpec(calendar=[spec]) if isinstance(spec, CalendarSpec) else ResourceSpec(window=[spec])


def in_order(changes: Iterable[Change]) -> list[list[Change]]:
    """The changes in groups, each of which needs what the groups before it have changed: calendars are there before
    what uses them, and are deleted behind it."""
    groups: list[list[Change]] = [[], [], []]
    for change in changes:
        is_deletion = change.action is ChangeKind.DELETE
        groups[1 if change.kind != CALENDAR else 2 if is_deletion else 0].append(change)
    return [group for group in groups if group]


def users_of_calendars(changes: Collection[Change], declared: Iterable[Declared]) -> dict[str, list[str]]:
    """The schedules that use calendars which are to be deleted, by the calendar's name.

    Args:
        changes: What is to be done. A schedule that is changed or deleted by it uses what it names behind that.
        declared: What is declared.
    """
    removed = {(one.kind, one.name) for one in changes if one.action is ChangeKind.DELETE}
    specs = {(one.kind, one.name): one.wanted.resource.spec for one in changes if one.wanted}
    found: dict[str, list[str]] = {}
    for one in declared:
        spec = specs.get((one.kind, one.name), one.spec)
        if not isinstance(spec, ScheduleSpec) or (one.kind, one.name) in removed:
            continue
        if (CALENDAR, spec.calendar) in removed:
            found.setdefault(spec.calendar, []).append(one.name)
    return found


def schedule_fields(name: str) -> dict[str, Any]:
    """The fields of a command by which it names a schedule, `queue/name`."""
    queue, _, own = name.partition("/")
    return {"queue": queue, "name": own}


def document(change: Change) -> dict[str, Any]:
    """A change as a document. What has no value is left out."""
    found: dict[str, Any] = {"action": change.action.value, "kind": change.kind, "name": change.name}
    if change.revision > 0:
        found["revision"] = change.revision
    if change.wanted:
        found |= {"file": change.wanted.file, "line": change.wanted.line}
    if change.note:
        found["note"] = change.note
    differences = [
        {name: value for name, value in one._asdict().items() if value is not None} for one in change.differences
    ]
    return found | ({"differences": differences} if differences else {})


def text(change: Change) -> str:
    """A change for people: a line for the resource, and one for each field that differs."""
    place = f" ({change.wanted.place})" if change.wanted else ""
    revision = f", revision {change.revision}" if change.revision > 0 else ""
    lines = [f"{SIGNS[change.action]} {change.kind} {change.name}{place}{revision}"]
    lines += [f"    {change.note}"] if change.note else []
    if change.action is not ChangeKind.DELETE:
        lines += [f"    {one.field}: {_told(one)}" for one in change.differences]
    return "\n".join(lines)


def summary(changes: Iterable[Change]) -> str:
    """How many changes there are of each kind, for people."""
    actions = [change.action for change in changes]
    shown = [ChangeKind.CREATE, ChangeKind.CHANGE, ChangeKind.DELETE]
    shown += [ChangeKind.REPLACE] if ChangeKind.REPLACE in actions else []
    counts = [f"{actions.count(action)} to {action}" for action in shown]
    return f"{', '.join(counts)}, {actions.count(ChangeKind.NONE)} unchanged"


def _compared(one: PlacedResource, there: Declared | None) -> Change:
    resource = one.resource
    after = _fields(resource.kind, resource.labels, resource.spec)
    if there is None:
        return Change(ChangeKind.CREATE, resource.kind, resource.name, 0, _differences({}, after), one)
    differences = _differences(_fields(there.kind, there.labels, there.spec), after)
    action = ChangeKind.CHANGE if differences else ChangeKind.NONE
    return Change(action, resource.kind, resource.name, there.revision, differences, one)


def _with_note(change: Change, others: Iterable[Declared]) -> Change:
    """A change with a note if it seems to move a schedule to another queue.

    Args:
        others: what is declared and is not written.
    """
    if change.action is not ChangeKind.CREATE or change.kind != SCHEDULE or change.wanted is None:
        return change
    queue, _, own = change.name.partition("/")
    for one in others:
        before, _, name = one.name.partition("/")
        if (one.kind, name, one.labels) == (SCHEDULE, own, change.wanted.resource.labels):
            text = f"spec.queue: {before} -> {queue}: may not be changed, so {one.name} must be replaced by this one"
            return change._replace(note=f"{text}; delete it, or leave its file")
    return change


def _compared_job(one: PlacedResource, job: JobRequest, there: SubmittedContent | None) -> Change:
    resource = one.resource
    if there is None:
        differences = _differences({}, _fields(resource.kind, resource.labels, job))
        return Change(ChangeKind.CREATE, resource.kind, resource.name, 0, differences, one)
    if there.is_same(job):
        return Change(ChangeKind.NONE, resource.kind, resource.name, 0, [], one)
    note = "must be replaced: there is a job of this name with other content; use another name, or purge that one first"
    return Change(ChangeKind.REPLACE, resource.kind, resource.name, 0, [], one, note)


def _fields(kind: str, labels: Mapping[str, str], spec: Spec) -> dict[str, Any]:
    """All fields by their paths, as errors in files name them. Data of a job is one field, as JSON: it may be null, and
    1 is not 1.0 in it."""
    found = {f"metadata.labels.{name}": value for name, value in sorted(labels.items())}
    return found | _flat("spec", KINDS[kind].written(spec))


def _flat(path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if path in ("spec", "spec.job") and name in DATA:
            found[f"{path}.{name}"] = json.dumps(value, ensure_ascii=False, sort_keys=True)
        else:
            found |= _flat(f"{path}.{name}", value) if isinstance(value, Mapping) else {f"{path}.{name}": value}
    return found


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldDifference]:
    names = dict.fromkeys([*before, *after])
    return [
        FieldDifference(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _told(one: FieldDifference) -> str:
    if one.before is None:
        return f"{one.after}"
    return f"{one.before} -> {'(left out)' if one.after is None else one.after}"

"""Resources as users write them, in files and over HTTP: one envelope for every kind.

    apiVersion: ftjm.io/v1
    kind: Queue
    metadata: {name: thumbnails, labels: {team: web}}
    spec: {concurrency: 20}

A schedule lives with its queue, which its spec names; it is known by both, written as `etl/nightly`, as jobs are.

A new kind adds a file with the model of its `spec`, as `queue.py`, and a row in `KINDS`. `json_schema` makes the JSON
Schema of a kind from its model. `schemas/` has these schemas as files, for editors, and docs/kinds/ has a page of each;
`python -m tests.specs.kinds` writes both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.model import job_key
from ftjm.core.state.queues import QueueSpec
from ftjm.core.state.resources import ResourceKind
from ftjm.core.state.schedules import ScheduleSpec, schedule_key
from ftjm.core.state.windows import WindowSpec
from ftjm.specs import calendar, job_resource, queue, schedule, window
from ftjm.specs.envelopes import CalendarResource, QueueResource, ScheduleResource, WindowResource
from ftjm.specs.executors import SCHEMAS
from ftjm.specs.fields import shown
from ftjm.specs.job import JobRequest
from ftjm.specs.job_defaults import defaults_problems
from ftjm.specs.job_resource import JobResource
from ftjm.specs.metadata import API_VERSION
from ftjm.specs.problems import FieldProblem, close_name, problems_of

QUEUE = "Queue"
SCHEDULE = "Schedule"
JOB = "Job"
CALENDAR = ResourceKind.CALENDAR.value
WINDOW = ResourceKind.WINDOW.value
KINDS_TO_COME = ("Semaphore", "Workflow")
"""Kinds that a later build has."""
JOB_FIELDS = frozenset({"jobs", *(schema.field for schema in SCHEMAS)})
"""Fields by which a job is known, if it is given in place of a resource."""
NAMES_MAX = 200
"""Names in a mapping of a resource, but for labels. Most may be unknown, and each costs time to word."""

Spec = QueueSpec | ScheduleSpec | CalendarSpec | WindowSpec | JobRequest
"""What the declaration of a resource says, as the log has it; of a job, the job to submit."""


class Resource(NamedTuple):
    """A resource to apply."""

    kind: str
    name: str
    """What it is known by: the name of a queue; of a schedule and of a job, `queue/name`."""
    labels: dict[str, str]
    spec: Spec


class InvalidResourceError(Exception):
    """A resource that cannot be applied as it is written, with all of its faults."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class Kind(NamedTuple):
    """A kind of resources."""

    model: type[QueueResource | ScheduleResource | CalendarResource | WindowResource | JobResource]
    resource: Callable[[Any], Resource]
    """Makes the resource from the validated model. Raises InvalidResourceError."""
    problems: Callable[[Any], list[FieldProblem]]
    """The faults of the spec as the user wrote it, beyond what the model says. Paths are from the spec on."""
    written: Callable[[Any], dict[str, Any]]
    """The fields of a spec as users write them."""
    to_come: Iterable[str]
    """Fields of the spec that a later build has."""
    examples: tuple[Mapping[str, Any], ...]
    """Whole resources, for the schema and its page."""


def _queue(parsed: QueueResource) -> Resource:
    spec = queue.queue_spec(parsed.spec or queue.QueueFields.model_validate({}))
    return Resource(QUEUE, parsed.metadata.name, parsed.metadata.labels or {}, spec)


def _schedule(parsed: ScheduleResource) -> Resource:
    metadata, spec = parsed.metadata, schedule.schedule_spec(parsed.spec)
    key = schedule_key(parsed.spec.queue, metadata.name)
    if fault := schedule.never_fires(key, spec):
        raise InvalidResourceError([FieldProblem(("spec",), fault)])
    return Resource(SCHEDULE, key, metadata.labels or {}, spec)


def _calendar(parsed: CalendarResource) -> Resource:
    spec = calendar.calendar_spec(parsed.spec or calendar.CalendarFields.model_validate({}))
    return Resource(CALENDAR, parsed.metadata.name, parsed.metadata.labels or {}, spec)


def _window(parsed: WindowResource) -> Resource:
    return Resource(WINDOW, parsed.metadata.name, parsed.metadata.labels or {}, window.window_spec(parsed.spec))


def _job(parsed: JobResource) -> Resource:
    job = job_resource.job_request(parsed)
    return Resource(JOB, job_key(job.queue, job.job_id), job.spec.labels, job)


def _made(kind: str, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


KINDS: Mapping[str, Kind] = {
    QUEUE: Kind(
        QueueResource,
        _queue,
        defaults_problems,
        queue.written,
        queue.TO_COME,
        (
            _made(
                QUEUE,
                {"name": "thumbnails", "labels": {"team": "web"}},
                {
                    "concurrency": 20,
                    "rate": {"limit": 100, "per": "1m", "burst": 10},
                    "ageing": "5m",
                    "defaults": {"max_attempts": 3, "timeout": "10m"},
                },
            ),
            _made(QUEUE, {"name": "nightly"}, {"concurrency": 1, "ageing": "off"}),
        ),
    ),
    SCHEDULE: Kind(
        ScheduleResource,
        _schedule,
        schedule.template_problems,
        schedule.written,
        schedule.TO_COME,
        (
            _made(
                SCHEDULE,
                {"name": "nightly", "labels": {"team": "data"}},
                {
                    "queue": "etl",
                    "cron": "30 2 * * *",
                    "time_zone": "Europe/Berlin",
                    "catch_up": "latest",
                    "overlap": "forbid",
                    "job": {"command": ["backup", "--all"], "timeout": "2h", "max_attempts": 3},
                },
            ),
            _made(
                SCHEDULE,
                {"name": "digest"},
                {
                    "queue": "mail",
                    "interval": "15m",
                    "jitter": "1m",
                    "job": {"task": "mail.digest", "kwargs": {"size": 20}},
                },
            ),
        ),
    ),
    CALENDAR: Kind(
        CalendarResource,
        _calendar,
        lambda _: [],
        calendar.written,
        calendar.TO_COME,
        (
            _made(
                CALENDAR,
                {"name": "workdays", "labels": {"team": "data"}},
                {
                    "time_zone": "Europe/Berlin",
                    "days": ["mon", "tue", "wed", "thu", "fri"],
                    "excluded": ["2026-12-24", "2026-12-25", "2026-12-31"],
                },
            ),
        ),
    ),
    WINDOW: Kind(
        WindowResource,
        _window,
        lambda _: [],
        window.written,
        window.TO_COME,
        (
            _made(
                WINDOW,
                {"name": "nights"},
                {
                    "effect": "allow",
                    "cron": "0 22 * * *",
                    "duration": "8h",
                    "time_zone": "Europe/Berlin",
                    "queues": ["etl", "batch-*"],
                },
            ),
            _made(
                WINDOW,
                {"name": "month-end"},
                {"effect": "deny", "cron": "0 0 L * *", "duration": "1d", "queues": ["*"], "workers": ["big-*"]},
            ),
        ),
    ),
    JOB: Kind(
        JobResource,
        _job,
        job_resource.job_problems,
        job_resource.written,
        (),
        (
            _made(
                JOB,
                {"name": "load-2026", "labels": {"team": "data"}},
                {"queue": "etl", "command": ["./load", "2026"], "timeout": "2h", "max_attempts": 3},
            ),
            _made(
                JOB, {"name": "resize-a"}, {"task": "thumbnails.resize", "args": ["a.png"], "kwargs": {"width": 200}}
            ),
        ),
    ),
}


def parse_resource(fields: Any) -> Resource:
    """Validate one resource.

    Args:
        fields: The fields as the user wrote them, by name. One that is None counts as not given.

    Raises:
        InvalidResourceError: Some fields are wrong. It names all of them.
    """
    if not isinstance(fields, Mapping):
        raise InvalidResourceError([FieldProblem((), f"expected a resource's fields, but found {shown(fields)}")])
    _check_sizes(fields)
    kind = _kind(fields)
    problems = _in_words(fields, kind)
    problems += [FieldProblem(("spec", *one.path), one.text) for one in kind.problems(fields.get("spec"))]
    told = {problem.path for problem in problems}
    try:
        parsed = kind.model.model_validate(_without(fields, told))
    except ValidationError as error:
        problems = [one for one in problems_of(error, kind.model) if one.path not in told] + problems
    if problems:
        raise InvalidResourceError(problems)
    return kind.resource(parsed)


def document(kind: str, name: str, labels: Mapping[str, str], spec: Mapping[str, Any]) -> dict[str, Any]:
    """A resource as users write it: `parse_resource` reads it.

    Args:
        kind: The resource's kind.
        name: What it is known by, as in `Resource`.
        labels: Its labels.
        spec: The fields of its spec as users write them, without a schedule's queue, which is in the name.
    """
    queue, slash, own = name.partition("/")
    metadata: dict[str, Any] = {"name": own if slash else name}
    where = {"queue": queue} if slash else {}
    return _made(kind, metadata | ({"labels": dict(labels)} if labels else {}), where | dict(spec))


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind's resources, made from the model that validates them."""
    made = KINDS[kind].model.model_json_schema(mode="validation")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{kind}, {API_VERSION}"}
    schema: dict[str, Any] = head | _plain(made) | {"examples": list(KINDS[kind].examples)}
    return schema


def _plain(schema: Any) -> Any:
    """The schema without what only pydantic's models need: `null` for what is left out, and titles of fields."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(value) for name, value in schema.items() if (name, value) != ("default", None)}
    if isinstance(found.get("title"), str):
        del found["title"]
    if {"type": "null"} in found.get("anyOf", []):
        options = [option for option in found.pop("anyOf") if option != {"type": "null"}]
        found = options[0] | found if len(options) == 1 else found | {"anyOf": options}
    return found


def _check_sizes(fields: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
    """Raise InvalidResourceError if a mapping has far more names than there are fields."""
    if path != ("metadata", "labels") and len(fields) > NAMES_MAX:
        raise InvalidResourceError([FieldProblem(path, f"expected a resource's fields, but found {len(fields)} names")])
    for name, value in fields.items():
        if isinstance(value, Mapping) and len(path) < 2:
            _check_sizes(value, (*path, name))


def _kind(fields: Mapping[str, Any]) -> Kind:
    """The kind that a resource names. Raises InvalidResourceError if there is no such kind."""
    named = fields.get("kind")
    if isinstance(named, str) and named in KINDS:
        return KINDS[named]
    *others, last = KINDS
    known = f"{', '.join(others)} or {last}"
    if named in KINDS_TO_COME:
        text = f"{named} is not supported yet; this build takes {', '.join(KINDS)}"
    elif named is None and not JOB_FIELDS.isdisjoint(fields):
        found = "a resource with apiVersion and kind, but found what looks like a job"
        raise InvalidResourceError([FieldProblem((), f"expected {found}; submit it: ftjm submit -f FILE")])
    elif named is None:
        text = f"expected {known}, but it is missing"
    else:
        close = close_name(named, [*KINDS, *KINDS_TO_COME]) if isinstance(named, str) else ""
        text = f"expected {known}, but found {shown(named)}{f'; did you mean {close}?' if close else ''}"
    raise InvalidResourceError([FieldProblem(("kind",), text)])


def _in_words(fields: Mapping[str, Any], kind: Kind) -> list[FieldProblem]:
    """Faults that are no mistakes of spelling: fields that a later build has, and the status that ftjm shows."""
    spec = fields.get("spec")
    found = []
    if "status" in fields:
        text = "expected what you declare, but a status is what ftjm tells; leave it out"
        found.append(FieldProblem(("status",), text))
    if isinstance(spec, Mapping):
        found += [
            FieldProblem(("spec", name), f"{name} is not supported yet; leave it out")
            for name in kind.to_come
            if name in spec
        ]
    return found


def _without(fields: Mapping[str, Any], paths: set[tuple[str | int, ...]]) -> dict[str, Any]:
    """The fields without those at these paths, of one or two names, since more need not be told of them."""
    spec = fields.get("spec")
    left = {name: value for name, value in fields.items() if (name,) not in paths}
    if isinstance(spec, Mapping) and "spec" in left:
        left["spec"] = {name: value for name, value in spec.items() if ("spec", name) not in paths}
    return left

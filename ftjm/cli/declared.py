"""Reads the declared resources and the existing jobs, from the API or the log. `plan` and `apply` compare files with
them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ftjm.cli import api_client
from ftjm.runtime.errors import FtjmError

if TYPE_CHECKING:
    from ftjm.ops.apply import Declared
    from ftjm.runtime.config import Settings
    from ftjm.specs.job_resource import SubmittedContent

KIND_PATHS: Mapping[str, tuple[str, api_client.Params]] = {
    "Queue": ("/queues", [("declared", "true")]),
    "Schedule": ("/schedules", []),
    "Calendar": ("/calendars", []),
    "Window": ("/windows", []),
}
"""Where an API lists what is declared of each kind, with the parameters of the query."""


class _Declaration(msgspec.Struct):
    revision: int
    spec: dict[str, Any]
    labels: dict[str, str] = {}


class _Listed(msgspec.Struct):
    declaration: _Declaration
    queue: str = ""
    schedule: str = ""
    """`queue/name`; empty if it is no schedule."""
    calendar: str = ""
    window: str = ""


class _ReadJob(msgspec.Struct):
    """The fields of a job of the API that these verbs read."""

    content: str


class _ResourcePage(msgspec.Struct):
    """The fields of a page of the API that these verbs read."""

    freshness: api_client.PageFreshness
    queues: list[_Listed] = []
    schedules: list[_Listed] = []
    calendars: list[_Listed] = []
    windows: list[_Listed] = []
    next: str = ""


def declared_by_api(settings: Settings, kind: str) -> Iterator[Declared]:
    """What the API says is declared of a kind. Raises FtjmError where this version of ftjm does not know it."""
    from ftjm.ops.apply import Declared
    from ftjm.specs.resources import InvalidResourceError, document, parse_resource

    path, filters = KIND_PATHS[kind]
    for page in api_client.pages(settings, path, filters, _ResourcePage):
        for one in page.queues + page.schedules + page.calendars + page.windows:
            name, found = one.schedule or one.queue or one.calendar or one.window, one.declaration
            try:
                spec = parse_resource(document(kind, name, found.labels, found.spec)).spec
            except InvalidResourceError as error:
                what = f"a declaration of {kind} {name} that this version of ftjm knows"
                raise FtjmError(what, str(error), "use the version of the API") from None
            yield Declared(kind, name, found.revision, found.labels, spec)


def declared_by_log(settings: Settings, queue: str) -> Iterator[Declared]:
    """What the log declares: of the partition of this queue, or of all if it is empty."""
    from ftjm.core.state.resources import ResourceKind
    from ftjm.ops.apply import Declared
    from ftjm.readmodel import one_shot
    from ftjm.specs.resources import QUEUE, SCHEDULE

    with one_shot.folded_log(settings, queue) as (reader, _):
        behind = ""
        while found := reader.queues(behind, api_client.PAGE, declared=True):
            for name, rows in found:
                if (row := rows.declaration) is not None:
                    yield Declared(QUEUE, name, row.revision, row.labels, row.spec)
            behind = found[-1][0]
        behind, more = "", True
        while more:
            schedules, more = reader.schedules(behind, api_client.PAGE)
            for behind, schedule in schedules:
                yield Declared(SCHEDULE, behind, schedule.revision, schedule.labels, schedule.spec)
        for kind in (ResourceKind.CALENDAR, ResourceKind.WINDOW):
            for name, known in reader.resources(kind).items():
                (spec,) = known.spec.calendar or known.spec.window
                yield Declared(kind.value, name, known.revision, known.labels, spec)


def jobs_by_api(settings: Settings, names: Iterable[str]) -> dict[str, SubmittedContent]:
    """What those of the jobs that the API knows were submitted with."""
    from ftjm.specs.job_resource import SubmittedContent

    found = {}
    for name in names:
        if (job := api_client.get(settings, f"/jobs/{name}", [], _ReadJob)) is not None:
            version, _, content = job["content"].partition(":")
            found[name] = SubmittedContent(int(version), bytes.fromhex(content))
    return found


def jobs_by_log(settings: Settings, names: Iterable[str]) -> dict[str, SubmittedContent]:
    """What those of the jobs that exist by the log were submitted with."""
    from ftjm.history.jobs import find_jobs
    from ftjm.specs.job_resource import SubmittedContent

    views = find_jobs(settings, [(queue, job_id) for queue, _, job_id in (name.partition("/") for name in names)])
    return {
        f"{queue}/{job_id}": SubmittedContent(found.job.content_version, found.job.content)
        for (queue, job_id), found in views.items()
        if found is not None and not found.forgotten_at
    }

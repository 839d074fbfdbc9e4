"""Paths of schedules: list and get them, declare, change and delete them, pause, resume and trigger them.

A declaration is the same document as in a file of `ftjm apply -f`, and is checked by the same rules. Whether it is
changed is decided by the partition that owns the schedule's queue.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from ftjm.api.http.models import ScheduleAccepted, ScheduleAnswer, SchedulePage, freshness_document
from ftjm.api.http.problems import ProblemError, unknown_schedule
from ftjm.api.http.query_models import DeclarationQuery, PauseBody, ReadQuery, SchedulesQuery
from ftjm.api.http.routing import CheckedRequest, Operation, reply
from ftjm.api.routes.cluster import first_bytes
from ftjm.api.routes.commands import IDEMPOTENCY, REFUSED, decide, expected_revision, named_request
from ftjm.api.routes.declarations import APPLY_TEXT, declared
from ftjm.core.names import NAME_TEXT, is_name
from ftjm.core.records import commands as c
from ftjm.core.schedule_jobs import request_id
from ftjm.core.state.schedules import ScheduleSpec, schedule_key
from ftjm.readmodel.documents.schedule import schedule_document, schedule_fields
from ftjm.specs.envelopes import ScheduleResource
from ftjm.specs.resources import SCHEDULE


async def schedules(request: CheckedRequest) -> web.StreamResponse:
    """A page of schedules, by queue and name."""
    service, query = request.service, request.query
    found, more = await service.read(
        lambda reader: reader.schedules(query.cursor or "", query.limit, query.queue or "")
    )
    documents = first_bytes(schedule_document(key, row) for key, row in found)
    following = documents[-1].schedule if more or len(found) > len(documents) else None
    return reply(SchedulePage(schedules=documents, next=following, freshness=freshness_document(service.status)))


async def schedule(request: CheckedRequest) -> web.StreamResponse:
    """One schedule. Raises ProblemError if there is none (404)."""
    service = request.service
    queue, name = request.http.match_info["queue"], request.http.match_info["name"]
    key = schedule_key(queue, name)
    row = await service.read(lambda reader: reader.schedule(key)) if is_name(queue) and is_name(name) else None
    if row is None:
        raise unknown_schedule(key[:300])
    return reply(ScheduleAnswer(**schedule_fields(key, row), freshness=freshness_document(service.status)))


async def _send(request: CheckedRequest, command: c.ScheduleCommand, job: str | None = None) -> web.StreamResponse:
    """Send a command, and answer with the decision. Raises ProblemError if it is refused.

    Args:
        job: the job that the command makes.
    """
    pending = await decide(request, command)
    document = ScheduleAccepted(
        schedule=schedule_key(command.queue, command.name),
        queue=command.queue,
        name=command.name,
        job=job,
        decided=pending.ticket.reply is not None,
        token=pending.token,
    )
    return reply(document, 202, {"Ftjm-Token": pending.token})


def schedule_names(request: CheckedRequest) -> dict[str, str]:
    """Queue and name of the path's schedule. Raises ProblemError for a text that is no name."""
    found = {part: request.http.match_info[part] for part in ("queue", "name")}
    for part, text in found.items():
        if not is_name(text):
            detail = f"expected as {part}: {NAME_TEXT}, but found {text[:200]!r}"
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return found


async def pause(request: CheckedRequest) -> web.StreamResponse:
    """Pause a schedule."""
    names = schedule_names(request)
    return await _send(request, c.PauseSchedule(queue=names["queue"], name=names["name"], reason=request.body.reason))


async def resume(request: CheckedRequest) -> web.StreamResponse:
    """Resume a schedule."""
    names = schedule_names(request)
    return await _send(request, c.ResumeSchedule(queue=names["queue"], name=names["name"]))


async def trigger(request: CheckedRequest) -> web.StreamResponse:
    """Make a job of a schedule now."""
    names, command_id = schedule_names(request), named_request(request.http)
    command = c.TriggerSchedule(queue=names["queue"], name=names["name"], command_id=command_id)
    return await _send(request, command, f"{names['queue']}/{request_id(names['name'], command_id)}")


async def apply(request: CheckedRequest) -> web.StreamResponse:
    """Declare a schedule, or change its declaration. Raises ProblemError if the body is no such resource (422)."""
    names = schedule_names(request)
    spec, labels = await declared(
        request,
        SCHEDULE,
        ScheduleSpec,
        {("spec", "queue"): names["queue"], ("metadata", "name"): names["name"]},
    )
    command = c.ApplySchedule(
        queue=names["queue"],
        name=names["name"],
        spec=spec,
        labels=labels,
        expected_revision=expected_revision(request),
    )
    return await _send(request, command)


async def delete(request: CheckedRequest) -> web.StreamResponse:
    """Delete a schedule."""
    names, revision = schedule_names(request), expected_revision(request)
    command = c.DeleteSchedule(queue=names["queue"], name=names["name"], expected_revision=revision)
    return await _send(request, command)


_SCHEDULE = "/schedules/{queue}/{name}"
_PAUSE_TEXT = (
    "What waits to fire is dropped, and what falls into the pause is not caught up. Its jobs go on. A declaration does "
    "not resume it."
)
_TRIGGER_TEXT = (
    "The job is `NAME.now.ID`, where the ID is made from the `Idempotency-Key`. It is made also while the schedule is "
    "paused. 409 with the code OVERLAP means that its last job has not ended, and that no two may overlap."
)

OPERATIONS = (
    Operation(
        "GET",
        "/schedules",
        "schedules",
        "List schedules: what they are declared to, and their next and last instants.",
        schedules,
        {200: SchedulePage},
        (400, 414, 503),
        SchedulesQuery,
        group="schedules",
    ),
    Operation(
        "GET",
        _SCHEDULE,
        "schedule",
        "Get a schedule.",
        schedule,
        {200: ScheduleAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        group="schedules",
    ),
    Operation(
        "PUT",
        _SCHEDULE,
        "apply_schedule",
        "Declare a schedule, or change its declaration.",
        apply,
        {202: ScheduleAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        body=ScheduleResource,
        body_required=True,
        written=True,
        group="schedules",
        description=APPLY_TEXT,
    ),
    Operation(
        "DELETE",
        _SCHEDULE,
        "delete_schedule",
        "Delete a schedule: it fires no more.",
        delete,
        {202: ScheduleAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        group="schedules",
        description="Its jobs stay. A schedule that is not there is accepted, too.",
    ),
    Operation(
        "POST",
        f"{_SCHEDULE}/pause",
        "pause_schedule",
        "Pause a schedule: it does not fire until it is resumed.",
        pause,
        {202: ScheduleAccepted},
        (*REFUSED, 414),
        body=PauseBody,
        group="schedules",
        description=_PAUSE_TEXT,
    ),
    Operation(
        "POST",
        f"{_SCHEDULE}/resume",
        "resume_schedule",
        "Resume a schedule that was paused: it goes on with the first instant from now on.",
        resume,
        {202: ScheduleAccepted},
        (*REFUSED, 414),
        group="schedules",
        description="A schedule that is not paused may be resumed.",
    ),
    Operation(
        "POST",
        f"{_SCHEDULE}/trigger",
        "trigger_schedule",
        "Make a job of a schedule now.",
        trigger,
        {202: ScheduleAccepted},
        (*REFUSED, 414),
        headers=IDEMPOTENCY,
        group="schedules",
        description=_TRIGGER_TEXT,
    ),
)

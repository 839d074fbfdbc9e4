"""Paths of what every partition must know: calendars, windows, and the cordons of workers.

The partition of the key `cluster` decides; the other partitions adopt what it has decided. A read tells how many have.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from ftjm.api.http.models import (
    CalendarAnswer,
    CalendarPage,
    ResourceAccepted,
    WindowAnswer,
    WindowPage,
    freshness_document,
)
from ftjm.api.http.problems import ProblemError, unknown_resource
from ftjm.api.http.query_models import DeclarationQuery, PauseBody, ReadQuery, ResourcesQuery
from ftjm.api.http.routing import CheckedRequest, Handler, Operation, reply
from ftjm.api.routes.cluster import first_bytes
from ftjm.api.routes.commands import REFUSED, decide, expected_revision
from ftjm.api.routes.declarations import APPLY_TEXT, declared
from ftjm.core.names import NAME_TEXT, is_name
from ftjm.core.records import commands as c
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.core.state.windows import WindowSpec
from ftjm.readmodel.documents.resource import CalendarDocument, WindowDocument, calendar_fields, window_fields
from ftjm.specs.envelopes import CalendarResource, WindowResource


async def calendars(request: CheckedRequest) -> web.StreamResponse:
    """A page of calendars, by name."""
    service, query = request.service, request.query
    found, more = await service.read(
        lambda reader: reader.resource_page(ResourceKind.CALENDAR, query.cursor or "", query.limit)
    )
    documents = first_bytes(CalendarDocument(**calendar_fields(*one)) for one in found)
    following = documents[-1].calendar if more or len(found) > len(documents) else None
    return reply(CalendarPage(calendars=documents, next=following, freshness=freshness_document(service.status)))


async def windows(request: CheckedRequest) -> web.StreamResponse:
    """A page of windows, by name."""
    service, query = request.service, request.query
    found, more = await service.read(
        lambda reader: reader.resource_page(ResourceKind.WINDOW, query.cursor or "", query.limit)
    )
    documents = first_bytes(WindowDocument(**window_fields(*one)) for one in found)
    following = documents[-1].window if more or len(found) > len(documents) else None
    return reply(WindowPage(windows=documents, next=following, freshness=freshness_document(service.status)))


def _one(kind: ResourceKind) -> Handler:
    async def handle(request: CheckedRequest) -> web.StreamResponse:
        """One resource. Raises ProblemError if there is none (404)."""
        service, name = request.service, request.http.match_info["name"]
        found = await service.read(lambda reader: reader.resource(kind, name)) if is_name(name) else None
        if found is None:
            raise unknown_resource(kind.lower(), name[:300])
        freshness = freshness_document(service.status)
        if kind is ResourceKind.CALENDAR:
            return reply(CalendarAnswer(**calendar_fields(name, *found), freshness=freshness))
        return reply(WindowAnswer(**window_fields(name, *found), freshness=freshness))

    return handle


def _name(request: CheckedRequest) -> str:
    """The name in the path. Raises ProblemError for a text that is no name."""
    name = request.http.match_info["name"]
    if not is_name(name):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"expected {NAME_TEXT}, but found {name[:200]!r}")
    return name


async def _send(request: CheckedRequest, command: c.ApplyResource | c.DeleteResource) -> web.StreamResponse:
    """Send a command, and answer with the decision. Raises ProblemError if it is refused."""
    pending = await decide(request, command)
    document = ResourceAccepted(
        kind=command.kind.value,
        name=command.name,
        decided=pending.ticket.reply is not None,
        token=pending.token,
    )
    return reply(document, 202, {"Ftjm-Token": pending.token})


async def apply_calendar(request: CheckedRequest) -> web.StreamResponse:
    """Declare a calendar, or change its declaration. Raises ProblemError if the body is no such resource (422)."""
    name = _name(request)
    spec, labels = await declared(request, ResourceKind.CALENDAR.value, CalendarSpec, {("metadata", "name"): name})
    return await _send(request, _apply(request, ResourceSpec(calendar=[spec]), name, labels))


async def apply_window(request: CheckedRequest) -> web.StreamResponse:
    """Declare a window, or change its declaration. Raises ProblemError if the body is no such resource (422)."""
    name = _name(request)
    spec, labels = await declared(request, ResourceKind.WINDOW.value, WindowSpec, {("metadata", "name"): name})
    return await _send(request, _apply(request, ResourceSpec(window=[spec]), name, labels))


def _apply(request: CheckedRequest, spec: ResourceSpec, name: str, labels: dict[str, str]) -> c.ApplyResource:
    (kind,) = spec.kinds
    revision = expected_revision(request)
    return c.ApplyResource(kind=kind, name=name, spec=spec, labels=labels, expected_revision=revision)


def _delete(kind: ResourceKind) -> Handler:
    async def handle(request: CheckedRequest) -> web.StreamResponse:
        """Delete a resource."""
        revision = expected_revision(request)
        return await _send(request, c.DeleteResource(kind=kind, name=_name(request), expected_revision=revision))

    return handle


async def cordon(request: CheckedRequest) -> web.StreamResponse:
    """Cordon a worker."""
    spec = ResourceSpec(cordon=[CordonSpec(request.body.reason)])
    return await _send(request, c.ApplyResource(kind=ResourceKind.CORDON, name=_name(request), spec=spec))


async def uncordon(request: CheckedRequest) -> web.StreamResponse:
    """Uncordon a worker."""
    return await _send(request, c.DeleteResource(kind=ResourceKind.CORDON, name=_name(request)))


_ADOPTED_TEXT = " Every partition adopts it: a read tells by `adopted` and `partitions` how many have."
_CORDON_TEXT = (
    "It holds by the worker's name, also after the worker was started again. What it runs goes on. The worker need not "
    "be there."
)

OPERATIONS = (
    Operation(
        "GET",
        "/calendars",
        "calendars",
        "List calendars.",
        calendars,
        {200: CalendarPage},
        (400, 414, 503),
        ResourcesQuery,
        group="calendars",
    ),
    Operation(
        "GET",
        "/calendars/{name}",
        "calendar",
        "Get a calendar.",
        _one(ResourceKind.CALENDAR),
        {200: CalendarAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        group="calendars",
    ),
    Operation(
        "PUT",
        "/calendars/{name}",
        "apply_calendar",
        "Declare a calendar, or change its declaration.",
        apply_calendar,
        {202: ResourceAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        body=CalendarResource,
        body_required=True,
        written=True,
        group="calendars",
        description=APPLY_TEXT + _ADOPTED_TEXT,
    ),
    Operation(
        "DELETE",
        "/calendars/{name}",
        "delete_calendar",
        "Delete a calendar.",
        _delete(ResourceKind.CALENDAR),
        {202: ResourceAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        group="calendars",
        description="One that a window uses is refused with IN_USE. A calendar that is not there is accepted.",
    ),
    Operation(
        "GET",
        "/windows",
        "windows",
        "List windows: what they are declared to, and whether they are open.",
        windows,
        {200: WindowPage},
        (400, 414, 503),
        ResourcesQuery,
        group="windows",
    ),
    Operation(
        "GET",
        "/windows/{name}",
        "window",
        "Get a window.",
        _one(ResourceKind.WINDOW),
        {200: WindowAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        group="windows",
    ),
    Operation(
        "PUT",
        "/windows/{name}",
        "apply_window",
        "Declare a window, or change its declaration.",
        apply_window,
        {202: ResourceAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        body=WindowResource,
        body_required=True,
        written=True,
        group="windows",
        description=APPLY_TEXT + _ADOPTED_TEXT,
    ),
    Operation(
        "DELETE",
        "/windows/{name}",
        "delete_window",
        "Delete a window: it closes nothing any more.",
        _delete(ResourceKind.WINDOW),
        {202: ResourceAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        group="windows",
        description="A window that is not there is accepted, too.",
    ),
    Operation(
        "POST",
        "/workers/{name}/cordon",
        "cordon_worker",
        "Cordon a worker: it is given no new jobs, and stays.",
        cordon,
        {202: ResourceAccepted},
        (*REFUSED, 414),
        body=PauseBody,
        group="cluster",
        description=_CORDON_TEXT,
    ),
    Operation(
        "POST",
        "/workers/{name}/uncordon",
        "uncordon_worker",
        "Uncordon a worker: it takes jobs again.",
        uncordon,
        {202: ResourceAccepted},
        (*REFUSED, 414),
        group="cluster",
        description="A worker that is not cordoned may be uncordoned.",
    ),
)

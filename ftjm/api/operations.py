"""What a path takes and gives: checked before its handler is called, and told of in the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, get_origin

import msgspec
from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, ValidationError

from ftjm.api import models as m
from ftjm.api import requests
from ftjm.api.problems import ProblemError
from ftjm.api.service import Service

SERVICE = web.AppKey("service", Service)
BODY_MAX = 1024 * 1024
BODY_SECONDS = 20.0
QUERY_MAX = 4_096
KEY_MAX = 255


class Asked(NamedTuple):
    """A request that was checked."""

    service: Service
    request: web.Request
    query: Any
    body: Any


Handler = Callable[[Asked], Awaitable[web.StreamResponse]]


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answers: dict[int, type[BaseModel] | None]
    """By status; None for what is no JSON document."""
    problems: tuple[int, ...] = ()
    query: type[requests.Query] = requests.Query
    body: type[BaseModel] | None = None
    body_required: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    """Request headers that mean something here, and what."""
    group: str = "jobs"


def reply(document: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A document as the answer; how old it is, where it says so, is in headers as well."""
    response = web.Response(
        status=status, body=document.model_dump_json().encode(), content_type="application/json", headers=headers
    )
    fresh = getattr(document, "freshness", None)
    if isinstance(fresh, m.Freshness):
        response.headers["Ftjm-As-Of"] = fresh.as_of or "never"
        response.headers["Ftjm-Stale"] = "true" if fresh.stale else "false"
        if fresh.age_seconds is not None:
            response.headers["Age"] = str(int(fresh.age_seconds))
    return response


def checked(operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for aiohttp: it sees only what the models let through."""

    async def handle(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        query = _query(operation.query, request)
        body = await _body(operation, request)
        after = getattr(query, "after", None)
        if after:
            await service.reached(after)
        return await operation.handler(Asked(service, request, query, body))

    return handle


def _query(model: type[requests.Query], request: web.Request) -> requests.Query:
    if len(request.rel_url.raw_query_string) > QUERY_MAX:
        raise ProblemError(HTTPStatus.REQUEST_URI_TOO_LONG, f"expected a query of at most {QUERY_MAX} characters")
    return parsed_query(model, request.query)


def parsed_query(model: type[requests.Query], given: MultiMapping[str]) -> requests.Query:
    """Parameters as the model has them. Raises ProblemError."""
    values: dict[str, Any] = {}
    for name in dict.fromkeys(given.keys()):
        all_of_it = given.getall(name)
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is list:
            values[name] = all_of_it
        elif len(all_of_it) > 1:
            fault = m.Fault(path=[name], text=f"expected one value, but found {len(all_of_it)}")
            raise ProblemError(HTTPStatus.BAD_REQUEST, "a parameter is given twice", errors=[fault])
        else:
            values[name] = all_of_it[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the query is not as expected", errors=faults(error)) from None


def faults(error: ValidationError) -> list[m.Fault]:
    """Each field that is wrong, in words."""
    found = []
    for one in error.errors(include_url=False, include_context=False)[:100]:
        text = str(one["msg"]).removeprefix("Value error, ")
        found.append(m.Fault(path=[_shown(part) for part in one["loc"]], text=text[:500]))
    return found


def _shown(part: str | int) -> str | int:
    return part if isinstance(part, int) else part[:200].encode(errors="replace").decode()


async def _body(operation: Operation, request: web.Request) -> Any:
    if operation.body is None:
        return None
    try:
        raw = await asyncio.wait_for(request.read(), BODY_SECONDS)  # its size is bounded by client_max_size
    except TimeoutError:
        detail = f"expected the body within {BODY_SECONDS:g} s"
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None
    if not raw and not operation.body_required:
        return operation.body()
    if request.content_type != "application/json":
        detail = f"expected a body of application/json, but found {request.content_type[:100]}"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept": "application/json"})
    try:
        given = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = f"expected the body to be JSON, but {' '.join(str(error).split())[:200]}"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail) from None
    if operation.name == "submit":
        return given  # checked field by field, as files of jobs are, by `inputs.parse_job`
    try:
        return operation.body.model_validate(given)
    except ValidationError as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "the body is not as expected", errors=faults(error)
        ) from None

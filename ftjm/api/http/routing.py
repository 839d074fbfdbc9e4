"""Operations: what each path takes and answers with.

An `Operation` declares one method of one path. `checked` wraps its handler, so that the handler sees only requests
that its models let through; `openapi.py` describes the same declaration to clients. To add a path, write a handler in
a file of `routes/`, and add an `Operation` to that file's `OPERATIONS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple, get_origin

import msgspec
from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, ValidationError

from ftjm.api.http.models import Fault, Freshness
from ftjm.api.http.problems import ProblemError
from ftjm.api.http.query_models import Query
from ftjm.api.http.service import Service
from ftjm.core import json_values
from ftjm.readmodel.documents.fields import Document
from ftjm.specs.json_text import decode_item
from ftjm.specs.written import UnreadableError

SERVICE = web.AppKey("service", Service)
BODY_BYTES_MAX = 1024 * 1024
BODY_SECONDS_MAX = 20.0
QUERY_LENGTH_MAX = 4_096
KEY_LENGTH_MAX = 255
"""Characters of a header that an operation reads."""
FAULTS_MAX = 100
FAULT_TEXT_MAX = 500


class CheckedRequest(NamedTuple):
    """A request whose query and body the operation's models have let through."""

    service: Service
    http: web.Request
    query: Any
    """An instance of the operation's `query` model."""
    body: Any
    """An instance of the operation's `body` model; of an operation whose body is `written`, the plain JSON value."""
    body_bytes: int = 0
    """Size of the body as it was sent."""


Handler = Callable[[CheckedRequest], Awaitable[web.StreamResponse]]


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    name: str
    """The operation's id in the OpenAPI document."""
    summary: str
    handler: Handler
    answers: dict[int, type[Document] | None]
    """The document of each status; None for a stream."""
    problems: tuple[int, ...] = ()
    """Statuses of the problem documents that the operation may answer with."""
    query: type[Query] = Query
    body: type[BaseModel] | None = None
    body_required: bool = False
    written: bool = False
    """Whether users write the body in files, too: it is read by the rules of files, and its handler checks it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Request headers that the operation reads, each with its description."""
    group: str = "jobs"
    description: str = ""


def reply(document: Document, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with a document. If it holds its age, headers of the response hold it as well."""
    response = web.Response(
        status=status, body=msgspec.json.encode(document), content_type="application/json", headers=headers
    )
    freshness = getattr(document, "freshness", None)
    if isinstance(freshness, Freshness):
        response.headers["Ftjm-As-Of"] = freshness.as_of or "never"
        response.headers["Ftjm-Stale"] = "true" if freshness.stale else "false"
        if freshness.age_seconds is not None:
            response.headers["Age"] = str(int(freshness.age_seconds))
    return response


def checked(operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The operation as a handler of aiohttp: it checks each request, and waits for what the request asks to see."""

    async def handle(http: web.Request) -> web.StreamResponse:
        service = http.app[SERVICE]
        query = _query(operation.query, http)
        body, size = await _body(operation, http)
        after = getattr(query, "after", None)
        if after:
            await service.wait_until_applied(after)
        return await operation.handler(CheckedRequest(service, http, query, body, size))

    return handle


def _query(model: type[Query], http: web.Request) -> Query:
    length = len(http.rel_url.raw_query_string)
    if length > QUERY_LENGTH_MAX:
        detail = f"expected a query of at most {QUERY_LENGTH_MAX} characters, but found {length}; make it shorter"
        raise ProblemError(HTTPStatus.REQUEST_URI_TOO_LONG, detail)
    return parse_query(model, http.query)


def parse_query(model: type[Query], parameters: MultiMapping[str]) -> Query:
    """Validate the parameters of a query.

    Raises:
        ProblemError: a parameter is unknown, wrong, or given twice without being a list.
    """
    values: dict[str, Any] = {}
    for name in dict.fromkeys(parameters.keys()):
        given = parameters.getall(name)
        field = model.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is list:
            values[name] = given
        elif len(given) > 1:
            fault = Fault(path=[name], text=f"expected one value, but found {len(given)}")
            raise ProblemError(HTTPStatus.BAD_REQUEST, "a parameter is given twice; give it once", errors=[fault])
        else:
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        detail = "the query is not as expected; see errors, and /api/v1/openapi.json"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail, errors=_faults(error)) from None


def _faults(error: ValidationError) -> list[Fault]:
    found = []
    for one in error.errors(include_url=False, include_context=False)[:FAULTS_MAX]:
        text = str(one["msg"]).removeprefix("Value error, ")
        found.append(Fault(path=[_path_part(part) for part in one["loc"]], text=text[:FAULT_TEXT_MAX]))
    return found


def _path_part(part: str | int) -> str | int:
    return part if isinstance(part, int) else part[:200].encode(errors="replace").decode()


async def _body(operation: Operation, http: web.Request) -> tuple[Any, int]:
    """The body, checked, and its size."""
    if operation.body is None:
        return None, 0
    if http.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        detail = "expected a body as it is, but found a Content-Encoding; send it uncompressed"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"})
    try:
        raw = await asyncio.wait_for(http.read(), BODY_SECONDS_MAX)  # client_max_size of the application bounds it
    except TimeoutError:
        detail = f"expected the body within {BODY_SECONDS_MAX:g} s; send the request again"
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None
    if not raw and not operation.body_required:
        return operation.body(), 0
    if http.content_type != "application/json":
        detail = f"expected a body of application/json, but found {http.content_type[:100]}; set Content-Type"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept": "application/json"})
    read = decode_item if operation.written else json_values.loads
    try:
        value = await http.app[SERVICE].check(len(raw), lambda: read(raw))
    except UnreadableError as error:
        fault = Fault(path=[_path_part(part) for part in error.path], text=error.text[:FAULT_TEXT_MAX])
        status = HTTPStatus.UNPROCESSABLE_ENTITY if error.path else HTTPStatus.BAD_REQUEST
        raise ProblemError(status, error.text[:FAULT_TEXT_MAX], errors=[fault]) from None
    except ValueError as error:
        detail = f"expected the body to be JSON, but {' '.join(str(error).split())[:200]}"
        raise ProblemError(HTTPStatus.BAD_REQUEST, detail) from None
    if operation.written:
        return value, len(raw)
    try:
        return operation.body.model_validate(value), len(raw)
    except ValidationError as error:
        detail = "the body is not as expected; see errors, and /api/v1/openapi.json"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=_faults(error)) from None

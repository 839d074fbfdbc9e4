"""Problem documents (RFC 9457): the form of every error that the API answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import web

from ftjm.api.http.models import Fault, ProblemDocument

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2


class ProblemError(Exception):
    """Raised by a handler; the client gets a problem document.

    Args:
        detail: what was expected, what was found, what to do.
        code: the kind of problem, for programs.
        errors: the fields of the request that are wrong.
        job: the job that the request was about.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        code: str | None = None,
        errors: Sequence[Fault] = (),
        job: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
        self.errors = list(errors) or None
        self.job = job
        self.headers = headers or {}


def unavailable(
    detail: str, *, code: str = "LOG_AWAY", job: str | None = None, retry_after_seconds: int = RETRY_AFTER_SECONDS
) -> ProblemError:
    """A problem that passes: 503, with the seconds after which the client may send the same request again."""
    headers = {"Retry-After": str(retry_after_seconds)}
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, code=code, job=job, headers=headers)


def unknown_job(name: str) -> ProblemError:
    """404 for a job that the projection does not hold."""
    detail = (
        f"expected a job {name}, but found none: it was never submitted, is not decided yet, or was dropped after its "
        f"retention; check the name, or give the token of the submission as ?after="
    )
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code="UNKNOWN_JOB")


def unknown_queue(name: str) -> ProblemError:
    """404 for a queue of which nothing is known."""
    detail = (
        f"expected a queue {name}, but found no job in it, no worker that serves it, no pause and no declaration; "
        f"check the name, or give the token of a command about it as ?after="
    )
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code="UNKNOWN_QUEUE")


def unknown_bulk(name: str) -> ProblemError:
    """404 for a bulk request that the projection does not hold."""
    detail = (
        f"expected a bulk request {name}, but found none: it was never accepted, is not decided yet, or is over for a "
        f"day; check the name, or give the token of the request as ?after="
    )
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code="UNKNOWN_BULK")


def unknown_resource(kind: str, name: str) -> ProblemError:
    """404 for a calendar or a window that is not declared."""
    detail = (
        f"expected a {kind} {name}, but there is none; check the name, or give the token of the command that declared "
        f"it as ?after="
    )
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code=f"UNKNOWN_{kind.upper()}")


def unknown_schedule(key: str) -> ProblemError:
    """404 for a schedule that is not declared. `key` is `queue/name`."""
    detail = (
        f"expected a schedule {key}, but there is none; check the name, or give the token of the command that declared "
        f"it as ?after="
    )
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code="UNKNOWN_SCHEDULE")


def unknown_backfill(name: str) -> ProblemError:
    """404 for a backfill that the projection does not hold. `name` is `queue/schedule/id`."""
    detail = (
        f"expected a backfill {name}, but found none: it was never accepted, is not decided yet, or ended a day ago; "
        f"check the name, or give the token of the request as ?after="
    )
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code="UNKNOWN_BACKFILL")


def problem_response(problem: ProblemError) -> web.Response:
    """The response that carries a problem."""
    document = ProblemDocument(
        type="about:blank",
        title=problem.status.phrase,
        status=problem.status.value,
        detail=problem.detail,
        code=problem.code,
        errors=problem.errors,
        job=problem.job,
    )
    return web.Response(
        status=problem.status.value,
        body=msgspec.json.encode(document),
        content_type=CONTENT_TYPE,
        headers=dict(problem.headers),
    )


def library_problem(error: web.HTTPException) -> web.Response:
    """A refusal of the HTTP library (no such path, no such method, body too large) as a problem document."""
    status = HTTPStatus(error.status)
    details = {
        HTTPStatus.NOT_FOUND: "expected a path of this API, but there is no such path; see /api/v1/openapi.json",
        HTTPStatus.METHOD_NOT_ALLOWED: "expected another method for this path; see the header Allow",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "expected a body of at most 1 MiB; make the request smaller",
    }
    headers = {name: value for name, value in error.headers.items() if name in ("Allow", "Location")}
    return problem_response(ProblemError(status, details.get(status, error.reason or status.phrase), headers=headers))

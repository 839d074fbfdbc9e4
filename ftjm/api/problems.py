"""Problem documents (RFC 9457): every error that the API answers with is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from ftjm.api.models import Fault, Problem

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2


class ProblemError(Exception):
    """Raised by handlers; answered as a problem document."""

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


def away(
    detail: str, *, code: str = "LOG_AWAY", job: str | None = None, seconds: int = RETRY_AFTER_SECONDS
) -> ProblemError:
    """For what passes: the same request may be made again, after so many seconds."""
    headers = {"Retry-After": str(seconds)}
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, code=code, job=job, headers=headers)


def no_such_job(name: str) -> ProblemError:
    """For a job that the projection does not have."""
    detail = f"expected a job {name}, but there is none; it is unknown, not decided yet, or forgotten"
    return ProblemError(HTTPStatus.NOT_FOUND, detail, code="UNKNOWN_JOB")


def response(problem: ProblemError) -> web.Response:
    """The answer that tells of a problem."""
    document = Problem(
        title=problem.status.phrase,
        status=problem.status.value,
        detail=problem.detail,
        code=problem.code,
        errors=problem.errors,
        job=problem.job,
    )
    return web.Response(
        status=problem.status.value,
        body=document.model_dump_json(exclude_none=True).encode(),
        content_type=CONTENT_TYPE,
        headers=dict(problem.headers),
    )


def of_http(error: web.HTTPException) -> web.Response:
    """A refusal of the HTTP library (no such path, no such method, too large) in our words."""
    status = HTTPStatus(error.status)
    details = {
        HTTPStatus.NOT_FOUND: "expected a path of this API, but there is no such path; see /api/v1/openapi.json",
        HTTPStatus.METHOD_NOT_ALLOWED: "expected another method for this path; see the header Allow",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "expected a smaller body",
    }
    headers = {name: value for name, value in error.headers.items() if name in ("Allow", "Location")}
    return response(ProblemError(status, details.get(status, error.reason or status.phrase), headers=headers))

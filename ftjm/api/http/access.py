"""Decides which requests are accepted, and turns every error into a problem document.

With a token, every request must carry it. Without one the API listens on the loopback interface only, and two checks
keep web pages out that the user's browser has open: the request must name this host (a page may give its own name the
address 127.0.0.1), and a command must not come from a page of another origin.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from ftjm.api.http.problems import ProblemError, library_problem, problem_response
from ftjm.runtime import logs
from ftjm.runtime.network import is_loopback

log = logs.get(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""The handler that a middleware calls."""
HEALTH_PATHS = ("/livez", "/readyz")
"""Paths that need no token: a balancer asks them."""


def access_check(token: str, *, loopback: bool) -> Middleware:
    """Make the middleware that checks each request.

    Args:
        token: the token that requests must carry; empty if they need none.
        loopback: whether the API listens on the loopback interface only.
    """
    expected = token.encode()

    @web.middleware
    async def check(request: web.Request, handler: Next) -> web.StreamResponse:
        if request.path not in HEALTH_PATHS:
            if expected:
                _check_token(request, expected)
            elif loopback:
                _check_host(request)
            _check_origin(request)
        return await handler(request)

    return check


def _check_token(request: web.Request, expected: bytes) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(errors="replace"), expected):
        headers = {"WWW-Authenticate": 'Bearer realm="ftjm"'}
        detail = "expected a valid token; send it in the header Authorization: Bearer TOKEN"
        raise ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers=headers)


def _check_host(request: web.Request) -> None:
    host = urlsplit(f"//{request.headers.get('Host', '')}")
    try:
        name = host.hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        detail = (
            f"expected localhost, 127.0.0.1 or [::1] as the host, but found {name[:100]!r}; use one of these, or start "
            f"the API with a token"
        )
        raise ProblemError(HTTPStatus.MISDIRECTED_REQUEST, detail)


def _check_origin(request: web.Request) -> None:
    """Refuse commands from web pages of other origins; a browser names the page's origin in a header."""
    origin = request.headers.get("Origin")
    if origin is not None and request.method != "GET":
        try:
            same = urlsplit(origin).netloc == request.headers.get("Host", "")
        except ValueError:
            same = False
        if not same:
            detail = (
                f"expected a command from no web page of another origin, but found Origin {origin[:100]!r}; send it "
                f"from a program"
            )
            raise ProblemError(HTTPStatus.FORBIDDEN, detail)


@web.middleware
async def errors_as_problems(request: web.Request, handler: Next) -> web.StreamResponse:
    """Answer every error with a problem document."""
    try:
        return await handler(request)
    except ProblemError as problem:
        return problem_response(problem)
    except web.HTTPException as error:
        return library_problem(error)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("request_failed", method=request.method, path=request.path, todo="report it with this traceback")
        detail = (
            "expected to answer, but found a fault in the API itself, which its log describes; a command may have "
            "been sent or not: sending the same job again, under the same id, doubles nothing"
        )
        return problem_response(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail))

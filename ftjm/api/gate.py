"""Who may come in: the token, the names that this server answers to, and pages of other sites that may not use it."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from ftjm import logs
from ftjm.api import problems
from ftjm.api.problems import ProblemError

log = logs.get(__name__)

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
HEALTH = ("/livez", "/readyz")


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def gate(token: str, *, loopback: bool) -> Middleware:
    """Check each request; without a token (on loopback only), by the name that it asks for."""
    expected = token.encode()

    @web.middleware
    async def check(request: web.Request, handler: Next) -> web.StreamResponse:
        if request.path not in HEALTH:
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
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "expected a valid token: Authorization: Bearer …", headers=headers)


def _check_host(request: web.Request) -> None:
    """A web page may give its own name the address 127.0.0.1, and would then be let in by its visitor's browser."""
    host = urlsplit(f"//{request.headers.get('Host', '')}")
    try:
        name = host.hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        text = f"expected localhost, 127.0.0.1 or [::1] as the host, but found {name[:100]!r}"
        raise ProblemError(HTTPStatus.MISDIRECTED_REQUEST, text)


def _check_origin(request: web.Request) -> None:
    """A browser says which page a request comes from: only one that we served might command."""
    origin = request.headers.get("Origin")
    if origin is not None and request.method != "GET":
        try:
            same = urlsplit(origin).netloc == request.headers.get("Host", "")
        except ValueError:
            same = False
        if not same:
            raise ProblemError(HTTPStatus.FORBIDDEN, "expected no page of another origin to send commands")


@web.middleware
async def tell_problems(request: web.Request, handler: Next) -> web.StreamResponse:
    """Every error becomes a problem document."""
    try:
        return await handler(request)
    except ProblemError as problem:
        return problems.response(problem)
    except web.HTTPException as error:
        return problems.of_http(error)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("request_failed", method=request.method, path=request.path)
        detail = "a fault of ours; what was meant to be done may or may not have been"
        return problems.response(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail))

"""The door: so many connections at a time, each with a request in time, and a problem document for what is no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from ftjm import logs
from ftjm.api import problems
from ftjm.api.gate import Next
from ftjm.api.problems import ProblemError

log = logs.get(__name__)

CONNECTIONS_MAX = 500
"""With what Kafka's clients need, about half of the 1,024 files that a process may have open by default."""
FIRST_REQUEST_SECONDS = 20.0
"""Between connecting and the end of the first request's headers; later ones have the time of keeping alive."""


class Visitor(web.RequestHandler):
    """One connection."""

    asked = False
    """Whether a request has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._leave)

    def _leave(self) -> None:
        if not self.asked and self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp could not read: no application sees it."""
        if status != HTTPStatus.BAD_REQUEST or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        detail = " ".join((message or "").split())[:200]
        if isinstance(exc, LineTooLong):
            problem = ProblemError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected shorter lines: {detail}")
        else:
            problem = ProblemError(HTTPStatus.BAD_REQUEST, f"expected a request in HTTP/1.1: {detail}")
        response = problems.response(problem)
        response.force_close()
        return response


class _TurnedAway(asyncio.Protocol):
    """A connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        problem = problems.away(f"{CONNECTIONS_MAX} connections are served already", code="TOO_MANY_CONNECTIONS")
        response = problems.response(problem)
        body = response.body if isinstance(response.body, bytes) else b""
        headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {problem.status.value} {problem.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        transport.close()


async def listen(runner: web.AppRunner, host: str, port: int, handling: Mapping[str, Any]) -> asyncio.Server:
    """Take connections for an application that was set up. Raises OSError where it cannot listen.

    Args:
        handling: settings of each connection, as `web.RequestHandler` has them.
    """
    server = runner.server
    assert server is not None
    loop = asyncio.get_running_loop()

    def meet() -> asyncio.Protocol:
        if len(server.connections) < CONNECTIONS_MAX:
            return Visitor(server, loop=loop, **handling)
        log.warning("connection_turned_away", connections=CONNECTIONS_MAX)
        return _TurnedAway()

    return await loop.create_server(meet, host, port, reuse_address=True)


@web.middleware
async def welcome(request: web.Request, handler: Next) -> web.StreamResponse:
    """Note that the connection has asked for something."""
    if isinstance(request.protocol, Visitor):
        request.protocol.asked = True
    return await handler(request)

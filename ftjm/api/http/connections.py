"""Connections of the API's port: how many are served at a time, and what happens before aiohttp has a request.

A connection beyond the limit is answered 503 and closed. A connection that sends no request in time is closed. Bytes
that are no HTTP are answered with a problem document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from ftjm.api.http.access import Next
from ftjm.api.http.problems import ProblemError, problem_response, unavailable
from ftjm.runtime import logs

log = logs.get(__name__)

CONNECTIONS_MAX = 500
"""Together with the connections of Kafka's clients about half of the 1,024 files that a process may open by default."""
FIRST_REQUEST_SECONDS = 20.0
"""Limit from connecting to the end of the first request's headers. Later requests have the keep-alive timeout."""


class HttpConnection(web.RequestHandler):
    """One connection that is served."""

    has_request = False
    """Whether the client has sent a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if not self.has_request and self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called by aiohttp for bytes that it cannot read as a request; no application sees them."""
        if status != HTTPStatus.BAD_REQUEST or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        detail = " ".join((message or "").split())[:200]
        if isinstance(exc, LineTooLong):
            problem = ProblemError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"expected shorter lines: {detail}")
        else:
            problem = ProblemError(HTTPStatus.BAD_REQUEST, f"expected a request in HTTP/1.1: {detail}")
        response = problem_response(problem)
        response.force_close()
        return response


class _RefusedConnection(asyncio.Protocol):
    """A connection beyond the limit: it gets one answer and is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        detail = f"expected fewer than {CONNECTIONS_MAX} connections, but found as many; try again later"
        problem = unavailable(detail, code="TOO_MANY_CONNECTIONS")
        response = problem_response(problem)
        body = response.body if isinstance(response.body, bytes) else b""
        headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {problem.status.value} {problem.status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        transport.close()


async def listen(runner: web.AppRunner, host: str, port: int, connection_settings: Mapping[str, Any]) -> asyncio.Server:
    """Accept connections for an application whose runner is set up.

    Args:
        connection_settings: arguments of `web.RequestHandler`, for each connection.

    Raises:
        OSError: the address cannot be listened on.
    """
    server = runner.server
    assert server is not None
    loop = asyncio.get_running_loop()

    def accept() -> asyncio.Protocol:
        if len(server.connections) < CONNECTIONS_MAX:
            return HttpConnection(server, loop=loop, **connection_settings)
        todo = "find the clients that keep so many connections open, or start another API"
        log.warning("connection_refused", connections=CONNECTIONS_MAX, todo=todo)
        return _RefusedConnection()

    return await loop.create_server(accept, host, port, reuse_address=True)


@web.middleware
async def note_first_request(request: web.Request, handler: Next) -> web.StreamResponse:
    """Keep the connection open: it has sent a request."""
    if isinstance(request.protocol, HttpConnection):
        request.protocol.has_request = True
    return await handler(request)

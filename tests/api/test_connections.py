"""Connections before their first request: too many, silent ones, and bytes that are no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from ftjm.api.http import connections

LIMIT_SECONDS = 60.0


class Line:
    """One connection as a stream of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes. Return the status, the headers and the body of the answer."""
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(LIMIT_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def is_closed(self) -> bool:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(LIMIT_SECONDS):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read() == b""
            return True


Connect = Callable[[], Awaitable[Line]]


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Connect]:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application(middlewares=[connections.note_first_request])
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    server = await connections.listen(
        runner, "127.0.0.1", 0, {"access_log": None, "max_field_size": 100, "max_line_size": 90}
    )
    port = server.sockets[0].getsockname()[1]
    lines: list[Line] = []

    async def connect() -> Line:
        lines.append(Line(*await asyncio.open_connection("127.0.0.1", port)))
        return lines[-1]

    try:
        yield connect
    finally:
        for line in lines:
            line.writer.close()
        server.close()
        await runner.cleanup()


GET = b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET % (b"X: %b\r\n" % (b"x" * 5_000)), 431),
        (GET.replace(b"/ ", b"/%b " % (b"x" * 5_000)) % b"", 431),
        (GET % b"no colon\r\n", 400),
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", 400),
        (GET % b"Content-Length: -1\r\n", 400),
    ],
)
def test_bytes_that_are_no_request_are_answered_with_a_problem(sent: bytes, status: int, caplog) -> None:
    async def play() -> None:
        async with served() as connect:
            line = await connect()
            found, headers, body = await line.ask(sent)
            problem = json.loads(body)
            assert (found, problem["status"], headers["content-type"]) == (status, status, "application/problem+json")
            assert problem["detail"].startswith("expected ")
            assert await line.is_closed()
            assert (await (await connect()).ask(GET % b""))[0] == 200

    asyncio.run(play())
    assert not caplog.records


async def taken(connect: Connect) -> bool:
    """Whether the server accepts one more connection."""
    try:
        return (await (await connect()).ask(GET % b""))[0] == 200
    except ConnectionError:
        return False


def test_a_connection_beyond_the_limit_is_refused_until_another_one_closes(monkeypatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)

    async def play() -> None:
        async with served() as connect:
            two = [await connect(), await connect()]
            for line in two:
                assert (await line.ask(GET % b""))[0] == 200
            third = await connect()
            status, headers, body = await third.answer()
            assert (status, json.loads(body)["code"]) == (503, "TOO_MANY_CONNECTIONS")
            assert int(headers["retry-after"]) > 0
            assert await third.is_closed()
            assert (await two[0].ask(GET % b""))[0] == 200
            two[1].writer.close()
            async with asyncio.timeout(LIMIT_SECONDS):
                while not await taken(connect):
                    pass

    asyncio.run(play())


def test_a_connection_without_a_request_is_closed(monkeypatch) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_SECONDS", 2.0)

    async def play() -> None:
        async with served() as connect:
            asks = await connect()
            assert (await asks.ask(GET % b""))[0] == 200
            silent, half = await connect(), await connect()
            half.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-")
            assert await silent.is_closed()
            assert await half.is_closed()
            assert (await asks.ask(GET % b""))[0] == 200

    asyncio.run(play())

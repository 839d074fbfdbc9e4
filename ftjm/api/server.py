"""The API process: put together from its parts, served, drained and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
from aiohttp import web

from ftjm.api.http import access, connections
from ftjm.api.http.openapi import PREFIX, openapi_document
from ftjm.api.http.routing import BODY_BYTES_MAX, SERVICE, checked
from ftjm.api.http.service import Service
from ftjm.api.metrics import ApiMetrics, keep_pulse
from ftjm.api.routes import backfills, bulk, cluster, commands, events, jobs, queues, resources, schedules
from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.runtime.directory_lock import DirectoryLock
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.runtime.network import is_loopback
from ftjm.telemetry.server import Health, serve

log = logs.get(__name__)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
CONNECTION_SETTINGS = {
    "access_log": None,
    "keepalive_timeout": 75.0,
    "max_line_size": 8_190,
    "max_field_size": 8_190,
    "auto_decompress": False,
}
"""Settings of each connection: times in seconds, sizes in bytes. A body is not unfolded: 1 MB may become 1 GB."""
DRAIN_SECONDS_MAX = 10.0
"""How long requests may take that are under way when the process receives a signal to stop."""

OPERATIONS = (
    *commands.OPERATIONS,
    *jobs.OPERATIONS,
    *queues.OPERATIONS,
    *backfills.OPERATIONS,
    *bulk.OPERATIONS,
    *schedules.OPERATIONS,
    *resources.OPERATIONS,
    *cluster.OPERATIONS,
    *events.OPERATIONS,
)


class Binding(msgspec.Struct, frozen=True):
    """Where the API listens, and the token that requests must carry (empty for none)."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str = ""
    drain_seconds: float = 0.0
    """How long new connections are still accepted after `/readyz` fails: as long as a balancer takes to notice."""


def run(settings: Settings, name: str, binding: Binding) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        name: the name of this instance; its projection is kept in a folder of this name.

    Raises:
        UsageError: the address is reached from other machines, and there is no token.
        FtjmError: another process uses the folder, the port is taken, or no Kafka is named.
    """
    if not is_loopback(binding.host) and not binding.token:
        raise UsageError(
            f"a token, since {binding.host} is reached from other machines",
            "none",
            "set FTJM_API_TOKEN, or give --token-file; or leave --host away",
        )
    folder = settings.data_dir / "api" / name
    lock = DirectoryLock(folder, "lock")
    lock.acquire()
    try:
        settings.kafka_settings("api")  # raises where no Kafka is named
        asyncio.run(_serve(settings, folder / settings.cluster, binding))
    finally:
        lock.release()


@contextlib.contextmanager
def _measured(settings: Settings, service: Service) -> Iterator[ApiMetrics]:
    """Serve metrics and health on a loopback port of their own, as every role does. To be entered on the loop."""
    metrics, health = ApiMetrics(), Health(lambda: service.why_not_ready)
    pulse = asyncio.get_running_loop().create_task(keep_pulse(health))
    server = serve(settings, "api", metrics.registry, health)
    try:
        yield metrics
    finally:
        server.close()
        pulse.cancel()


async def _serve(settings: Settings, folder: Path, binding: Binding) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings, folder)
    stack = contextlib.ExitStack()
    runner = web.AppRunner(
        application(service, binding, stack.enter_context(_measured(settings, service))),
        shutdown_timeout=DRAIN_SECONDS_MAX,
        handler_cancellation=True,
    )
    listening: asyncio.Server | None = None
    service.start()
    try:
        await runner.setup()
        try:
            listening = await connections.listen(runner, binding.host, binding.port, CONNECTION_SETTINGS)
        except OSError as error:
            expected = f"to listen at {binding.host}:{binding.port}"
            raise FtjmError(expected, error.strerror or str(error), "choose another --port") from error
        log.info("api_started", url=url_of(binding.host, binding.port), token=bool(binding.token))
        if not binding.token:
            todo = "every user of this machine may submit jobs: set FTJM_API_TOKEN, or give --token-file"
            log.warning("api_without_token", todo=todo)
        await stop.wait()
        log.info("api_stopping", at_most_seconds=DRAIN_SECONDS_MAX + binding.drain_seconds)
        service.draining.set()
        await asyncio.sleep(binding.drain_seconds)
    finally:
        service.draining.set()
        if listening is not None:
            listening.close()
        await runner.cleanup()
        await loop.run_in_executor(None, service.stop)
        stack.close()
    log.info("api_stopped")


def url_of(host: str, port: int) -> str:
    """The URL of an API, for clients on this machine."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else shown}:{port}"  # noqa: S104  (it is compared)


def application(service: Service, binding: Binding, metrics: ApiMetrics | None = None) -> web.Application:
    """Make the application: all paths, behind the middlewares."""
    metrics = metrics or ApiMetrics()
    loopback = is_loopback(binding.host)
    made = web.Application(
        middlewares=[
            connections.note_first_request,
            metrics.middleware,
            _close_when_draining,
            access.errors_as_problems,
            access.access_check(binding.token, loopback=loopback),
        ],
        client_max_size=BODY_BYTES_MAX,
    )
    made[SERVICE] = service
    made[events.LISTENERS] = set()
    operations = [(f"{PREFIX}{one.path}", one) for one in OPERATIONS] + [(one.path, one) for one in cluster.HEALTH]
    for path, operation in operations:
        handler = checked(operation)
        made.router.add_route(operation.method, path, handler)
        if operation.method == "GET" and None not in operation.answers.values():
            # A stream has no end, so no HEAD.
            made.router.add_route("HEAD", path, handler)
    text = msgspec.json.encode(openapi_document(OPERATIONS, cluster.HEALTH, token=bool(binding.token)))
    described = functools.partial(_openapi, text)
    made.router.add_get("/metrics", metrics.respond)
    for path in ("/openapi.json", f"{PREFIX}/openapi.json"):
        made.router.add_get(path, described)
    return made


@web.middleware
async def _close_when_draining(request: web.Request, handler: access.Next) -> web.StreamResponse:
    """Close connections with their next answer, so that clients connect to another instance."""
    response = await handler(request)
    if request.app[SERVICE].draining.is_set():
        response.force_close()
    return response


async def _openapi(text: bytes, _: web.Request) -> web.Response:
    return web.Response(body=text, content_type="application/json")

"""The API process: composed, served, drained, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
from aiohttp import web

from ftjm import logs
from ftjm.api import cluster, commanding, door, feed, gate, looking, openapi
from ftjm.api.operations import BODY_MAX, SERVICE, checked
from ftjm.api.service import Service
from ftjm.config import Settings
from ftjm.errors import FtjmError, UsageError
from ftjm.locks import DirectoryLock
from ftjm.metrics.api import ApiMetrics, keep_pulse
from ftjm.metrics.server import Health, serve

log = logs.get(__name__)

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8484
HANDLING = {"access_log": None, "keepalive_timeout": 75.0, "max_line_size": 8_190, "max_field_size": 8_190}
"""Of each connection: seconds, and bytes."""
DRAIN_SECONDS_MAX = 10.0
"""For requests that are under way when the process is to stop."""

OPERATIONS = (*commanding.OPERATIONS, *looking.OPERATIONS, *cluster.OPERATIONS, *feed.OPERATIONS)


class Binding(msgspec.Struct, frozen=True):
    """Where the API listens, and what it asks for."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str = ""
    drain_seconds: float = 0.0
    """Between saying that it is not ready and taking no more connections: as long as a balancer takes to notice."""


def run(settings: Settings, name: str, binding: Binding) -> None:
    """Serve until SIGTERM or SIGINT. Raises FtjmError where it cannot, UsageError where it should not."""
    if not gate.is_loopback(binding.host) and not binding.token:
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
    """Metrics and health on a loopback port of their own, as every role has it. To be entered in the loop."""
    metrics, health = ApiMetrics(), Health(lambda: service.why_not_ready)
    pulse = asyncio.get_running_loop().create_task(keep_pulse(health))
    inside = serve(settings, "api", metrics.registry, health)
    try:
        yield metrics
    finally:
        inside.close()
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
            listening = await door.listen(runner, binding.host, binding.port, HANDLING)
        except OSError as error:
            expected = f"to listen at {binding.host}:{binding.port}"
            raise FtjmError(expected, error.strerror or str(error), "choose another --port") from error
        log.info("api_started", url=url_of(binding.host, binding.port), token=bool(binding.token))
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
    """The address of an API, for clients on this machine."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else shown}:{port}"  # noqa: S104  (it is compared)


def application(service: Service, binding: Binding, metrics: ApiMetrics | None = None) -> web.Application:
    """All paths, behind the gate."""
    metrics = metrics or ApiMetrics()
    loopback = gate.is_loopback(binding.host)
    made = web.Application(
        middlewares=[
            door.welcome,
            metrics.middleware,
            _leave_when_draining,
            gate.tell_problems,
            gate.gate(binding.token, loopback=loopback),
        ],
        client_max_size=BODY_MAX,
    )
    made[SERVICE] = service
    made[feed.LISTENERS] = set()
    for operation in OPERATIONS:
        made.router.add_route(operation.method, f"/api/v1{operation.path}", checked(operation))
    for operation in cluster.HEALTH:
        made.router.add_route(operation.method, operation.path, checked(operation))
    text = msgspec.json.encode(openapi.document(OPERATIONS, cluster.HEALTH, bool(binding.token)))
    described = functools.partial(_described, text)
    made.router.add_get("/metrics", metrics.show)
    for path in ("/openapi.json", "/api/v1/openapi.json"):
        made.router.add_get(path, described)
    return made


@web.middleware
async def _leave_when_draining(request: web.Request, handler: gate.Next) -> web.StreamResponse:
    """Clients that keep their connection are told to make the next one, which will be another instance's."""
    response = await handler(request)
    if request.app[SERVICE].draining.is_set():
        response.force_close()
    return response


async def _described(text: bytes, _: web.Request) -> web.Response:
    return web.Response(body=text, content_type="application/json")

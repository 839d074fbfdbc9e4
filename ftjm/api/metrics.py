"""Metrics of the HTTP API, served on its own port and on the loopback port that every role has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import prometheus_client as prometheus
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from ftjm.telemetry.labels import SECONDS
from ftjm.telemetry.process_metrics import registry
from ftjm.telemetry.server import Health

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
PULSE_SECONDS = 1.0


class ApiMetrics:
    """The metrics of one API process."""

    def __init__(self) -> None:
        self.registry = registry("api")
        at: dict[str, Any] = {"registry": self.registry}
        text = "From a request's headers to the end of its answer, in seconds; streams of events are left out."
        self._duration = prometheus.Histogram("ftjm_api_request_duration_seconds", text, buckets=SECONDS, **at)
        text = "Requests that were answered, by the pattern of their path and the status."
        self._requests = prometheus.Counter("ftjm_api_requests_total", text, ["method", "route", "status"], **at)
        text = "Requests that are being answered now, streams of events included."
        self._open = prometheus.Gauge("ftjm_api_requests_open", text, **at)

    @property
    def middleware(self) -> Any:
        """Measures every request. It comes before the middlewares that answer, so that it sees their answers."""

        @web.middleware
        async def measure(request: web.Request, handler: Next) -> web.StreamResponse:
            began = time.monotonic()
            status = 0
            self._open.inc()
            try:
                response = await handler(request)
                status = response.status
                if response.content_type != "text/event-stream":
                    self._duration.observe(time.monotonic() - began)
                return response
            finally:
                self._open.dec()
                self._requests.labels(*_labels(request), str(status)).inc()

        return measure

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a request for `/metrics`."""
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self.registry), headers={"Content-Type": kind, "Cache-Control": "no-store"})


async def keep_pulse(health: Health) -> None:
    """Report each second that the loop turns, so that `/livez` fails if it hangs."""
    while True:
        health.pulse()
        await asyncio.sleep(PULSE_SECONDS)


def _labels(request: web.Request) -> tuple[str, str]:
    """Method and route, as labels: unknown ones share a label, so that clients cannot make new series."""
    resource = request.match_info.route.resource
    method = request.method if request.method in METHODS else "(other)"
    return method, resource.canonical if resource is not None else "(none)"

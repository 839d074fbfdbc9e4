"""What the HTTP API shows of itself, on its own port and on the loopback port that every role has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import prometheus_client as prometheus
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from ftjm.metrics.labels import SECONDS
from ftjm.metrics.process import registry
from ftjm.metrics.server import Health

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
PULSE_SECONDS = 1.0


class ApiMetrics:
    """One for each process of the API."""

    def __init__(self) -> None:
        self.registry = registry("api")
        at: dict[str, Any] = {"registry": self.registry}
        text = "From a request's head to its answer's end; streams of events are not counted here."
        self._duration = prometheus.Histogram("ftjm_api_request_duration_seconds", text, buckets=SECONDS, **at)
        text = "Requests that were answered, by the pattern of their path."
        self._requests = prometheus.Counter("ftjm_api_requests_total", text, ["method", "route", "status"], **at)
        text = "Requests that are being answered, streams among them."
        self._open = prometheus.Gauge("ftjm_api_requests_open", text, **at)

    @property
    def middleware(self) -> Any:
        """Measures every request; belongs before all others, so that it sees their answers."""

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
                self._requests.labels(*_place(request), str(status)).inc()

        return measure

    async def show(self, request: web.Request) -> web.Response:
        """`/metrics`."""
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self.registry), headers={"Content-Type": kind, "Cache-Control": "no-store"})


async def keep_pulse(health: Health) -> None:
    """Tell of each second in which the loop turns."""
    while True:
        health.pulse()
        await asyncio.sleep(PULSE_SECONDS)


def _place(request: web.Request) -> tuple[str, str]:
    """Method and route as labels: whatever is asked for, there are only so many."""
    resource = request.match_info.route.resource
    method = request.method if request.method in METHODS else "(other)"
    return method, resource.canonical if resource is not None else "(none)"

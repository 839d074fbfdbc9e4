"""`/metrics`, `/livez`, `/readyz` of one process, on a port of its own.

Bounded, whoever asks: so many requests at a time, each with a limit of time and of size; a request more is hung up on.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import prometheus_client as prometheus
from prometheus_client.exposition import choose_encoder

from ftjm import logs
from ftjm.config import Settings
from ftjm.errors import FtjmError, UsageError

log = logs.get(__name__)

THREADS = 3
WAITING_MAX = 16
"""Requests that are answered or wait for it."""
REQUEST_SECONDS = 10.0
ALIVE_SECONDS = 30.0
"""A main loop that did not turn for so long is stuck."""
POLL_SECONDS = 0.1


class Health:
    """What a role says of itself. `pulse` is called by its main loop; `why_not_ready` from the server's threads."""

    def __init__(self, why_not_ready: Callable[[], str]) -> None:
        self.why_not_ready = why_not_ready
        self._pulsed = time.monotonic()

    def pulse(self) -> None:
        self._pulsed = time.monotonic()

    def why_not_alive(self) -> str:
        silent = time.monotonic() - self._pulsed
        return f"the main loop has not turned for {silent:.0f} s" if silent > ALIVE_SECONDS else ""


class MetricsServer:
    """Serves until `close`. Made by `serve`."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.port = int(server.server_address[1])
        self._thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(settings: Settings, role: str, registry: prometheus.CollectorRegistry, health: Health) -> MetricsServer:
    """Listen on `metrics_host:metrics_port` (0: a free one), and log where.

    Raises:
        UsageError: beyond loopback without a token.
        FtjmError: if the address cannot be had.
    """
    host, token = settings.metrics_host, settings.metrics_token
    if not token and not is_loopback(host):
        todo = "set FTJM_METRICS_TOKEN, or leave --metrics-host at 127.0.0.1"
        raise UsageError("a token where others than this host may ask for metrics", f"none, for {host}", todo)
    try:
        server = _Server(host, settings.metrics_port, registry, health, token.encode())
    except OSError as error:
        where = f"{host}:{settings.metrics_port}"
        raise FtjmError(f"to serve metrics at {where}", str(error), "choose another --metrics-port") from error
    made = MetricsServer(server)
    log.info("metrics_served", role=role, host=host, port=made.port, token=bool(token))
    return made


def is_loopback(host: str) -> bool:
    """Whether only this host reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(HTTPServer):
    """One thread accepts, a few answer."""

    request_queue_size = WAITING_MAX

    def __init__(
        self, host: str, port: int, registry: prometheus.CollectorRegistry, health: Health, token: bytes
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.registry = registry
        self.health = health
        self.token = token
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="metrics")
        self._open: dict[socket.socket, float] = {}
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # The standard library would ask the name service for our own name here.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._open) >= WAITING_MAX:
            self.shutdown_request(request)
            return
        self._open[request] = time.monotonic() + REQUEST_SECONDS
        self._pool.submit(self._answer, request, client_address)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError as error:  # who asked has gone, or was too slow
            log.debug("metrics_request_broken", error=str(error))
        except Exception:  # a fault in a collector: the request gets no answer, and the thread goes on
            log.exception("metrics_request_failed")
        finally:
            self._open.pop(request, None)
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Hang up on those whose time is over: a time-out for each read alone would let a slow one stay for ever."""
        now = time.monotonic()
        for request, until in list(self._open.items()):
            if now > until:
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError:
                    self._open.pop(request, None)

    def server_close(self) -> None:
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server_version = "ftjm"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        if not self._allowed():
            self._answer(401, b"expected the header Authorization: Bearer, with the token of this server\n")
            return
        path = self.path.partition("?")[0]
        health = self.server.health
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.registry), kind)
        elif path == "/livez":
            self._judge(health.why_not_alive())
        elif path == "/readyz":
            self._judge(health.why_not_alive() or health.why_not_ready())
        else:
            self._answer(404, b"expected /metrics, /livez or /readyz\n")

    def _allowed(self) -> bool:
        if not self.server.token:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(errors="replace"), self.server.token)
        return scheme.lower() == "bearer" and same

    def _judge(self, fault: str) -> None:
        self._answer(503 if fault else 200, f"{fault or 'ok'}\n".encode())

    def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the standard library's name)
        log.debug("metrics_asked", request=format % args)

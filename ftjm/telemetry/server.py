"""Serves `/metrics`, `/livez` and `/readyz` of one process, on a port of its own.

Its use of the process is bounded, whatever clients do: at most `WAITING_MAX` requests at a time, each with a limit of
time and of size. The connection of a further request is closed.
"""

from __future__ import annotations

import hmac
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import prometheus_client as prometheus
from prometheus_client.exposition import choose_encoder

from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.runtime.network import is_loopback

log = logs.get(__name__)

THREADS = 3
WAITING_MAX = 16
"""Most requests that are being answered or wait for their answer."""
REQUEST_SECONDS = 10.0
ALIVE_SECONDS = 30.0
"""A main loop that has not called `Health.pulse` for this long is stuck."""
POLL_SECONDS = 1.0
"""Pause between two looks for connections whose time is over."""


class Health:
    """Whether a role is alive and ready.

    Args:
        why_not_ready: Returns the reason why the role is not ready, or an empty text. The server's threads call it.
    """

    def __init__(self, why_not_ready: Callable[[], str]) -> None:
        self.why_not_ready = why_not_ready
        self._pulsed = time.monotonic()

    def pulse(self) -> None:
        """Report that the main loop is alive. The main loop calls this in every round."""
        self._pulsed = time.monotonic()

    def why_not_alive(self) -> str:
        """The reason why the role is not alive, or an empty text."""
        silent = time.monotonic() - self._pulsed
        return f"the main loop has made no round for {silent:.0f} s" if silent > ALIVE_SECONDS else ""


class MetricsServer:
    """The server of metrics and health, which runs until it is closed. `serve` creates it."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.port = int(server.server_address[1])
        self._thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        ending = threading.Thread(target=self._server.shutdown, name="metrics-end", daemon=True)
        ending.start()
        # `shutdown` only leaves word, so a connection wakes the thread. If it comes too early, the next look does.
        with suppress(OSError):
            socket.create_connection((self._server.server_name, self.port), POLL_SECONDS).close()
        ending.join()
        self._server.server_close()
        self._thread.join()


def serve(settings: Settings, role: str, registry: prometheus.CollectorRegistry, health: Health) -> MetricsServer:
    """Listen on `metrics_host:metrics_port` (0: a free one), and log where.

    Raises:
        UsageError: The address is beyond loopback, and there is no token.
        FtjmError: The address cannot be bound.
    """
    host, token = settings.metrics_host, settings.metrics_token
    if not token and not is_loopback(host):
        todo = "set FTJM_METRICS_TOKEN, or leave --metrics-host at 127.0.0.1"
        raise UsageError("a token where other hosts can reach the metrics", f"none, for {host}", todo)
    try:
        server = _Server(host, settings.metrics_port, registry, health, token.encode())
    except OSError as error:
        where = f"{host}:{settings.metrics_port}"
        raise FtjmError(f"to serve metrics at {where}", str(error), "choose another --metrics-port") from error
    made = MetricsServer(server)
    log.info("metrics_served", role=role, host=host, port=made.port, token=bool(token))
    return made


class _Server(HTTPServer):
    """One thread accepts connections, `THREADS` others answer requests."""

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
        # As in the standard library, but without asking the name service for this host's name, which may take seconds.
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
        except OSError as error:  # the client has gone, or was too slow
            log.debug("metrics_request_broken", error=str(error))
        except Exception:  # a fault in a collector: this request gets no answer, the thread continues
            log.exception("metrics_request_failed", todo="report it with this traceback")
        finally:
            self._open.pop(request, None)
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections whose time limit has passed. A limit for each read alone would let a slow client stay
        forever."""
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
            self._answer_health(health.why_not_alive())
        elif path == "/readyz":
            self._answer_health(health.why_not_alive() or health.why_not_ready())
        else:
            self._answer(404, b"expected /metrics, /livez or /readyz\n")

    def _allowed(self) -> bool:
        if not self.server.token:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(errors="replace"), self.server.token)
        return scheme.lower() == "bearer" and same

    def _answer_health(self, fault: str) -> None:
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

"""The server of metrics and health: access, answers, and clients that must not block it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException

import pytest

from ftjm.runtime import config
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.telemetry import server
from ftjm.telemetry.process_metrics import registry
from ftjm.telemetry.server import Health, MetricsServer, serve

Serve = Callable[..., MetricsServer]


@pytest.fixture
def start(tmp_path, monkeypatch) -> Iterator[Serve]:
    monkeypatch.chdir(tmp_path)
    made: list[MetricsServer] = []

    def begin(health: Health | None = None, **settings) -> MetricsServer:
        loaded = config.load(bootstrap="127.0.0.1:1", data_dir=tmp_path, **settings)
        made.append(serve(loaded, "test", registry("test"), health or Health(lambda: "")))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_only_three_paths_exist(start):
    why = ""
    health = Health(lambda: why)
    port = start(health).port
    status, text = ask(port, "/metrics")
    assert status == 200
    assert 'ftjm_build_info{role="test"' in text
    assert "process_resident_memory_bytes" in text
    assert ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1].endswith("# EOF\n")
    assert ask(port, "/livez") == ask(port, "/readyz") == (200, "ok\n")
    assert ask(port, "/")[0] == 404
    assert ask(port, "/metrics", method="POST")[0] == 501
    why = "not yet"
    assert ask(port, "/readyz?verbose") == (503, "not yet\n")
    assert ask(port, "/livez")[0] == 200


def test_a_loop_that_is_stuck_is_neither_alive_nor_ready(start, monkeypatch):
    health = Health(lambda: "")
    port = start(health).port
    monkeypatch.setattr(server, "ALIVE_SECONDS", 0.05)
    time.sleep(0.1)
    assert ask(port, "/livez")[0] == ask(port, "/readyz")[0] == 503
    health.pulse()
    monkeypatch.setattr(server, "ALIVE_SECONDS", 60)
    assert ask(port, "/livez")[0] == 200


def test_beyond_loopback_a_token_is_needed(start):
    with pytest.raises(UsageError, match="FTJM_METRICS_TOKEN"):
        start(metrics_host="0.0.0.0")
    port = start(metrics_host="0.0.0.0", metrics_token="a-secret").port
    assert ask(port, "/metrics", Authorization="Bearer a-secret")[0] == 200
    for wrong in ("Bearer a-secre", "Bearer a-secret2", "Basic a-secret", "a-secret", "Bearer ", "Bearer \xe9"):
        assert ask(port, "/metrics", Authorization=wrong)[0] == 401
    assert ask(port, "/livez")[0] == 401


def test_the_token_is_not_in_the_answer(start):
    settings = config.load(metrics_token="a-secret")
    assert "a-secret" not in repr(settings)
    assert settings.environment()["FTJM_METRICS_TOKEN"] == "a-secret"


def test_the_server_listens_on_ipv6(start):
    try:
        port = start(metrics_host="::1").port
    except FtjmError:
        pytest.skip("this host has no IPv6")
    with socket.create_connection(("::1", port), timeout=5) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert b"200" in connection.recv(100)


def test_a_taken_port_is_an_error(start):
    port = start().port
    with pytest.raises(FtjmError, match="--metrics-port"):
        start(metrics_port=port)


def test_silent_clients_do_not_hold_up_others(start, monkeypatch):
    """There are more silent clients than threads, and one more than may wait. All are disconnected in time."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(server._Handler, "timeout", 1.0)
    port = start().port
    silent = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(server.WAITING_MAX + 4)]
    began = time.monotonic()
    for connection in silent:
        assert connection.recv(100) == b""
        connection.close()
    assert time.monotonic() - began < 60
    assert ask(port, "/livez")[0] == 200


def test_the_connection_of_a_slow_client_is_closed(start, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    port = start().port
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 60:
            connection.sendall(b"G")
            time.sleep(0.05)
    assert time.monotonic() - began < 60
    connection.close()


def test_a_failing_collector_does_not_end_the_server(start):
    def broken() -> str:
        raise RuntimeError("a bug")

    port = start(Health(broken)).port
    with pytest.raises((ConnectionError, HTTPException)):
        ask(port, "/readyz")
    for _ in range(server.THREADS + 1):
        assert ask(port, "/livez")[0] == 200

"""The command line asks an API: with its token, directly on this machine, and without trust in what comes back."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ftjm.cli import api_client, app
from ftjm.runtime import config, endpoint
from ftjm.runtime.errors import FtjmError, UsageError
from tests.runtime.endpoints import ENDPOINT

TOKEN = "t" * 40
HOSTILE = "\x1b]0;owned\x07\x9b"
JOB = {"job": "default/a", "job_id": "a", "queue": "default", "state": "FAILED", "reason": HOSTILE, "run": 1}
JOB |= {"attempt": 1, "submitted_at": "2030-01-01T00:00:00Z", "labels": {"x": HOSTILE}}


class Server(ThreadingHTTPServer):
    """An HTTP server that answers everything with one answer, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        status, headers, body = self.server.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as made:
        yield made


@pytest.fixture(autouse=True)
def of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FTJM_API", "FTJM_API_TOKEN", "FTJM_BOOTSTRAP", "FTJM_DATA_DIR", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def asked(server: Server, **settings: Any) -> dict[str, str]:
    api_client.get(config.load(**{"api": server.url} | settings), "/jobs", [("a", "b c")])
    [(path, headers)] = server.asked
    assert path == "/api/v1/jobs?a=b+c"
    return headers


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_api_on_this_machine_is_asked_directly(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    asked(server, api=f"http://{host}:{server.server_port}")


def test_another_one_is_asked_through_the_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    api_client.get(config.load(api="http://api.example"), "/jobs", [])
    assert server.asked[0][0].startswith("http://api.example/api/v1/jobs")


def test_the_token_of_the_endpoint_goes_to_its_api_alone(server: Server) -> None:
    endpoint.write(endpoint.default_data_dir(), msgspec.structs.replace(ENDPOINT, api=server.url, token=TOKEN))
    assert asked(server)["Authorization"] == f"Bearer {TOKEN}"
    server.asked.clear()
    with served() as other:
        assert "Authorization" not in asked(other, api=other.url)
        other.asked.clear()
        server.answer = (302, {"Location": f"{other.url}/api/v1/jobs?a=b+c"}, b"")
        asked(server)
        assert "Authorization" not in other.asked[0][1]


@pytest.mark.parametrize("token", ["short", "ü" * 40, "a" * 20 + "\nX: y"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(server: Server, token: str) -> None:
    with pytest.raises(UsageError, match="a token of") as caught:
        api_client.get(config.load(api=server.url, api_token=token), "/jobs", [])
    assert token not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"[]"),
        (200, b"nope"),
        (200, b"[" * 100_000),
        (200, b"\xff"),
        (400, b"[]"),
        (401, b"\xff"),
        (404, b'{"code":"UNKNOWN_PATH"}'),
        (500, b"[" * 100_000),
        (503, b'{"errors":7}'),
        (400, b'{"errors":[{"path":[1,"a"],"text":"x"}]}'),
    ],
)
def test_an_odd_answer_is_an_error_in_words(server: Server, status: int, body: bytes) -> None:
    server.answer = (status, {}, body)
    with pytest.raises(FtjmError):
        api_client.get(config.load(api=server.url), "/jobs", [])


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"jobs": [], "freshness": 1},
        {"jobs": [1], "freshness": {"stale": False}},
        {"jobs": [{"job": "a"}], "freshness": {"stale": False}},
        {"jobs": [{"submitted_at": "soon"}], "freshness": {"stale": False}},
        {"jobs": [{"submitted_at": "2030-01-01T00:00:00"}], "freshness": {"stale": False}},
    ],
)
def test_a_page_of_another_server_is_an_error_in_words(server: Server, page: Any) -> None:
    server.answer = (200, {}, json.dumps(page).encode())
    result = CliRunner().invoke(app, ["list", "--api", server.url])
    assert isinstance(result.exception, FtjmError)


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_what_others_wrote_reaches_no_terminal_as_control_characters(server: Server, output: str) -> None:
    page = {"jobs": [JOB], "freshness": {"stale": True, "as_of": HOSTILE}}
    server.answer = (200, {}, json.dumps(page).encode())
    result = CliRunner().invoke(app, ["list", "--api", server.url, "-o", output])
    assert result.exit_code == 0, result.output
    assert "default/a" in result.stdout
    assert "owned" in result.stdout + result.stderr
    assert not [c for c in result.stdout + result.stderr if not c.isprintable() and c not in "\n\t"]


def test_the_token_of_a_running_up_is_printed_for_other_programs(server: Server) -> None:
    assert CliRunner().invoke(app, ["token"]).exit_code == 1
    endpoint.write(endpoint.default_data_dir(), msgspec.structs.replace(ENDPOINT, api=server.url, token=TOKEN))
    assert CliRunner().invoke(app, ["token"]).stdout == f"{TOKEN}\n"
    assert CliRunner().invoke(app, ["token", "--api", server.url]).stdout == f"{TOKEN}\n"
    assert CliRunner().invoke(app, ["token", "--api", "http://127.0.0.1:1"]).exit_code == 1

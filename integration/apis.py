"""API processes, and a small HTTP client for the tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ftjm.local.ports import free_base_port
from ftjm.runtime.config import Settings
from integration.harness import Cluster, Process
from integration.waiting import until

SECONDS = 120.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api(Process):
    """One API process."""

    port: int
    host = "127.0.0.1"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request on a new connection. `body` is encoded as JSON, unless it is bytes."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            headers = {"Content_Type": "application/json", **headers}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = path if path.startswith(("/livez", "/readyz", "/openapi")) else f"/api/v1{path}"
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)) as connection:
            connection.request(method, path, raw, named)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("POST", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.ask("PUT", path, body, **headers)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def ready(self) -> Api:
        """Wait until `/readyz` succeeds."""

        def is_ready() -> bool:
            assert self.popen.poll() is None, self.log.read_text()
            try:
                return self.get("/readyz").status == 200
            except OSError:
                return False

        until(is_ready, f"{self.name} to be ready; {self.log}")
        return self

    @contextlib.contextmanager
    def listen(self, path: str = "/events", **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Read server-sent events as they arrive, each as {"id", "event", "data"}."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", f"/api/v1{path}", headers=named)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield _events(answer)


def _events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    fields: dict[str, Any] = {}
    while line := answer.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield {"id": fields["id"], "event": fields["event"], "data": json.loads(fields["data"])}
            fields = {}


def start_api(
    cluster: Cluster,
    name: str = "api",
    *options: str,
    settings: Settings | None = None,
    port: int = 0,
    token: str = "",
    wait: bool = True,
    module: str = "integration.patient",
) -> Api:
    """Start an API process. With `wait`, it is ready on return. `module` ftjm: with the limits that users have."""
    port = port or free_base_port()
    command = ["-m", module, "api", "--name", name, "--port", str(port), *options]
    if token:
        os.environ["FTJM_API_TOKEN"] = token
    try:
        api = Api(settings or cluster.settings, name, command, cluster.folder / f"{name}.log")
    finally:
        os.environ.pop("FTJM_API_TOKEN", None)
    api.port = port
    cluster.processes.append(api)
    return api.ready() if wait else api

"""A client of the HTTP API that uses the standard library alone: documents, and the feed of events.

The feed reconnects after every break, and continues behind the last event that it received.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

ANSWER_SECONDS_MAX = 10.0
SILENCE_SECONDS_MAX = 60.0
"""A working feed sends something more often, at least a comment."""
AGAIN_SECONDS = 0.2
PAGE = 1_000
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens addresses on this machine: a proxy of the environment is not asked for them."""
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


class EventPosition(NamedTuple):
    """Position of an event in the log."""

    partition: int
    offset: int


class ApiClient:
    """Reads documents from one API process. Its methods raise OSError while the API does not run or is not is_ready."""

    def __init__(self, address: str, token: str) -> None:
        """Take the URL that `ftjm up` prints, such as http://127.0.0.1:8484, and the token of its endpoint file."""
        self.address = address
        self.headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **query: str | int) -> Any:
        """Return the JSON document of a path below /api/v1."""
        with self._open(f"/api/v1{path}?{urlencode(query)}") as answer:
            return json.load(answer)

    def _open(self, path: str) -> http.client.HTTPResponse:
        request = urllib.request.Request(f"{self.address}{path}", headers=self.headers)  # noqa: S310  (http: the address comes from `ftjm up`)
        answer: http.client.HTTPResponse = DIRECT.open(request, timeout=ANSWER_SECONDS_MAX)
        return answer

    def is_ready(self) -> bool:
        """Return whether the API has read the log to its end. Raises OSError if it has not."""
        with self._open("/readyz") as answer:
            return bool(answer.status == HTTPStatus.OK)

    def counts(self) -> Counter[str]:
        """Return the number of jobs in each state, of all queues."""
        queues = self.get("/queues", limit=PAGE)["queues"]
        return sum((Counter(queue["states"]) for queue in queues), Counter[str]())

    def jobs(self, state: str) -> Iterator[str]:
        """Return the names of all jobs in a state, reading page by page."""
        page = self.get("/jobs", state=state, limit=PAGE)
        yield from (job["job"] for job in page["jobs"])
        while cursor := page.get("next"):
            page = self.get("/jobs", state=state, limit=PAGE, cursor=cursor)
            yield from (job["job"] for job in page["jobs"])


class FeedListener(threading.Thread):
    """Receives the events of `/api/v1/events` from the beginning of the log. A context manager."""

    def __init__(self, api: ApiClient) -> None:
        super().__init__(name="feed", daemon=True)
        self._at = urlsplit(api.address)
        self._headers = api.headers
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None
        self._last_id = ""
        self.positions: list[EventPosition] = []
        """Position of each event that was received, in the order of arrival."""
        self.resumed = 0
        """Number of reconnections that continued behind the last received event."""

    def __enter__(self) -> FeedListener:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if (connected := self._socket) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self.join()

    def run(self) -> None:
        """Listen until the block ends; after an error, connect again behind the last received event."""
        while not self._stopped.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._listen()
            self._stopped.wait(AGAIN_SECONDS)

    def _listen(self) -> None:
        assert self._at.hostname
        connection = http.client.HTTPConnection(self._at.hostname, self._at.port, timeout=SILENCE_SECONDS_MAX)
        with closing(connection):
            headers = self._headers | ({"Last-Event-ID": self._last_id} if self._last_id else {})
            connection.request("GET", "/api/v1/events?start=beginning", headers=headers)
            self._socket = connection.sock
            answer = connection.getresponse()
            if answer.status == HTTPStatus.OK and not self._stopped.is_set():
                self.resumed += bool(self._last_id)
                self._receive(answer)

    def _receive(self, answer: http.client.HTTPResponse) -> None:
        fields: dict[str, str] = {}
        while line := answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
                continue
            if "data" in fields:
                data = json.loads(fields["data"])
                self.positions.append(EventPosition(data["partition"], data["offset"]))
            self._last_id = fields.get("id", self._last_id)
            fields = {}

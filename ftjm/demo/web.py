"""The API as a program of somebody else's uses it: documents, and the feed, which goes on over every break."""

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
"""A feed that is well says something more often, if only a comment."""
AGAIN_SECONDS = 0.2
PAGE = 1_000
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


class Place(NamedTuple):
    """Where an event is in the log."""

    partition: int
    offset: int


class Web:
    """One instance of the API. Its methods raise OSError while it is not there, or not yet ready."""

    def __init__(self, address: str) -> None:
        """`address` is as `ftjm up` tells it: http://127.0.0.1:8484."""
        self.address = address

    def get(self, path: str, **query: str | int) -> Any:
        """A document."""
        url = f"{self.address}/api/v1{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310  (http, as `up` told us)
            return json.load(answer)

    def ready(self) -> bool:
        """Whether it has read the log to its end; OSError if not."""
        with urllib.request.urlopen(f"{self.address}/readyz", timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310  (same)
            return bool(answer.status == HTTPStatus.OK)

    def counts(self) -> Counter[str]:
        """How many jobs there are in each state."""
        queues = self.get("/queues", limit=PAGE)["queues"]
        return sum((Counter(queue["jobs"]) for queue in queues), Counter[str]())

    def jobs(self, state: str) -> Iterator[str]:
        """The names of all jobs in a state, page by page."""
        cursor = ""
        while cursor is not None:
            page = self.get("/jobs", state=state, limit=PAGE, cursor=cursor)
            yield from (job["job"] for job in page["jobs"])
            cursor = page["next"]


class Feed(threading.Thread):
    """Listens to `/api/v1/events` from the log's beginning on. A context manager."""

    def __init__(self, address: str) -> None:
        super().__init__(name="feed", daemon=True)
        self._at = urlsplit(address)
        self._over = threading.Event()
        self._socket: socket.socket | None = None
        self._last_id = ""
        self.places: list[Place] = []
        """Of each event that was told of, as they came."""
        self.resumed = 0
        """How often it went on behind the last event that it had seen."""

    def __enter__(self) -> Feed:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if (connected := self._socket) is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self.join()

    def run(self) -> None:
        while not self._over.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._listen()
            self._over.wait(AGAIN_SECONDS)

    def _listen(self) -> None:
        assert self._at.hostname
        connection = http.client.HTTPConnection(self._at.hostname, self._at.port, timeout=SILENCE_SECONDS_MAX)
        with closing(connection):
            headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
            connection.request("GET", "/api/v1/events?start=beginning", headers=headers)
            self._socket = connection.sock
            answer = connection.getresponse()
            if answer.status == HTTPStatus.OK and not self._over.is_set():
                self.resumed += bool(self._last_id)
                self._hear(answer)

    def _hear(self, answer: http.client.HTTPResponse) -> None:
        said: dict[str, str] = {}
        while line := answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                said[name] = value
                continue
            if "data" in said:
                data = json.loads(said["data"])
                self.places.append(Place(data["partition"], data["offset"]))
            self._last_id = said.get("id", self._last_id)
            said = {}

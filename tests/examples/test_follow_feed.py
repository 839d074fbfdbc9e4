"""The example that follows the HTTP feed, against a server with fixed answers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from examples.follow_feed import Event, parse

PROGRAM = Path(__file__).parents[2] / "examples" / "follow_feed.py"
EVENTS = [f'id: {number}\nevent: JobSubmitted\ndata: {{"n": {number}}}\n\n'.encode() for number in range(6)]
CUT_AFTER = 2


class Feed(BaseHTTPRequestHandler):
    """Sends two events after the client's last one on each connection, and then closes it."""

    asked: list[str | None]

    def do_GET(self) -> None:
        self.asked.append(self.headers["Last-Event-ID"])
        start = int(self.headers["Last-Event-ID"] or -1) + 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": hello\n\n" + b"".join(EVENTS[start : start + CUT_AFTER]))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def feed() -> Iterator[ThreadingHTTPServer]:
    Feed.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Feed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_fields_comments_and_unfinished_events_are_parsed():
    lines = [b": keep-alive\n", b"id:7\r\n", b"event: A\n", b"data: one\n", b"data:two\n", b"\n", b"\n", b"data: cut"]
    assert list(parse(lines)) == [Event("7", "A", "one\ntwo")]


def test_the_feed_is_resumed_after_the_last_event(feed, tmp_path):
    state = tmp_path / "position"
    seen = []
    for limit in (3, 2):
        url = f"http://127.0.0.1:{feed.server_port}"
        command = [sys.executable, PROGRAM, "--url", url, "--state", state, "--limit", str(limit)]
        seen += subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n")[:-1]
    assert seen == [f'{{"n": {number}}}' for number in range(5)]
    assert Feed.asked == [None, "1", "2"]
    assert state.read_text() == "4"

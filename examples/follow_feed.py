"""Follows ftjm's events over HTTP, with nothing but Python's standard library.

    python follow_feed.py --url http://127.0.0.1:8484 --state position.txt

The feed is `GET /api/v1/events`, server-sent events. Each has an id. A client that
sends the id of the last event it saw as `Last-Event-ID` goes on behind that event. The id is opaque: keep it as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

SILENCE_SECONDS_MAX = 60.0
"""A server that is well says something more often, if only a comment."""
RETRY_SECONDS = 1.0


class Event(NamedTuple):
    """One event of the feed."""

    id: str
    name: str
    data: str


def parse(lines: Iterable[bytes]) -> Iterator[Event]:
    """Server-sent events, as the HTML standard says: fields by line, an empty line ends an event."""
    last_id, name, data = "", "message", list[str]()
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield Event(last_id, name, "\n".join(data))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")  # a comment has an empty field
        value = value.removeprefix(" ")
        if field == "id":
            last_id = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


def follow(url: str, last_id: str) -> Iterator[Event]:
    """Yield events behind `last_id`, or from now on if it is empty. Reconnects without end."""
    while True:
        request = urllib.request.Request(f"{url}/api/v1/events", headers={"Accept": "text/event-stream"})
        if last_id:
            request.add_header("Last-Event-ID", last_id)
        if token := os.environ.get("FTJM_TOKEN"):
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=SILENCE_SECONDS_MAX) as response:
                for event in parse(response):
                    last_id = event.id or last_id
                    yield event
        except urllib.error.HTTPError as error:
            if error.code < 500:  # the same request would be refused again
                raise
        except OSError as error:
            sys.stderr.write(f"the connection ended ({error}); going on behind the last event\n")
        time.sleep(RETRY_SECONDS)


def main() -> int:
    """Print each event's data, until Ctrl-C or `--limit`."""
    options = _options()
    state: Path | None = options.state
    last_id = state.read_text() if state and state.exists() else ""
    try:
        for number, event in enumerate(follow(options.url.rstrip("/"), last_id), 1):
            print(event.data, flush=True)
            # Written after the work: a crash may repeat an event, and never loses one.
            if state and event.id:
                state.write_text(event.id)
            if number == options.limit:
                break
    except KeyboardInterrupt:
        pass
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Follow ftjm's events over HTTP.")
    parser.add_argument("--url", default="http://127.0.0.1:8484", help="of the API")
    parser.add_argument("--state", type=Path, help="a file that keeps the position over restarts")
    parser.add_argument("--limit", type=int, default=0, help="stop after so many events")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

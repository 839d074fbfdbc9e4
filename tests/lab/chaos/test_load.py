"""A run fails if a job of its load is refused or not acknowledged: the checker could not notice that it is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, cast

import pytest

from ftjm.core.state.model import JobState
from ftjm.lab.chaos.jobs import PlannedJob
from ftjm.lab.chaos.load import ChaosLoad, HttpSubmitter
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

JOBS = [
    PlannedJob(0.0, {"queue": "q", "job_id": f"j{n}"}, frozenset({JobState.SUCCEEDED}), by_http=True) for n in (1, 2)
]


@contextmanager
def api(*statuses: int) -> Iterator[int]:
    """Serve an API that answers with these statuses, and with the last one for ever. Yields its port."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def submitted(port: int, patience_seconds: float = 60.0) -> HttpSubmitter:
    http = HttpSubmitter(port, patience_seconds)
    for job in (*JOBS, None):
        http.queue.put(job)
    http.start()
    http.join()
    return http


def test_a_job_that_the_api_cannot_take_now_is_submitted_again():
    with api(503, 429, 500, 201) as port:
        http = submitted(port)
    assert http.failure is None
    assert http.acknowledged == {("q", "j1"), ("q", "j2")}


def test_a_job_that_the_api_refuses_fails_the_load():
    with api(201, 422) as port:
        http = submitted(port)
    assert "expected the API to accept q/j2, but found 422" in str(http.failure)
    assert http.acknowledged == {("q", "j1")}


def test_a_job_that_is_not_accepted_in_time_fails_the_load():
    with api(503) as port:
        http = submitted(port, 0.0)
    assert "q/j1 to be accepted in 0 s" in str(http.failure)


def test_a_load_is_finished_only_when_all_jobs_are_acknowledged():
    load = ChaosLoad(cast("Settings", None), JOBS, [], 0)
    load.start = load.join = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(FtjmError, match="all 2 jobs to be acknowledged, but found 2 were not: q/j1, q/j2"):
        load.finish()
    load._http.acknowledged = {("q", "j1"), ("q", "j2")}
    load.finish()
    load._http.failure = FtjmError("a", "b", "c")
    with pytest.raises(FtjmError, match="expected a"):
        load.finish()

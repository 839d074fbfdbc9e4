"""Nothing that one request sends or asks for keeps the API from the others: bodies, pages, listeners."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from ftjm.adapters.avro import codec
from ftjm.api.http import connections, routing
from ftjm.api.http.query_models import HistoryQuery
from ftjm.api.http.routing import CheckedRequest, Handler, reply
from ftjm.api.http.service import Service
from ftjm.api.routes import cluster as cluster_routes
from ftjm.api.routes import commands, events, jobs
from ftjm.api.routes import queues as queue_routes
from ftjm.api.server import CONNECTION_SETTINGS, Binding, application
from ftjm.core import json_values
from ftjm.core.queue_gates import QueueRows
from ftjm.core.records import events as e
from ftjm.core.records.messages import JobOutcome, SessionState, WorkerHeartbeat
from ftjm.core.state.model import Job, JobSpec, JobState
from ftjm.engine.ports import EventRecord
from ftjm.history.jobs import Recorded
from ftjm.readmodel import cluster as readmodel_cluster
from ftjm.readmodel import queries
from ftjm.readmodel.documents.job import job_summary, outcome_document
from ftjm.readmodel.presence import Presence
from ftjm.readmodel.queries import Filter, Reader
from ftjm.readmodel.tables import Tables
from ftjm.runtime import config
from ftjm.runtime.durations import format_time, parse_time
from ftjm.specs import json_text
from ftjm.specs.job import InvalidJobError, parse_job
from ftjm.specs.problems import PROBLEMS_MAX
from tests.readmodel.generated import write_jobs
from tests.readmodel.test_paging import pages

LIMIT_SECONDS = 30.0
JSON = {"Content-Type": "application/json"}


@contextlib.asynccontextmanager
async def api(folder: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """An API without Kafka, and a client of it."""
    service = Service(config.load(bootstrap="127.0.0.1:1", data_dir=folder), folder)
    runner = web.AppRunner(application(service, Binding()))
    await runner.setup()
    server = await connections.listen(runner, "127.0.0.1", 0, CONNECTION_SETTINGS)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LIMIT_SECONDS)) as session:
            yield session, address
    finally:
        server.close()
        await runner.cleanup()


def post(folder: Path, body: bytes, **headers: str) -> tuple[int, Any]:
    async def ask() -> tuple[int, Any]:
        async with api(folder) as (session, address):
            named = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.post(f"{address}/jobs", data=body, headers=named) as answer:
                return answer.status, await answer.json(content_type=None)

    return asyncio.run(ask())


# ---- bodies

LARGE: dict[str, Any] = {
    "unknown": {"command": ["x"], **{f"prioritz{n:06d}": 1 for n in range(45_000)}},
    "unknown-few": {"command": ["x"], **{f"prioritz{n:06d}": 1 for n in range(150)}},
    "unknown-long": {"command": ["x"], **{f"{n:04d}" + "ypoirti" * 60: 1 for n in range(190)}},
    "words": {"command": "x " * 400_000},
    "list": {"command": ["x"] * 200_000},
    "labels": {"command": ["x"], "labels": {f"l{n}": "" for n in range(80_000)}},
    "env": {"command": ["x"], "env": {"=": "", **{f"={n}": 1 for n in range(90_000)}}},
    "env-few": {"command": ["x"], "env": {f"={n}": 1 for n in range(9_000)}},
    "value": {"command": ["x"], "queue": [[]] * 300_000},
    "values": {"command": ["x"], "backoff": {f"n{n}": [[]] * 1_000 for n in range(200)}},
}


@pytest.mark.parametrize("which", LARGE)
def test_faults_are_bounded_before_they_are_worded(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(name: str, *_: object) -> list[str]:
        compared.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", compare)
    with pytest.raises(InvalidJobError) as caught:
        parse_job(LARGE[which])
    assert 1 <= len(caught.value.problems) <= PROBLEMS_MAX + 10
    assert len(compared) <= PROBLEMS_MAX
    assert max(map(len, compared), default=0) <= 40
    assert max(len(problem.text) for problem in caught.value.problems) < 1_000


@pytest.mark.parametrize("which", ["unknown", "env", "words"])
def test_a_large_body_is_checked_beside_the_event_loop(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def checked(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return parse_job(*arguments)

    decode = json_text.decode_item

    def decoded(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return decode(*arguments)

    monkeypatch.setattr(commands, "parse_job", checked)
    monkeypatch.setattr(routing, "decode_item", decoded)
    status, problem = post(tmp_path, msgspec.json.encode(LARGE[which]))
    assert (status, bool(problem["errors"])) == (422, True)
    assert len(threads) == 2
    assert all(name.startswith("checker") for name in threads), threads


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b'{"command": "a", "command": "b"}', 422, ["command"]),
        (b'{"command": "a", "payload": {"n": [1e999]}}', 422, ["payload", "n", 0]),
        (b'{"command": "a", "payload": ' + b"9" * 5_000 + b"}", 422, ["payload"]),
        (b'{"command": "a", "timeout": "' + b"9" * 400 + b's"}', 422, ["timeout"]),
        (b'{"command": "a", "payload": "\\ud83c"}', 422, ["payload"]),
        (b'{"command": "a"', 400, []),
        (b'{"command": "caf\xe9"}', 400, []),
    ],
    ids=["repeated", "infinite", "long", "duration", "surrogate", "cut", "latin-1"],
)
def test_a_job_is_read_by_the_rules_of_files(body: bytes, status: int, path: list[Any], tmp_path: Path) -> None:
    found, problem = post(tmp_path, body)
    assert (found, problem["errors"][0]["path"]) == (status, path)


@pytest.mark.parametrize(
    ("body", "headers", "statuses"),
    [
        (b'{"command":["true"]}', {"Content_Encoding": "gzip"}, {415}),
        (gzip.compress(bytes(50_000_000)), {"Content_Encoding": "gzip"}, {415}),
        (b'{"command":["true"]}', {"Content_Encoding": "br"}, {415}),
        (b'{"command":["true"],"payload":' + b"[" * 900 + b"]" * 900 + b"}", {}, {400, 422}),
        (b'{"command":["true"],"payload":' + b"[" * 101 + b"]" * 101 + b"}", {}, {400, 422}),
        (b'{"task":"a","args":' + b"[" * 100 + b"]" * 100 + b"}", {}, {400, 422}),
        (b'{"command":["true"],"queue":' + b"[" * 990 + b"]" * 990 + b"}", {}, {400, 422}),
        (b"[" * 500_000, {}, {400}),
        (b'{"command":["true"],"payload":"\xff"}', {}, {400}),
        (b'{"command":["true"],"timeout":"' + b"9" * 400 + b's"}', {}, {422}),
    ],
)
def test_what_is_refused_is_refused_at_the_door(
    tmp_path: Path, body: bytes, headers: dict[str, str], statuses: set[int]
) -> None:
    status, problem = post(tmp_path, body, **headers)
    assert status in statuses, problem
    assert "expected" in problem["detail"] or "errors" in problem


# ---- what came in goes out


@pytest.mark.parametrize("depth", [1, 99, 100, 101, 254, 260, 900, 5_000, 200_000])
def test_a_result_of_any_depth_is_answered(depth: int) -> None:
    """Older programs, and programs of others, have written results of any depth to the log."""
    data = b"[" * depth + b"1" + b"]" * depth
    outcome = JobOutcome(
        session="", correlation="", queue="q", job_id="j", run=1, state="SUCCEEDED", reason="", exit_code=0, error="",
        result=data,
    )  # fmt: skip
    answer = reply(outcome_document(outcome)).body
    assert isinstance(answer, bytes)
    result = json.loads(answer)["result"]
    assert result == (json.loads(data) if depth <= json_values.DEPTH_MAX else data.decode())


@pytest.mark.parametrize("time_ms", [-(10**15), -1, 1, 10**15, 10**18, (1 << 63) - 1, -(1 << 63)])
def test_a_job_with_an_absurd_time_is_shown(time_ms: int) -> None:
    job = Job(JobState.READY, submitted_at=time_ms, started_at=time_ms, ended_at=time_ms, due_at=time_ms)
    summary = job_summary("q/j", job, {}, "")
    assert reply(summary).status == 200
    assert parse_time(summary.submitted_at) > 0
    assert format_time(0) == ""


# ---- pages


def test_a_page_of_jobs_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables(None)
    write_jobs(tables, 0, 60, queues=3)
    reader = Reader(tables.connection)
    for wanted in (Filter(), Filter(labels=(("team", "t0"),)), Filter(queue="q1")):
        [whole] = pages(reader, wanted, 1_000)
        sizes = [len(listed.labels) + len(msgspec.msgpack.encode(listed.job)) for listed in whole]
        monkeypatch.setattr(queries, "PAGE_BYTES_MAX", 3 * max(sizes))
        found = pages(reader, wanted, 1_000)
        assert [listed.key for page in found for listed in page] == [listed.key for listed in whole]
        assert len(found) > 1
        assert max(map(len, found)) < len(whole)
        monkeypatch.setattr(queries, "PAGE_BYTES_MAX", 1)
        assert {len(page) for page in pages(reader, wanted, 1_000)} == {1}
        monkeypatch.undo()


def test_a_page_of_a_history_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    event = e.JobSubmitted(queue="q", job_id="j", spec=JobSpec(command=["x"], payload=b'"%b"' % (b"x" * 1_000)))
    offsets = list(range(0, 400, 2))
    reads: list[int] = []

    async def read_events(_found: Any, wanted: list[int]) -> list[Recorded]:
        reads.append(len(wanted))
        return [Recorded(0, offset, event) for offset in wanted if offset != 8]  # one was trimmed

    async def answer(value: Any) -> Any:
        return value

    service: Any = SimpleNamespace(
        job=lambda **_: answer(SimpleNamespace(listed=SimpleNamespace(id=1))),
        read=lambda query: answer(query(SimpleNamespace(events=lambda _job, after, limit: [
            offset for offset in offsets if offset > after
        ][:limit]))),
        events=read_events,
        status=SimpleNamespace(),
    )  # fmt: skip
    monkeypatch.setattr(jobs, "PAGE_BYTES_MAX", 20_000)
    monkeypatch.setattr(jobs, "freshness_document", lambda _: None)
    seen: list[int] = []
    cursor: int | None = None
    sizes: list[int] = []
    while True:
        http: Any = SimpleNamespace(match_info={"queue": "q", "job_id": "j"})
        query = HistoryQuery.model_validate({"limit": 150, "cursor": cursor})
        body = asyncio.run(jobs.history(CheckedRequest(service, http, query, None))).body  # type: ignore[attr-defined]
        page = json.loads(body)
        sizes.append(len(body))
        seen += [one["offset"] for one in page["events"]]
        cursor = page.get("next")
        if cursor is None:
            break
    assert seen == [offset for offset in offsets if offset != 8]
    assert max(sizes) < 25_000
    assert max(reads) <= jobs.EVENTS_AT_ONCE


def body_of(path: Handler, service: Any, query: Any) -> bytes:
    """What a handler answers."""
    unused: Any = None

    async def answer() -> Any:
        return await path(CheckedRequest(service, unused, query, None))

    body: bytes = asyncio.run(answer()).body
    return body


def named_on_all_pages(path: Handler, service: Any, group: str, *, bytes_max: int) -> list[str]:
    """The names on all pages of queues or workers, each of which is shorter than `bytes_max`."""
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query: Any = SimpleNamespace(cursor=cursor, limit=100, declared=False)
        body = body_of(path, service, query)
        assert len(body) < bytes_max
        page = json.loads(body)
        seen += [one[group.removesuffix("s")] for one in page[group]]
        cursor = page.get("next")
        if cursor is None:
            return seen


def test_a_page_of_queues_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"q{n:03d}" for n in range(50)]

    nothing = QueueRows(None, None, None, None)

    async def read(query: Any) -> Any:
        return query(SimpleNamespace(
            queues=lambda behind, limit, declared: [(n, nothing) for n in names if n > behind][:limit],
            oldest_ready=lambda _: 0,
        ))  # fmt: skip

    presence = SimpleNamespace(owners=dict)
    service: Any = SimpleNamespace(
        read=read,
        listener=SimpleNamespace(presence=presence),
        follower=SimpleNamespace(partitions=4),
        status=SimpleNamespace(),
    )
    serving = [SimpleNamespace(worker=f"{n:0100d}", slots=1, busy=0) for n in range(20)]
    monkeypatch.setattr(readmodel_cluster, "workers_by_queue", lambda _: dict.fromkeys(names, serving))
    monkeypatch.setattr(queue_routes, "freshness_document", lambda _: None)
    monkeypatch.setattr(cluster_routes, "PAGE_BYTES_MAX", 5_000)
    assert named_on_all_pages(queue_routes.queues, service, "queues", bytes_max=9_000) == names


def test_a_page_of_workers_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    presence = Presence()
    names = [f"w{n:03d}" for n in range(50)]
    for name in reversed(names):
        queues = [f"{n:0100d}" for n in range(20)]
        beat = WorkerHeartbeat(session=name, worker=name, host="h", pid=1, state=SessionState.OPEN, lane=0,
                               lease_ms=5_000, slots=1, busy=0, queues=queues, offers=[])  # fmt: skip
        presence.receive(codec.encode(beat), time.monotonic())
    service: Any = SimpleNamespace(listener=SimpleNamespace(presence=presence))
    monkeypatch.setattr(cluster_routes, "PAGE_BYTES_MAX", 20_000)
    assert named_on_all_pages(cluster_routes.workers, service, "workers", bytes_max=25_000) == names
    service.status = SimpleNamespace(connected=False)
    service.settings = SimpleNamespace(cluster="ftjm")
    monkeypatch.setattr(cluster_routes, "freshness_document", lambda _: None)
    body = body_of(cluster_routes.topology, service, None)
    assert len(body) < 25_000
    first = json.loads(body)
    assert [one["worker"] for one in first["workers"]] == names[: len(first["workers"])]
    assert first["next_worker"] == first["workers"][-1]["session"]


# ---- listeners


class Busy(list[EventRecord]):
    """A buffer in which further events of another queue always wait."""

    def __init__(self, endless: bool) -> None:
        super().__init__()
        self.endless = endless
        self.offset = 0

    def take(self, most: int) -> list[EventRecord]:
        if self.endless:
            self.append(self.next())
        taken, self[:] = self[:most], self[most:]
        return taken

    def next(self) -> EventRecord:
        self.offset += 1
        return EventRecord(self.offset, codec.encode(e.JobQueued(queue="busy", job_id="j")), b"busy/j")


@pytest.mark.parametrize("load", ["idle", "now-and-then", "endless"])
def test_a_listener_of_a_quiet_queue_hears_how_far_it_is(load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "COMMENT_SECONDS", 0.1)
    written: list[bytes] = []

    async def main() -> list[int]:
        service: Any = SimpleNamespace(draining=asyncio.Event())
        arrived, buffer = asyncio.Event(), Busy(load == "endless")

        async def write(data: bytes) -> None:
            written.append(data)

        response: Any = SimpleNamespace(write=write)
        buffers: Any = {0: buffer}
        stream = events._Stream(buffers, frozenset({b"quiet/"}), [0])
        sending = asyncio.create_task(events._send_events(service, response, stream, arrived))
        deadline = time.monotonic() + LIMIT_SECONDS
        while len(written) < 3 and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            if load == "now-and-then":
                buffer.append(buffer.next())
                arrived.set()
        service.draining.set()
        await asyncio.wait_for(sending, LIMIT_SECONDS)
        return stream.position

    position = asyncio.run(asyncio.wait_for(main(), 2 * LIMIT_SECONDS))
    assert len(written) >= 3
    assert all(text.startswith(b": alive\nid: ") for text in written)
    ids = [events.decode_position(text.split()[-1].decode(), 1)[0] for text in written]
    assert ids == sorted(ids)
    assert (ids[-1] > ids[0]) == (load != "idle")
    assert position[0] >= ids[-1]

"""Backfills on a real Kafka: by the command line over a kill of the owner, and over HTTP."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter

from ftjm.core.records import events as e
from ftjm.core.state.schedules import FiredBy
from ftjm.runtime.durations import format_time
from integration.apis import start_api
from integration.harness import QUEUES, Cluster, LogTail
from integration.test_limits import ready
from integration.test_metrics import until_ready
from integration.test_operations import rows, run, started
from integration.test_schedules import apply, check_each_instant_once, firings, with_worker, write
from integration.waiting import LIMIT_SECONDS, until

QUEUE = QUEUES[0]
HOUR_MS = 3_600_000
INSTANTS = 24
MAX_ACTIVE = 3


def hours_ago(hours: int) -> str:
    now = time.time_ns() // 1_000_000
    return format_time(now - now % HOUR_MS - hours * HOUR_MS)


def check_never_more_than(log: list[e.Event], limit: int) -> None:
    """No more jobs of backfills than this have not ended at any time."""
    active: set[str] = set()
    for event in log:
        if isinstance(event, e.ScheduleFired) and event.by is FiredBy.BACKFILL:
            active.add(event.job_id)
        elif isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled):
            active.discard(event.job_id)
        assert len(active) <= limit, event


def test_instants_of_a_day_get_their_jobs_while_the_owner_is_killed(running: Cluster) -> None:
    settings, scheduler = running.settings, ready(running)
    with_worker(running)
    key = f"{QUEUE}/hourly"
    apply(running, write("hourly", "interval: 1h", "sleep 0.3; echo $FTJM_INTERVAL_START"))
    rows(settings, "schedule", "pause", key)
    times = ("--from", hours_ago(INSTANTS - 1), "--to", hours_ago(0))
    dry = rows(settings, "schedule", "backfill", key, *times, "--dry-run")
    assert dry == {"schedule": key, "instants": INSTANTS, "to_submit": INSTANTS, "to_rerun": 0, "to_keep": 0}
    begin = ("schedule", "backfill", key, *times, "--max-active", str(MAX_ACTIVE), "--command-id", "day")
    request = started(settings, *begin, "-o", "json", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with LogTail(settings) as tail:

        def ended() -> list[e.Event]:
            batches = tail.read_on().batches.values()
            events = [event for of in batches for batch in of for event in batch.events]
            return [event for event in events if isinstance(event, e.AttemptSucceeded)]

        until(lambda: len(ended()) > 4, "some runs to end")
    scheduler.kill()
    assert request.poll() is None, "who waits is still waiting"
    [listed] = rows(settings, "schedule", "backfills")
    assert (listed["request"], listed["status"], listed["instants"]) == (f"{key}/day", "UNDER_WAY", INSTANTS)
    scheduler.start()
    out, err = request.communicate(timeout=LIMIT_SECONDS)
    assert request.returncode == 0, err
    [done] = json.loads(out)
    assert (done["status"], done["submitted"], done["succeeded"]) == ("DONE", INSTANTS, INSTANTS)
    assert rows(settings, *begin) == [done], "a repeated request is the same"
    again = rows(settings, "schedule", "backfill", key, *times)
    assert [again[0][count] for count in ("submitted", "kept")] == [0, INSTANTS]
    fired = firings(running.log(), "hourly", FiredBy.BACKFILL)
    log = running.until_done((f.queue, f.job_id) for f in fired)
    check_each_instant_once(log)
    assert Counter(f.instant for f in fired).keys() == {f.instant for f in fired}
    assert len(fired) == INSTANTS
    check_never_more_than([event for batch in log.batches[0] for event in batch.events], MAX_ACTIVE)
    late = run(settings, "schedule", "backfill", key, "--from", "1d", "--to", "2099-01-01T00:00:00Z")
    assert (late.returncode, "to: expected a time that has passed" in late.stderr) == (1, True)
    assert rows(settings, "schedule", "describe", key)["paused"]


def test_a_backfill_over_http_is_seen_stopped_and_its_failed_jobs_run_again(running: Cluster) -> None:
    settings, scheduler = running.settings, running.scheduler()
    until_ready(scheduler)
    running.until_owners("a")
    api = start_api(running)
    apply(running, write("hourly", "interval: 1h", "exit 3"))
    path = f"/schedules/{QUEUE}/hourly/backfills"
    body = {"from": hours_ago(9), "to": hours_ago(0), "max_active": 2}
    answer = api.post(path, body, Idempotency_Key="k1")
    assert (answer.status, answer.json["schedule"], answer.json["decided"]) == (202, f"{QUEUE}/hourly", True)
    location = answer.headers["location"].removeprefix("/api/v1")
    assert api.post(path, body, Idempotency_Key="k1").json["id"] == answer.json["id"], "sent again, it is the same"
    second = api.post(path, body)
    assert (second.status, second.json["code"]) == (409, "UNDER_WAY")
    until(lambda: api.get(location).json["active"] == 2, "two jobs")
    with_worker(running)
    until(lambda: api.get(location).json["status"] == "DONE", "the end of all runs")
    found = api.get(location).json
    assert (found["instants"], found["failed"], found["active"]) == (10, 10, 0)
    again = api.post(path, body | {"reprocess": "failed", "max_active": 1}).json
    stopped = api.post(f"{path}/{again['id']}/stop")
    assert stopped.status == 202, stopped.body
    seen = api.get(f"{path}/{again['id']}?after={stopped.json['token']}").json
    assert (seen["status"], seen["reprocess"]) == ("STOPPED", "failed")
    page = api.get("/backfills?limit=1").json
    rest = api.get(f"/backfills?limit=1&cursor={page['next']}").json
    assert {one["id"] for one in page["backfills"] + rest["backfills"]} == {answer.json["id"], again["id"]}
    assert api.get(f"/backfills?schedule={QUEUE}/other").json["backfills"] == []
    by_api, by_log = (
        rows(settings, "schedule", "backfills", *source)
        for source in (("--api", f"http://127.0.0.1:{api.port}"), ("--from-log",))
    )
    assert by_api == by_log
    for wrong_path, wrong, status in (
        (path, {}, 422),
        (path, {"from": "soon", "to": hours_ago(0)}, 422),
        (path, body | {"max_active": 0}, 422),
        (path, body | {"reprocess": "all"}, 422),
        (path, body | {"to": hours_ago(20)}, 422),
        (path, body | {"to": "2099-01-01T00:00:00Z"}, 422),
        (f"/schedules/{QUEUE}/none/backfills", body, 404),
        (f"{path}/none/stop", None, 404),
    ):
        refusal = api.post(wrong_path, wrong)
        assert refusal.status == status, (wrong_path, wrong, refusal.body)
    assert api.get(f"{path}/none").json["code"] == "UNKNOWN_BACKFILL"

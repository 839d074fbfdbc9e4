"""Bulk requests on a real Kafka: by the command line over a kill of the owner, and over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess

from ftjm.client.command_client import Client
from ftjm.core.records import events as e
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.runtime.config import Settings
from integration.apis import start_api
from integration.harness import QUEUES, Cluster, LogTail
from integration.test_metrics import until_ready
from integration.test_operations import rows, run, started
from integration.waiting import LIMIT_SECONDS, until

QUEUE, OTHER = QUEUES[:2]
JOBS = 12_000
"""So many that a request about them is under way for a while."""


def fill(settings: Settings, queue: str, jobs: int) -> None:
    """Submit jobs that wait. Every second one has the label app=a."""
    with Client(settings) as client:
        tickets = [
            client.ticket(SubmitJob(queue=queue, job_id=f"j{number:05}", spec=spec))
            for number in range(jobs)
            for spec in [JobSpec(command=["true"], labels={"app": "a"} if number % 2 else {}, held=number % 4 < 2)]
        ]
        client.hand_over(tickets)
        client.confirm()
        assert client.decided(tickets, LIMIT_SECONDS)


def counts(settings: Settings, *filters: str) -> dict[str, int]:
    [row] = rows(settings, "bulk", "prioritize", "--priority", "1", "--dry-run", *filters)
    found: dict[str, int] = row["states"]
    return found


def test_jobs_of_a_label_are_cancelled_while_their_owner_is_killed(running: Cluster) -> None:
    settings, scheduler = running.settings, running.scheduler()
    until_ready(scheduler)
    running.until_owners("a")
    fill(settings, QUEUE, JOBS)
    fill(settings, OTHER, 20)
    assert counts(settings, "--queue", QUEUE, "--label", "app=a") == {"READY": JOBS // 4, "HELD": JOBS // 4}
    scheduler.pause()  # so that it is killed behind its first slices, however fast this machine is
    options = ("--queue", QUEUE, "--label", "app=a", "--reason", "wrong width", "-o", "json")
    request = started(settings, "bulk", "cancel", *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with LogTail(settings) as tail:

        def slices() -> list[e.BulkAdvanced]:
            batches = tail.read_on().batches.values()
            found = [event for of in batches for batch in of for event in batch.events]
            return [event for event in found if isinstance(event, e.BulkAdvanced)]

        scheduler.resume()
        until(slices, "the request to be under way")
        scheduler.kill()
        under_way = slices()[-1]
        assert under_way.next_job, "it was killed before the end"
        assert request.poll() is None, "who waits is still waiting"
        [listed] = rows(settings, "bulk", "list")
        assert (listed["status"], listed["looked"] >= under_way.looked, listed["jobs"]) == ("UNDER_WAY", True, JOBS)
        scheduler.start()
        out, err = request.communicate(timeout=LIMIT_SECONDS)
        assert request.returncode == 0, err
        [done] = json.loads(out)
        assert (done["status"], done["changed"], done["refused"], done["looked"]) == ("DONE", JOBS // 2, 0, JOBS)
        assert rows(settings, "bulk", "list") == [done]
    log = running.log()
    cancelled = [(event.queue, event.job_id) for event in log.events(e.JobCancelled)]
    assert sorted(cancelled) == [(QUEUE, f"j{number:05}") for number in range(1, JOBS, 2)], "each once, no others"
    assert counts(settings, "--queue", QUEUE) == {"READY": JOBS // 4, "HELD": JOBS // 4}
    assert counts(settings, "--queue", OTHER) == {"READY": 10, "HELD": 10}
    assert rows(settings, "get", f"{QUEUE}/j00001")["reason"] == "wrong width"


def test_a_request_is_interrupted_repeated_and_stopped(running: Cluster) -> None:
    settings, scheduler = running.settings, running.scheduler()
    until_ready(scheduler)
    running.until_owners("a")
    fill(settings, QUEUE, 400)
    scheduler.pause()
    begin = ("bulk", "hold", "--all-queues", "--command-id", "h1")
    request = started(settings, *begin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert request.stderr is not None
    assert "not decided yet" in request.stderr.readline()
    request.send_signal(signal.SIGINT)
    _, err = request.communicate(timeout=LIMIT_SECONDS)
    assert (request.returncode, f"`ftjm bulk stop {QUEUE}/h1`" in err) == (130, True)
    scheduler.resume()
    again = rows(settings, *begin)
    assert [(row["status"], row["changed"], row["refused"]) for row in again] == [("DONE", 200, 0)]
    stopped = run(settings, "bulk", "stop", f"{QUEUE}/h1")
    assert (stopped.returncode, "UNKNOWN_BULK" in stopped.stderr) == (1, True)


def test_a_request_over_http_is_seen_and_stopped(running: Cluster) -> None:
    settings, scheduler = running.settings, running.scheduler()
    until_ready(scheduler)
    running.until_owners("a")
    api = start_api(running)
    fill(settings, QUEUE, JOBS)
    with api.listen(f"/events?queue={QUEUE}") as events:
        wanted = {"action": "prioritize", "priority": 90, "filter": {"labels": {"app": "a"}}, "reason": "urgent"}
        answer = api.post(f"/queues/{QUEUE}/bulk", wanted, Idempotency_Key="k1")
        assert (answer.status, answer.json["queue"], answer.json["decided"]) == (202, QUEUE, True)
        name, location = answer.json["id"], answer.headers["location"].removeprefix("/api/v1")
        told = [next(events)["event"]]
        assert told == ["BulkBegun"]
        again = api.post(f"/queues/{QUEUE}/bulk", wanted, Idempotency_Key="k1")
        assert (again.status, again.json["id"]) == (202, name), "sent again, it is the same request"
        stopped = api.post(f"{location}/stop")
        assert stopped.status == 202, stopped.body
        while told[-1] != "BulkStopped":
            told.append(next(events)["event"])
    found = api.get(f"{location}?after={stopped.json['token']}").json
    assert (found["status"], found["jobs"], found["reason"], found["priority"]) == ("STOPPED", JOBS, "urgent", 90)
    assert found["changed"] == told.count("JobPrioritized") < JOBS // 2
    second = api.post(f"/queues/{QUEUE}/bulk", wanted).json

    def status() -> str:
        return str(api.get(f"/queues/{QUEUE}/bulk/{second['id']}?after={second['token']}").json["status"])

    until(lambda: status() == "DONE", "the second request to end")
    for path in ("/bulk", f"/queues/{QUEUE}/bulk"):
        page = api.get(f"{path}?limit=1").json
        rest = api.get(f"{path}?limit=1&cursor={page['next']}").json
        assert {one["id"] for one in page["requests"] + rest["requests"]} == {name, second["id"]}
        assert "next" not in rest
    assert api.get(f"/queues/{OTHER}/bulk").json["requests"] == []
    assert api.get(f"/jobs/{QUEUE}/j00001").json["priority"] == 90
    one = api.post(f"/jobs/{QUEUE}/j00000/prioritize", {"priority": 0})
    assert (one.status, api.get(f"/jobs/{QUEUE}/j00000?after={one.json['token']}").json["priority"]) == (202, 0)
    by_api, by_log = (
        rows(settings, "bulk", "list", *source)
        for source in (("--api", f"http://127.0.0.1:{api.port}"), ("--from-log",))
    )
    assert by_api == by_log

    for path, body, status_code in (
        (f"/queues/{QUEUE}/bulk", {}, 422),
        (f"/queues/{QUEUE}/bulk", {"action": "delete"}, 422),
        (f"/queues/{QUEUE}/bulk", {"action": "cancel", "priority": 3}, 422),
        (f"/queues/{QUEUE}/bulk", {"action": "prioritize"}, 422),
        (f"/queues/{QUEUE}/bulk", {"action": "hold", "filter": {"state": ["READY"]}}, 422),
        (f"/queues/{QUEUE}/bulk", {"action": "hold", "filter": {"states": ["ready"]}}, 422),
        (f"/queues/{QUEUE}/bulk", {"action": "hold", "filter": {"submitted_after": 5}}, 422),
        ("/queues/no%20name/bulk", {"action": "hold"}, 422),
        (f"{location}/stop", None, 404),
        (f"/jobs/{QUEUE}/j00000/prioritize", {"priority": 101}, 422),
        (f"/jobs/{QUEUE}/none/prioritize", {"priority": 1}, 404),
    ):
        refusal = api.post(path, body)
        assert refusal.status == status_code, (path, body, refusal.body)
        assert refusal.headers["content-type"].startswith("application/problem+json")
    assert api.post(f"{location}/stop").json["code"] == "UNKNOWN_BULK"
    assert api.get(f"/queues/{QUEUE}/bulk/none").json["code"] == "UNKNOWN_BULK"

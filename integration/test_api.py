"""The API on a real cluster: commands, reads, events, and refusals."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from ftjm.core.identity import partition_for
from ftjm.local.kafka import EmbeddedKafka
from integration.apis import Answer, Api, start_api
from integration.waiting import until
from integration.workers import Site


@pytest.fixture(scope="module")
def site(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("api")) as made:
        made.until_owners("s")
        made.start_worker("served", slots=2)
        yield made


@pytest.fixture(scope="module")
def api(site: Site) -> Api:
    return start_api(site)


def job(**fields: object) -> dict[str, object]:
    return {"queue": "served", "command": ["true"], **fields}


def refused(answer: Answer, status: int) -> dict[str, object]:
    """Check that the answer is a problem document with this status, and return it."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, object] = answer.json
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


# ---- commands


def test_a_job_is_submitted_waited_for_and_read(api: Api) -> None:
    command = ["sh", "-c", 'echo out; echo err >&2; echo "{\\"n\\": 1}" > "$FTJM_RESULT_FILE"']
    answer = api.post("/jobs?wait=60s", job(job_id="a", command=command, labels={"team": "x"}, payload={"k": [1]}))
    assert (answer.status, answer.headers["location"]) == (200, "/api/v1/jobs/served/a")
    assert answer.json["outcome"] == {
        "state": "SUCCEEDED",
        "exit_code": 0,
        "result": {"n": 1},
    }
    token = answer.json["token"]
    shown = api.get(f"/jobs/served/a?after={token}").json
    assert (shown["state"], shown["command"], shown["payload"]) in [
        (state, command, {"k": [1]}) for state in ("READY", "DISPATCHED", "RUNNING", "SUCCEEDED")
    ]
    until(lambda: api.get("/jobs/served/a").json["state"] == "SUCCEEDED", "the projection to see the end")
    shown = api.get("/jobs/served/a").json
    assert (shown["result"], shown["labels"], shown["exit_code"]) == ({"n": 1}, {"team": "x"}, 0)
    assert shown["worker"].startswith("w")
    history = api.get("/jobs/served/a/history").json["events"]
    assert [one["event"] for one in history][:2] == ["JobSubmitted", "AttemptDispatched"]
    assert history[-1]["event"] == "AttemptSucceeded"
    assert history[0]["actor"] == "http@127.0.0.1"
    pages = []
    cursor = ""
    while cursor is not None:
        page = api.get(f"/jobs/served/a/history?limit=1{f'&cursor={cursor}' if cursor else ''}").json
        pages += page["events"]
        cursor = page.get("next")
    assert pages == history
    logs = api.get("/jobs/served/a/logs").json
    assert (logs["stdout"], logs["stderr"], logs["attempt"]) == ("out\n", "err\n", 1)
    until(lambda: not api.get("/jobs/served/a/logs").json["freshness"]["stale"], "a read that is fresh")


def test_a_job_shows_its_progress_and_its_checkpoint(api: Api) -> None:
    script = (
        'echo \'{"progress": 0.5, "text": "half"}\' > "$FTJM_PROGRESS_FILE"; '
        'echo "[7]" > "$FTJM_CHECKPOINT_FILE"; sleep 60'
    )
    api.post("/jobs", job(job_id="far", command=["sh", "-c", script], cancel_grace="1s"))

    def is_reported() -> bool:
        found = api.get("/jobs/served/far").json
        return (found.get("progress"), found.get("progress_text"), found.get("checkpoint")) == (0.5, "half", [7])

    until(is_reported, "the job's progress and its checkpoint")
    api.post("/jobs/served/far/cancel")
    until(lambda: api.get("/jobs/served/far").json["state"] == "CANCELLED", "the job to stop")


def test_the_output_of_every_attempt_is_found(api: Api) -> None:
    fields = job(
        job_id="often", command=["sh", "-c", "echo $FTJM_ATTEMPT; exit 3"], max_attempts=4, backoff={"initial": "0s"}
    )
    ended = api.post("/jobs?wait=60s", fields).json
    assert ended["outcome"]["state"] == "FAILED"
    until(lambda: api.get("/jobs/served/often").json["state"] == "FAILED", "the projection to see the end")
    for attempt in range(1, 5):
        assert api.get(f"/jobs/served/often/logs?attempt={attempt}").json["stdout"] == f"{attempt}\n"
    assert api.get("/jobs/served/often/logs").json["attempt"] == 4
    assert refused(api.get("/jobs/served/often/logs?attempt=5"), 404)["code"] == "NO_OUTPUT"


def test_the_same_job_is_accepted_again_and_other_content_is_refused(api: Api) -> None:
    first = api.post("/jobs", job(job_id="same", delay="1h"))
    again = api.post("/jobs", job(job_id="same", delay="1h"))
    assert (first.status, again.status, again.json["decided"]) == (202, 202, True)
    other = refused(api.post("/jobs", job(job_id="same", delay="2h")), 409)
    assert (other["code"], other["job"]) == ("IDENTITY_TAKEN", "served/same")


def test_an_idempotency_key_names_the_job(api: Api) -> None:
    one = [api.post("/jobs", job(delay="1h"), Idempotency_Key="order 1").json["job_id"] for _ in range(3)]
    two = api.post("/jobs", job(delay="1h"), Idempotency_Key="order 2").json["job_id"]
    assert len(set(one)) == 1
    assert two not in one
    refused(api.post("/jobs", job(delay="9h"), Idempotency_Key="order 1"), 409)
    refused(api.post("/jobs", job(), Idempotency_Key="k" * 256), 400)


def test_a_wrong_job_is_refused_with_an_error_for_each_field(api: Api) -> None:
    problem = refused(api.post("/jobs", {"command": "true", "priority": 200, "timeot": "1m"}), 422)
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert {error["path"][0] for error in errors} == {"priority", "timeot"}
    errors = refused(api.post("/jobs", {"task": "a.b", "args": 7, "payload": {}}), 422)["errors"]
    assert isinstance(errors, list)
    assert {error["path"][0] for error in errors} == {"args", "payload"}
    refused(api.post("/jobs", []), 422)
    refused(api.post("/jobs", job(payload="x" * 300_000)), 422)
    refused(api.post("/jobs?wait=2h", job()), 400)


def test_commands_are_decided_by_the_partition(api: Api) -> None:
    api.post("/jobs", job(job_id="c", delay="1h"))
    path = "/jobs/served/c"
    assert refused(api.post("/jobs/served/nix/cancel"), 404)["code"] == "UNKNOWN_JOB"
    assert refused(api.post(f"{path}/release"), 409)["code"] == "WRONG_STATE"
    assert api.post(f"{path}/hold", {"reason": "disk"}).json["state"] == "HELD"
    assert api.post(f"{path}/release").json["state"] == "SCHEDULED"
    cancelled = api.post(f"{path}/cancel", {"reason": "no need"})
    assert (cancelled.status, cancelled.json["state"]) == (202, "CANCELLED")
    shown = api.get(f"{path}?after={cancelled.json['token']}").json
    assert (shown["state"], shown["reason"]) == ("CANCELLED", "no need")
    runs = [api.post(f"{path}/{verb}", Idempotency_Key="once").json["run"] for verb in ("rerun", "rerun", "retry")]
    assert runs == [2, 2, 2]
    until(lambda: api.get(path).json["state"] == "SUCCEEDED", "the second run to end")
    assert api.post(f"{path}/retry").json["run"] == 3
    refused(api.post(f"{path}/cancel", {"reason": "x", "why": 1}), 422)


def test_a_read_sees_what_the_command_of_its_token_changed(api: Api) -> None:
    for n in range(40):
        token = api.post("/jobs", job(queue=f"own{n % 4}", job_id=f"mine-{n}", hold=True)).headers["ftjm-token"]
        found = api.get(f"/jobs?queue=own{n % 4}&state=HELD&limit=1&after={token}").json["jobs"]
        assert [one["job_id"] for one in found] == [f"mine-{n}"]
    assert refused(api.get("/jobs?after=0-999999999"), 400)["code"] == "NO_SUCH_COMMAND"
    refused(api.get("/jobs?after=soon"), 400)


# ---- searching


def test_filters_and_pages(api: Api) -> None:
    token = ""
    for n in range(60):
        body = job(
            queue=f"many{n % 2}", job_id=f"m{n}", hold=n % 3 == 0, labels={"n": str(n % 5), "all": "yes"}, delay="1h"
        )
        token = api.post("/jobs", body).headers["ftjm-token"]
        api.get(f"/jobs?limit=1&after={token}")
    for query, expected in {
        "label=all=yes": range(60),
        "label=all=yes&label=n=2": [n for n in range(60) if n % 5 == 2],
        "queue=many1": [n for n in range(60) if n % 2],
        "queue=many1&state=HELD": [n for n in range(60) if n % 2 and n % 3 == 0],
        "label=all=yes&state=HELD&state=SCHEDULED": range(60),
        "label=all=yes&submitted_before=2020-01-01T00:00:00Z": [],
        "queue=many0&submitted_from=2020-01-01T00:00:00Z": [n for n in range(60) if n % 2 == 0],
    }.items():
        found, cursor = [], ""
        while cursor is not None:
            page = api.get(f"/jobs?{query}&limit=7&cursor={cursor}").json
            found += [int(one["job_id"][1:]) for one in page["jobs"]]
            cursor = page.get("next")
        assert sorted(found) == list(expected), query
        assert len(found) == len(set(found))
    refused(api.get("/jobs?limit=1001"), 400)
    refused(api.get("/jobs?limit=1&limit=2"), 400)
    refused(api.get("/jobs?cursor=nonsense"), 400)
    refused(api.get("/jobs?state=DONE"), 400)


def test_explain_says_why_a_job_is_not_running(api: Api) -> None:
    def explain(queue: str, name: str) -> dict[str, object]:
        explained: dict[str, object] = api.get(f"/jobs/{queue}/{name}/explain").json
        return explained

    def until_explained(queue: str, name: str, reason: str, ahead: int | None = None) -> None:
        """Wait until the reason is this one. What workers and owners tell of themselves is a little old."""

        def told() -> bool:
            found = explain(queue, name)
            return found.get("reason") == reason and ahead in (None, found.get("ahead"))

        until(told, f"{queue}/{name} to wait for {reason}")

    api.post("/jobs", job(job_id="w-held", hold=True))
    api.post("/jobs", job(job_id="w-late", delay="1h"))
    last = api.post("/jobs", job(queue="unserved", job_id="w-last"))
    api.get(f"/jobs?limit=1&after={last.json['token']}")
    until_explained("served", "w-held", "Held")
    until_explained("served", "w-late", "StartTime")
    until_explained("unserved", "w-last", "NoWorker", ahead=0)
    for n in range(2):
        api.post("/jobs", job(job_id=f"busy-{n}", command=["sleep", "60"], cancel_grace="1s"))
    until(lambda: len(api.get("/jobs?queue=served&state=RUNNING").json["jobs"]) == 2, "both slots to be busy")
    api.post("/jobs", job(job_id="w-first"))
    last = api.post("/jobs", job(job_id="w-second"))
    api.get(f"/jobs?limit=1&after={last.json['token']}")
    until_explained("served", "w-first", "Resources")
    until_explained("served", "w-second", "Priority", ahead=1)
    for n in range(2):
        api.post(f"/jobs/served/busy-{n}/cancel")
    until(lambda: explain("served", "w-second")["state"] == "SUCCEEDED", "the slots to be free again")
    assert "reason" not in explain("served", "w-second")
    assert refused(api.get("/jobs/served/nix/explain"), 404)["code"] == "UNKNOWN_JOB"


def test_a_queue_is_paused_and_resumed(api: Api) -> None:
    def explained(token: str) -> dict[str, object]:
        found: dict[str, object] = api.get(f"/jobs/served/p-waits/explain?after={token}").json
        return found

    def paused() -> list[str]:
        return [one["queue"] for one in api.get("/queues").json["queues"] if one.get("paused")]

    try:
        first = api.post("/queues/served/pause", {"reason": "disk"})
        assert (first.status, first.json["queue"]) == (202, "served")
        api.post("/jobs", job(job_id="p-waits"))
        token = api.post("/queues/served/pause", {"reason": "the disk is full"}).json["token"]
        until(lambda: explained(token).get("reason") == "QueuePaused", "the pause to be named")
        assert "the disk is full" in str(explained(token)["text"])
        assert paused() == ["served"]
    finally:
        token = api.post("/queues/served/resume").json["token"]
    until(lambda: explained(token)["state"] == "SUCCEEDED", "the job to run")
    assert paused() == []
    assert refused(api.post("/queues/no%20name/pause"), 422)["detail"]


def resource(name: str, **spec: object) -> dict[str, object]:
    metadata = {"name": name, "labels": {"app": "etl"}}
    return {"apiVersion": "ftjm.io/v1", "kind": "Queue", "metadata": metadata, "spec": spec}


def test_a_queue_is_declared_changed_and_deleted(api: Api) -> None:
    """As in a file of `ftjm apply -f`, and by the same rules."""
    with api.listen("/events?queue=declared") as events:
        answer = api.put("/queues/declared?expected_revision=0", resource("declared", concurrency=3))
        assert (answer.status, answer.json["queue"], answer.json["decided"]) == (202, "declared", True)
        event = next(events)
        assert (event["event"], event["data"]["details"]["spec"]["concurrency"]) == ("QueueApplied", 3)
    shown = api.get(f"/queues/declared?after={answer.json['token']}").json
    first = shown["declaration"]
    assert (first["labels"], first["spec"]) == ({"app": "etl"}, {"concurrency": 3, "ageing": "1m"})
    assert (first["actor"], shown["ready"], "freshness" in shown) == ("http@127.0.0.1", 0, True)
    assert [one["queue"] for one in api.get("/queues?declared=true").json["queues"]] == ["declared"]
    changed = resource("declared", rate={"limit": 2, "per": "1s"})
    refusal = refused(api.put("/queues/declared?expected_revision=0", changed), 409)
    assert refusal["code"] == "CONFLICT"
    assert f"revision {first['revision']}" in str(refusal["detail"])
    assert api.put(f"/queues/declared?expected_revision={first['revision']}", changed).status == 202
    again = api.put("/queues/declared?expected_revision=0", changed)
    assert again.status == 202, "what is so already is accepted"
    second = api.get(f"/queues/declared?after={again.json['token']}").json["declaration"]
    assert second["revision"] > first["revision"]
    assert second["spec"] == {"rate": {"limit": 2, "per": "1s", "burst": 1}, "ageing": "1m"}
    wrong = refused(api.put("/queues/declared", resource("other", concurrency=0, gang=2)), 422)
    assert wrong["errors"] == [
        {"path": ["spec", "concurrency"], "text": "expected 1 or more, but found 0; leave it out for no limit"},
        {"path": ["spec", "gang"], "text": "gang is not supported yet; leave it out"},
    ]
    unnamed = refused(api.put("/queues/declared", resource("other")), 422)
    text = "expected declared, as in the path, but found other"
    assert unnamed["errors"] == [{"path": ["metadata", "name"], "text": text}]
    assert refused(api.put("/queues/declared", b'{"kind": "Queue", "kind": "Queue"}'), 422)["errors"]
    assert refused(api.delete("/queues/declared?expected_revision=1"), 409)["code"] == "CONFLICT"
    token = api.delete("/queues/declared").json["token"]
    assert refused(api.get(f"/queues/declared?after={token}"), 404)["code"] == "UNKNOWN_QUEUE"
    assert api.delete("/queues/declared").status == 202
    assert api.get("/queues/served").json["workers"], "a queue that is served is known"


def scheduled(name: str, queue: str = "timed", **spec: object) -> dict[str, object]:
    metadata = {"name": name}
    spec = {"queue": queue, "interval": "1d", "job": {"command": ["true"], "payload": {"n": 1.5}}, **spec}
    return {"apiVersion": "ftjm.io/v1", "kind": "Schedule", "metadata": metadata, "spec": spec}


def test_a_schedule_is_declared_paused_triggered_and_deleted(api: Api) -> None:
    """As in a file of `ftjm apply -f`, and by the same rules."""
    path = "/schedules/timed/nightly"
    with api.listen("/events?queue=timed") as events:
        answer = api.put(f"{path}?expected_revision=0", scheduled("nightly", overlap="forbid"))
        assert (answer.status, answer.json["schedule"], answer.json["decided"]) == (202, "timed/nightly", True)
        event = next(events)
        assert (event["event"], event["data"]["details"]["spec"]["interval"]) == ("ScheduleApplied", "1d")
    shown = api.get(f"{path}?after={answer.json['token']}").json
    assert (shown["queue"], shown["name"], "next_at" in shown) == ("timed", "nightly", True)
    assert shown["declaration"]["spec"]["job"]["payload"] == {"n": 1.5}
    assert refused(api.put(f"{path}?expected_revision=0", scheduled("nightly")), 409)["code"] == "CONFLICT"

    def wrong(at: str, body: object) -> list[str]:
        answer = api.put(at, body)
        refused(answer, 422)
        return [".".join(one["path"]) for one in answer.json["errors"]]

    assert wrong(path, scheduled("other", "else")) == ["spec.queue", "metadata.name"]
    never = scheduled("nightly", interval=None, cron="0 0 30 2 *", time_zone="berlin")
    assert wrong(path, never) == ["spec.cron", "spec.time_zone"]
    assert wrong(path, resource("timed")) == wrong("/queues/timed", scheduled("nightly")) == ["kind"]

    token = api.post(f"{path}/pause", {"reason": "repair"}).json["token"]
    paused = api.get(f"{path}?after={token}").json
    assert (paused["paused"], paused["pause_reason"], "next_at" in paused) == (True, "repair", False)
    first, again = (api.post(f"{path}/trigger", Idempotency_Key="once") for _ in range(2))
    assert (first.status, first.json["job"]) == (202, again.json["job"])
    assert refused(api.post(f"{path}/trigger"), 409)["code"] == "OVERLAP", "its last job has not ended"
    made = api.get(f"/jobs/{first.json['job']}?after={first.json['token']}").json
    assert (made["schedule"], made["payload"]) == ("timed/nightly", {"n": 1.5})
    assert api.post(f"{path}/resume").status == 202

    names = [f"s{n}" for n in range(5)]
    for name in names:
        token = api.put(f"/schedules/paged/{name}", scheduled(name, "paged")).json["token"]
    found, cursor = [], ""
    while True:
        page = api.get(f"/schedules?queue=paged&limit=2&after={token}{cursor}").json
        found += [one["name"] for one in page["schedules"]]
        if "next" not in page:
            break
        cursor = f"&cursor={page['next']}"
    assert found == names

    for verb in ("pause", "resume", "trigger"):
        assert refused(api.post(f"/schedules/timed/absent/{verb}"), 404)["code"] == "UNKNOWN_SCHEDULE"
    assert refused(api.delete(f"{path}?expected_revision=99"), 409)["code"] == "CONFLICT"
    token = api.delete(path).json["token"]
    assert refused(api.get(f"{path}?after={token}"), 404)["code"] == "UNKNOWN_SCHEDULE"
    assert api.delete(path).status == 202


def test_queues_workers_partitions_and_topology(api: Api, site: Site) -> None:
    api.post("/jobs?wait=60s", job(job_id="t1"))

    def served() -> dict | None:
        queues = {one["queue"]: one for one in api.get("/queues").json["queues"]}
        return queues["served"] if len(queues["served"]["workers"]) == 1 else None

    queue = until(served, "the queue's worker to be heard of")
    assert queue["partition"] == partition_for("served", 4)
    assert sum(queue["states"].values()) > 0
    assert api.get("/queues?limit=1").json["next"] == api.get("/queues?limit=1").json["queues"][0]["queue"]

    def workers() -> list[tuple]:
        return [(one["alive"], one["slots"], one["queues"]) for one in api.get("/workers").json["workers"]]

    until(lambda: workers() == [(True, 2, ["served"])], "the worker to be alive")

    def decided() -> list[dict] | None:
        found = api.get("/partitions").json["partitions"]
        return found if all(one["alive"] and one.get("lag") == 0 for one in found) else None

    partitions = until(decided, "all partitions to be owned and decided")
    assert [one["partition"] for one in partitions] == [0, 1, 2, 3]

    def seen() -> dict | None:
        found = api.get("/topology")
        is_whole = found.status == 200 and [one["alive"] for one in found.json["schedulers"]] == [True]
        return found.json if is_whole and len(found.json["brokers"]) == 1 else None

    topology = until(seen, "the scheduler and the broker")
    assert topology["cluster"] == site.settings.cluster


# ---- events


def test_events_are_streamed_and_resumed_on_another_instance_without_loss_or_repeat(api: Api, site: Site) -> None:
    other = start_api(site, "other")
    with api.listen("/events?queue=stream0&queue=stream1") as events:
        for n in range(30):
            api.post("/jobs", job(queue=f"stream{n % 3}", job_id=f"s{n}", hold=True))
        first = list(itertools.islice(events, 7))
    with other.listen("/events?queue=stream0&queue=stream1", Last_Event_ID=first[-1]["id"]) as events:
        rest = list(itertools.islice(events, 13))
    is_reported = [one["data"]["job"] for one in first + rest]
    assert sorted(is_reported) == sorted(f"stream{n % 3}/s{n}" for n in range(30) if n % 3 < 2)
    assert {one["event"] for one in first + rest} == {"JobSubmitted"}
    with other.listen("/events?start=beginning&queue=stream2") as events:
        assert len(list(itertools.islice(events, 10))) == 10
        for queue in ("stream0", "stream2"):
            api.post(f"/queues/{queue}/pause")
        about = next(events)
    assert (about["event"], about["data"]["queue"]) == ("QueuePaused", "stream2")
    for queue in ("stream0", "stream2"):
        api.post(f"/queues/{queue}/resume")
    for wrong in ("x", "kwE", first[0]["id"] + "AAAA"):
        refused(api.get("/events", Last_Event_ID=wrong), 400)
    assert other.stop() == 0


# ---- refusals


def test_every_error_is_a_problem_document(api: Api) -> None:
    refused(api.get("/nope"), 404)
    assert refused(api.ask("DELETE", "/jobs"), 405)
    assert "GET" in api.ask("DELETE", "/jobs").headers["allow"]
    assert api.ask("HEAD", "/events").status == 405
    head = api.ask("HEAD", "/jobs")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) > 0
    refused(api.post("/jobs", b"x" * (1 << 20) + b"x"), 413)
    refused(api.post("/jobs", b"{}", Content_Type="text/plain"), 415)
    refused(api.post("/jobs", b"{"), 400)
    refused(api.get(f"/jobs?queue={'q' * 5_000}"), 414)
    refused(api.get("/jobs?unknown=1"), 400)
    refused(api.get("/jobs/served/%2F"), 404)
    refused(api.get("/jobs", Host="evil.example:80"), 421)
    refused(api.post("/jobs", job(), Origin="http://evil.example"), 403)
    assert api.get("/jobs", Host=f"localhost:{api.port}").status == 200
    assert api.error_lines() == []


def test_beyond_loopback_a_token_is_needed_and_never_logged(site: Site) -> None:
    bare = start_api(site, "bare", "--host", "0.0.0.0", wait=False)
    assert bare.popen.wait(120) == 2
    assert "a token" in bare.log.read_text()
    token = "correct horse battery staple"
    api = start_api(site, "open", "--host", "0.0.0.0", token=token)
    refused(api.get("/jobs"), 401)
    refused(api.get("/jobs", Authorization="Bearer wrong"), 401)
    refused(api.post("/jobs", job(), Authorization=f"Basic {token}"), 401)
    assert api.get("/jobs", Authorization=f"Bearer {token}", Host="api.example").status == 200
    assert (api.get("/livez").status, api.get("/readyz").status) == (200, 200)
    assert api.stop() == 0
    assert token not in api.log.read_text()


def test_a_port_that_is_taken_is_reported(site: Site, api: Api) -> None:
    second = start_api(site, "second", port=api.port, wait=False)
    assert second.popen.wait(120) == 1
    assert "choose another --port" in second.log.read_text()
    assert api.get("/livez").status == 200, "the first one still has it"

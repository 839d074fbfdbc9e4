"""The API on a real cluster: what it takes, what it tells, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from ftjm.core.identity import partition_for
from ftjm.embedded.kafka import EmbeddedKafka
from integration.apis import Answer, Api, start_api
from integration.waiting import until
from integration.workers import Site


@pytest.fixture(scope="module")
def site(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("api")) as made:
        made.hire("served", slots=2)
        yield made


@pytest.fixture(scope="module")
def api(site: Site) -> Api:
    return start_api(site)


def job(**fields: object) -> dict[str, object]:
    return {"queue": "served", "command": ["true"], **fields}


def refused(answer: Answer, status: int) -> dict[str, object]:
    """The problem document."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, object] = answer.json
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem


# ---- commands


def test_a_job_is_submitted_waited_for_and_looked_at(api: Api) -> None:
    command = ["sh", "-c", 'echo out; echo err >&2; echo "{\\"n\\": 1}" > "$FTJM_RESULT_FILE"']
    answer = api.post("/jobs?wait=20s", job(job_id="a", command=command, labels={"team": "x"}, payload={"k": [1]}))
    assert (answer.status, answer.headers["location"]) == (200, "/api/v1/jobs/served/a")
    assert answer.json["outcome"] == {
        "state": "SUCCEEDED",
        "reason": None,
        "exit_code": 0,
        "error": None,
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
        cursor = page["next"]
    assert pages == history
    logs = api.get("/jobs/served/a/logs").json
    assert (logs["stdout"], logs["stderr"], logs["attempt"]) == ("out\n", "err\n", 1)
    assert logs["freshness"]["stale"] is False


def test_how_far_a_job_is_and_what_it_has_left(api: Api) -> None:
    script = (
        'echo \'{"progress": 0.5, "text": "half"}\' > "$FTJM_PROGRESS_FILE"; '
        'echo "[7]" > "$FTJM_CHECKPOINT_FILE"; sleep 60'
    )
    api.post("/jobs", job(job_id="far", command=["sh", "-c", script], cancel_grace="1s"))

    def told() -> bool:
        found = api.get("/jobs/served/far").json
        return (found.get("progress"), found.get("progress_text"), found.get("checkpoint")) == (0.5, "half", [7])

    until(told, "the job's progress and its checkpoint")
    api.post("/jobs/served/far/cancel")
    until(lambda: api.get("/jobs/served/far").json["state"] == "CANCELLED", "the job to stop")


def test_the_output_of_every_attempt_is_found(api: Api) -> None:
    fields = job(
        job_id="often", command=["sh", "-c", "echo $FTJM_ATTEMPT; exit 3"], max_attempts=4, backoff={"initial": "0s"}
    )
    ended = api.post("/jobs?wait=30s", fields).json
    assert ended["outcome"]["state"] == "FAILED"
    until(lambda: api.get("/jobs/served/often").json["state"] == "FAILED", "the projection to see the end")
    for attempt in range(1, 5):
        assert api.get(f"/jobs/served/often/logs?attempt={attempt}").json["stdout"] == f"{attempt}\n"
    assert api.get("/jobs/served/often/logs").json["attempt"] == 4
    assert refused(api.get("/jobs/served/often/logs?attempt=5"), 404)["code"] == "NO_OUTPUT"


def test_the_same_is_the_same_and_other_content_is_refused(api: Api) -> None:
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


def test_what_is_wrong_with_a_job_is_told_field_by_field(api: Api) -> None:
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


def test_a_read_sees_what_its_token_names(api: Api) -> None:
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
            cursor = page["next"]
        assert sorted(found) == list(expected), query
        assert len(found) == len(set(found))
    refused(api.get("/jobs?limit=1001"), 400)
    refused(api.get("/jobs?limit=1&limit=2"), 400)
    refused(api.get("/jobs?cursor=nonsense"), 400)
    refused(api.get("/jobs?state=DONE"), 400)


def test_why_a_job_is_not_running(api: Api) -> None:
    def why(queue: str, name: str) -> dict[str, object]:
        explained: dict[str, object] = api.get(f"/jobs/{queue}/{name}/explain").json
        return explained

    api.post("/jobs", job(job_id="w-held", hold=True))
    api.post("/jobs", job(job_id="w-late", delay="1h"))
    last = api.post("/jobs", job(queue="unserved", job_id="w-nobody"))
    api.get(f"/jobs?limit=1&after={last.json['token']}")
    assert why("served", "w-held")["reason"] == "Held"
    assert why("served", "w-late")["reason"] == "StartTime"
    nobody = why("unserved", "w-nobody")
    assert (nobody["reason"], nobody["ahead"]) == ("NoWorker", 0)
    for n in range(2):
        api.post("/jobs", job(job_id=f"busy-{n}", command=["sleep", "60"], cancel_grace="1s"))
    until(lambda: len(api.get("/jobs?queue=served&state=RUNNING").json["jobs"]) == 2, "both slots to be busy")
    api.post("/jobs", job(job_id="w-first"))
    last = api.post("/jobs", job(job_id="w-second"))
    api.get(f"/jobs?limit=1&after={last.json['token']}")
    until(lambda: why("served", "w-first")["reason"] == "Resources", "the worker to tell that it is busy")
    second = why("served", "w-second")
    assert (second["reason"], second["ahead"]) == ("Priority", 1)
    for n in range(2):
        api.post(f"/jobs/served/busy-{n}/cancel")
    until(lambda: why("served", "w-second")["state"] == "SUCCEEDED", "the slots to be free again")
    assert why("served", "w-second")["reason"] == ""
    assert refused(api.get("/jobs/served/nix/explain"), 404)["code"] == "UNKNOWN_JOB"


def test_queues_workers_partitions_and_topology(api: Api, site: Site) -> None:
    api.post("/jobs?wait=20s", job(job_id="t1"))
    queues = {one["queue"]: one for one in api.get("/queues").json["queues"]}
    assert queues["served"]["workers"] == 1
    assert queues["served"]["partition"] == partition_for("served", 4)
    assert sum(queues["served"]["jobs"].values()) > 0
    assert api.get("/queues?limit=1").json["next"] == api.get("/queues?limit=1").json["queues"][0]["queue"]
    [worker] = api.get("/workers").json["workers"]
    assert (worker["alive"], worker["slots"], worker["queues"]) == (True, 2, ["served"])
    partitions = until(
        lambda: (
            all(one["alive"] and one["lag"] == 0 for one in api.get("/partitions").json["partitions"])
            and api.get("/partitions").json["partitions"]
        ),
        "all partitions to be owned and decided",
    )
    assert [one["partition"] for one in partitions] == [0, 1, 2, 3]
    topology = api.get("/topology").json
    assert topology["cluster"] == site.settings.cluster
    assert [one["alive"] for one in topology["schedulers"]] == [True]
    assert len(topology["brokers"]) == 1


# ---- events


def test_events_are_streamed_and_resumed_on_another_instance_without_loss_or_repeat(api: Api, site: Site) -> None:
    other = start_api(site, "other")
    with api.listen("/events?queue=stream0&queue=stream1") as events:
        for n in range(30):
            api.post("/jobs", job(queue=f"stream{n % 3}", job_id=f"s{n}", hold=True))
        first = list(itertools.islice(events, 7))
    with other.listen("/events?queue=stream0&queue=stream1", Last_Event_ID=first[-1]["id"]) as events:
        rest = list(itertools.islice(events, 13))
    told = [one["data"]["job"] for one in first + rest]
    assert sorted(told) == sorted(f"stream{n % 3}/s{n}" for n in range(30) if n % 3 < 2)
    assert {one["event"] for one in first + rest} == {"JobSubmitted"}
    with other.listen("/events?start=beginning&queue=stream2") as events:
        assert len(list(itertools.islice(events, 10))) == 10
    for wrong in ("x", "kwE", first[0]["id"] + "AAAA"):
        refused(api.get("/events", Last_Event_ID=wrong), 400)
    assert other.stop() == 0


# ---- what is refused


def test_every_error_is_a_problem_document(api: Api) -> None:
    refused(api.get("/nope"), 404)
    assert refused(api.ask("DELETE", "/jobs"), 405)
    assert "GET" in api.ask("DELETE", "/jobs").headers["allow"]
    refused(api.post("/jobs", b"x" * (1 << 20) + b"x"), 413)
    refused(api.post("/jobs", b"{}", Content_Type="text/plain"), 415)
    refused(api.post("/jobs", b"{"), 400)
    refused(api.get(f"/jobs?queue={'q' * 5_000}"), 414)
    refused(api.get("/jobs?unknown=1"), 400)
    refused(api.get("/jobs/served/%2F"), 404)
    refused(api.get("/jobs", Host="evil.example:80"), 421)
    refused(api.post("/jobs", job(), Origin="http://evil.example"), 403)
    assert api.get("/jobs", Host=f"localhost:{api.port}").status == 200
    assert api.complaints() == []


def test_beyond_loopback_a_token_is_needed_and_never_told(site: Site) -> None:
    bare = start_api(site, "bare", "--host", "0.0.0.0", wait=False)
    assert bare.popen.wait(30) == 2
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


def test_a_port_that_is_taken_is_told(site: Site, api: Api) -> None:
    second = start_api(site, "second", port=api.port, wait=False)
    assert second.popen.wait(30) == 1
    assert "choose another --port" in second.log.read_text()
    assert api.get("/livez").status == 200, "the first one still has it"

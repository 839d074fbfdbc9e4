"""Bulk requests by the command line, on a cluster in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ftjm.adapters.avro import codec
from ftjm.cli import api_client
from ftjm.cli.bulk_options import BulkOptions, FilterOptions, checked
from ftjm.cli.options import job_states
from ftjm.core.decide import bulk as rules
from ftjm.core.decide import handlers
from ftjm.core.decide.decision import Rejected
from ftjm.core.identity import partition_for
from ftjm.core.records.commands import BulkJobs, StopBulk
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.history.bulk_requests import BulkFollower
from ftjm.runtime.errors import FtjmError, UsageError
from tests.cli.cluster import PARTITIONS, Cluster

HOLD = "hold", "--queue", "etl"


def states(cluster: Cluster, queue: str) -> dict[str, str]:
    state = cluster.partitions[partition_for(queue, PARTITIONS)].state
    found = {}
    for key in list(state.job_keys(queue, "")):
        job = state.job(key)
        assert job is not None
        found[key.partition("/")[2]] = job.state.name
    return found


def send(cluster: Cluster, command: Any) -> None:
    """Send a command as somebody else does."""
    cluster.append(partition_for(command.queue, PARTITIONS), command.queue.encode(), codec.encode(command), [])


@pytest.fixture
def jobs(ftjm, cluster) -> None:
    """Jobs `a0` to `a3` and `b0` of the queue `etl`, those of a with a label; and one of `mail`."""
    for name in ("a0", "a1", "a2", "a3"):
        ftjm("submit", "--queue", "etl", "--job-id", name, "--label", "app=a", "--hold", "--", "x")
    ftjm("submit", "--queue", "etl", "--job-id", "b0", "--hold", "--", "x")
    ftjm("submit", "--queue", "mail", "--job-id", "m", "--label", "app=a", "--hold", "--", "x")


def test_jobs_of_a_label_are_cancelled_by_one_request(ftjm, cluster, jobs, monkeypatch):
    monkeypatch.setattr(rules, "CHANGED_MAX", 1)
    done = ftjm("bulk", "cancel", "--queue", "etl", "--label", "app=a", "--reason", "enough", "-o", "json")
    assert done.exit_code == 0, done.output
    [request] = json.loads(done.stdout)
    assert {**request, "begun_at": "", "ended_at": "", "actor": ""} == {
        "request": f"etl/{request['id']}",
        "queue": "etl",
        "id": request["id"],
        "action": "cancel",
        "filter": {"labels": {"app": "a"}},
        "reason": "enough",
        "status": "DONE",
        "jobs": 5,
        "looked": 5,
        "changed": 4,
        "refused": 0,
        "begun_at": "",
        "ended_at": "",
        "actor": "",
    }
    assert states(cluster, "etl") == {**dict.fromkeys(("a0", "a1", "a2", "a3"), "CANCELLED"), "b0": "HELD"}
    assert states(cluster, "mail") == {"m": "HELD"}
    assert json.loads(ftjm("bulk", "list", "-o", "json").stdout) == [request], "the same document"


def test_all_queues_are_changed_by_one_request(ftjm, cluster, jobs):
    ftjm("queue", "pause", "empty")
    done = ftjm("bulk", "release", "--all-queues", "--command-id", "r1")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row for row in rows if row and "/" in row[0]] == [
        ["etl/r1", "release", "DONE", "5", "5", "5", "0"],
        ["mail/r1", "release", "DONE", "1", "1", "1", "0"],
    ]
    assert "2 queues: 6 jobs changed, 0 refused" in done.stderr
    assert set(states(cluster, "etl").values()) == {"READY"}
    listed = json.loads(ftjm("bulk", "list", "-o", "json", "--queue", "mail").stdout)
    assert [row["request"] for row in listed] == ["mail/r1"]
    assert "etl/r1" in ftjm("bulk", "list").stdout


def test_without_a_job_nothing_is_sent(ftjm, cluster):
    done = ftjm("bulk", "hold", "--all-queues")
    assert (done.exit_code, "no queue holds a job" in done.stderr) == (0, True)
    assert not any(cluster.commands)


def test_each_action_does_what_its_verb_for_one_job_does(ftjm, cluster, jobs):
    def last(*arguments: str) -> tuple[int, int]:
        done = ftjm("bulk", *arguments, "-o", "json")
        assert done.exit_code == 0, done.output
        [request] = json.loads(done.stdout)
        return request["changed"], request["refused"]

    etl = ("--queue", "etl")
    assert last("prioritize", *etl, "--priority", "0", "--label", "app=a") == (4, 0)
    assert json.loads(ftjm("get", "etl/a0", "-o", "json").stdout)["priority"] == 0
    assert last("release", *etl) == (5, 0)
    assert last("hold", *etl, "--state", "ready") == (5, 0)
    assert last("cancel", *etl, "--yes") == (5, 0)
    assert last("cancel", *etl, "--state", "CANCELLED", "--state", "HELD") == (0, 5)
    assert last("rerun", *etl, "--submitted-before", "2099-01-01T00:00:00Z") == (5, 0)
    assert last("purge", *etl, "--yes") == (0, 0)
    assert last("cancel", *etl, "--submitted-after", "2000-01-01T00:00:00Z") == (5, 0)
    assert last("purge", *etl, "--label", "app=a") == (4, 0)
    assert states(cluster, "etl") == {"b0": "CANCELLED"}


def test_one_job_gets_another_priority(ftjm, ftjm_json, jobs):
    assert ftjm("prioritize", "etl/a0", "etl/b0", "--priority", "0").exit_code == 0
    assert ftjm_json("get", "etl/a0")["priority"] == 0
    event = ftjm_json("history", "etl/a0")[-1]
    assert (event["event"], event["details"]) == ("JobPrioritized", {"priority": 0})
    assert ftjm("prioritize", "etl/a0", "--priority", "101").exit_code == 2
    assert ftjm("prioritize", "etl/a0").exit_code == 2


def test_a_dry_run_counts_and_sends_nothing(ftjm, ftjm_json, cluster, jobs):
    sent = sum(map(len, cluster.commands))
    assert ftjm_json("bulk", "cancel", "--queue", "etl", "--queue", "none", "--label", "app=a", "--dry-run") == [
        {"queue": "etl", "jobs": 4, "states": {"HELD": 4}},
        {"queue": "none", "jobs": 0, "states": {}},
    ]
    assert ftjm_json("bulk", "purge", "--all-queues", "--dry-run") == []
    assert [row["jobs"] for row in ftjm_json("bulk", "cancel", "--all-queues", "--dry-run")] == [5, 1]
    many = [option for n in range(7) for option in ("--label", f"l{n}=x")]
    assert ftjm_json("bulk", "cancel", "--queue", "etl", *many, "--dry-run") == [
        {"queue": "etl", "jobs": 0, "states": {}}
    ]
    assert sum(map(len, cluster.commands)) == sent


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["cancel"], "--queue QUEUE or --all-queues"),
        (["cancel", "--queue", "etl", "--all-queues", "--yes"], "--queue QUEUE or --all-queues"),
        (["cancel", "--queue", "no name", "--yes"], "the name of a queue"),
        (["cancel", "--queue", "etl"], "a filter, or --yes to cancel all jobs"),
        (["purge", "--all-queues"], "a filter, or --yes to purge all jobs"),
        ([*HOLD, "--state", "DONE"], "a request that can be sent"),
        ([*HOLD, "--label", "app"], "--label NAME=VALUE"),
        ([*HOLD, "--label", "no name=x"], "a request that can be sent"),
        ([*HOLD, "--submitted-after", "yesterday"], "a duration such as"),
        ([*HOLD, "--command-id", "no name"], "a --command-id"),
        ([*HOLD, "--reason", "x" * 5_000], "a request that can be sent"),
        (["stop", "etl"], "the name of a request, QUEUE/ID"),
        (["stop", "etl/no name"], "the name of a request, QUEUE/ID"),
    ],
)
def test_a_wrong_request_is_a_mistake_of_usage(ftjm, cluster, arguments, expected):
    refused = ftjm("bulk", *arguments).exception
    assert isinstance(refused, UsageError)
    assert expected in refused.expected
    assert not any(cluster.commands)


def test_a_request_that_is_repeated_is_told_and_not_done_again(ftjm, cluster, jobs):
    request = ("bulk", *HOLD, "--state", "HELD", "--command-id", "h1", "-o", "json")
    first = json.loads(ftjm(*request).stdout)
    assert first[0]["refused"] == 5
    again = ftjm(*request)
    assert (again.exit_code, json.loads(again.stdout)) == (0, first), "the result of the first one"
    [answer] = json.loads(ftjm(*request, "--no-wait").stdout)
    assert (answer["request"], answer["answer"]) == ("etl/h1", "was carried out before")


def test_a_request_that_is_repeated_while_it_is_under_way_is_waited_for(ftjm, cluster, jobs):
    send(cluster, BulkJobs(queue="etl", action=BulkAction.RELEASE, filter=JobFilter(), command_id="r1"))
    [row] = yaml.safe_load(ftjm("bulk", "list", "-o", "yaml").stdout)
    assert (row["status"], row["looked"], "ended_at" in row) == ("UNDER_WAY", 0, False)
    [row] = json.loads(ftjm("bulk", "release", "--queue", "etl", "--command-id", "r1", "-o", "json").stdout)
    assert (row["status"], row["changed"]) == ("DONE", 5)


def test_a_request_is_sent_and_not_waited_for(ftjm, cluster, jobs):
    done = ftjm("bulk", "release", "--queue", "etl", "--no-wait", "--command-id", "r1")
    assert (done.exit_code, "etl/r1" in done.stdout, "accepted" in done.stdout) == (0, True, True)
    cluster.deciding = False
    done = ftjm("bulk", "release", "--queue", "etl", "--no-wait", "-o", "json")
    assert json.loads(done.stdout)[0]["answer"] == "in the log"


def test_a_refused_request_is_told_and_the_others_go_on(ftjm, cluster, jobs, monkeypatch):
    begin = rules.begin

    def refuse_mail(state, command, now, policy):
        return Rejected("INVALID", "not today") if command.queue == "mail" else begin(state, command, now, policy)

    monkeypatch.setitem(handlers._HANDLERS, BulkJobs, refuse_mail)
    done = ftjm("bulk", "release", "--all-queues", "--command-id", "r1", "-o", "json")
    assert done.exit_code == 1
    assert "error: mail/r1 was refused: not today (INVALID)" in done.stderr
    etl, mail = json.loads(done.stdout)
    assert (etl["status"], mail["answer"], mail["why"]) == ("DONE", "refused: INVALID", "not today")
    done = ftjm("bulk", "hold", "--queue", "mail")
    assert (done.exit_code, "was refused" in done.stderr, done.stdout) == (1, True, "")


def test_a_request_is_stopped(ftjm, cluster, jobs, monkeypatch):
    monkeypatch.setattr(rules, "CHANGED_MAX", 1)
    send(cluster, BulkJobs(queue="etl", action=BulkAction.RELEASE, filter=JobFilter(), command_id="r1"))
    stopped = ftjm("bulk", "stop", "etl/r1", "-o", "json")
    assert (stopped.exit_code, json.loads(stopped.stdout)) == (0, {"request": "etl/r1", "answer": "accepted"})
    [row] = json.loads(ftjm("bulk", "list", "-o", "json").stdout)
    assert (row["status"], row["changed"]) == ("STOPPED", 1)
    again = ftjm("bulk", "stop", "etl/r1")
    assert (again.exit_code, "etl/r1 was refused" in again.stderr) == (1, True)


def test_a_request_that_somebody_stops_ends_with_1(ftjm, cluster, jobs, monkeypatch):
    monkeypatch.setattr(rules, "CHANGED_MAX", 1)
    follow = BulkFollower.follow

    def stopped_by_somebody(follower, requests):
        send(cluster, StopBulk(queue="etl", bulk="r1"))
        yield from follow(follower, requests)

    monkeypatch.setattr(BulkFollower, "follow", stopped_by_somebody)
    done = ftjm("bulk", "release", "--queue", "etl", "--command-id", "r1", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)[0]["status"]) == (1, "STOPPED")


def test_who_stops_waiting_is_told_that_the_request_goes_on(ftjm, cluster, jobs, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(BulkFollower, "follow", interrupted)
    done = ftjm("bulk", "release", "--queue", "etl", "--command-id", "r1")
    assert done.exit_code != 0
    assert "what is in the log goes on" in done.stderr
    assert "`ftjm bulk stop etl/r1`" in done.stderr
    assert "`ftjm bulk stop QUEUE/r2`" in ftjm("bulk", "hold", "--all-queues", "--command-id", "r2").stderr


def test_the_api_is_asked_for_what_is_there(ftjm, cluster, monkeypatch):
    asked: list[tuple[str, list[tuple[str, str]]]] = []
    fresh = {"stale": False}

    def get(_settings, path, params, _shape=None):
        asked.append((path, params))
        more = not any(name == "cursor" for name, _ in params)
        following = {"next": "c"} if more else {}
        if path == "/queues":
            queue, states = ("etl", {"HELD": 1}) if more else ("none", {})
            return {"queues": [{"queue": queue, "states": states}], "freshness": fresh, **following}
        if path == "/jobs":
            job = {"queue": "etl", "state": "HELD", "labels": {"app": "a"}, "submitted_at": "2026-01-01T00:00:00Z"}
            return {"jobs": [job], "freshness": fresh, **following}
        name = "etl/later" if more else "etl/first"
        row = {"request": name, "begun_at": "2026-01-02T00:00:00Z" if more else "2026-01-01T00:00:00Z"}
        return {"requests": [row], "freshness": fresh, **following}

    monkeypatch.setattr(api_client, "get", get)
    api = ("--api", "http://127.0.0.1:1", "-o", "json")
    listed = json.loads(ftjm("bulk", "list", *api).stdout)
    assert [row["request"] for row in listed] == ["etl/first", "etl/later"]
    assert {path for path, _ in asked} == {"/bulk"}
    ftjm("bulk", "list", "--queue", "etl", *api)
    assert asked[-1][0] == "/queues/etl/bulk"
    counted = json.loads(ftjm("bulk", "cancel", "--all-queues", "--label", "app=a", "--dry-run", *api).stdout)
    assert counted == [{"queue": "etl", "jobs": 2, "states": {"HELD": 2}}]
    assert ("label", "app=a") in asked[-1][1]
    sent = json.loads(ftjm("bulk", "hold", "--all-queues", "--no-wait", *api).stdout)
    assert [row["request"].partition("/")[0] for row in sent] == ["etl"], "queues without a job are left out"


def test_a_result_that_is_not_kept_any_more_is_told(ftjm, cluster, jobs, monkeypatch):
    from ftjm.readmodel import bulk_requests

    request = ("bulk", "release", "--queue", "etl", "--command-id", "r1")
    ftjm(*request)
    monkeypatch.setattr(bulk_requests, "find", lambda *_: None)
    refused = ftjm(*request).exception
    assert isinstance(refused, FtjmError)
    assert "the result of the request etl/r1" in refused.expected


def test_dead_names_the_jobs_that_failed_for_good():
    filters = FilterOptions(queue=["q"], dead=True)
    assert checked("purge", filters, BulkOptions()).fields.filter.states == ["FAILED", "UPSTREAM_FAILED"]
    assert job_states(["cancelled", "failed"], dead=True) == ["CANCELLED", "FAILED", "UPSTREAM_FAILED"]
    assert job_states(None, dead=False) == []

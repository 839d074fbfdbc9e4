import json

import pytest
import yaml

from ftjm.runtime.errors import UsageError


@pytest.fixture
def failed(ftjm, cluster):
    """A job that failed once and then succeeded."""
    cluster.outcomes = [(3, b"out", b"err"), (0, b"\xffout", b"")]
    ftjm("submit", "--job-id", "a", "--max-attempts", "2", "--backoff", "0s", "--", "x")
    cluster.work()
    cluster.work()


def test_get_one_job(ftjm, ftjm_json, failed):
    job = ftjm_json("get", "a")
    assert (job["state"], job["attempt"], job["failures"], job["result"]) == ("SUCCEEDED", 2, 1, {"ok": True})
    assert job["ended_at"].endswith("Z")
    table = ftjm("get", "a").stdout
    assert "SUCCEEDED" in table
    assert yaml.safe_load(ftjm("get", "a", "-o", "yaml").stdout)["state"] == "SUCCEEDED"


def test_get_several_jobs_and_a_missing_one(ftjm):
    ftjm("submit", "--job-id", "a", "--", "x")
    ftjm("submit", "--job-id", "b", "--queue", "q", "--", "x")
    result = ftjm("get", "a", "q/b", "none", "-o", "json")
    assert result.exit_code == 1
    assert [job["job"] for job in json.loads(result.stdout)] == ["default/a", "q/b"]
    assert "expected a job default/none in the log, but found none" in result.stderr


def test_a_name_that_no_job_can_have(ftjm):
    result = ftjm("get", "a/b/c")
    assert isinstance(result.exception, UsageError)
    assert "the job id is 'b/c'" in result.exception.found


def test_history_shows_every_event(ftjm, ftjm_json, failed):
    rows = ftjm_json("history", "a")
    assert [row["event"] for row in rows] == [
        "JobSubmitted",
        "AttemptDispatched",
        "AttemptFailed",
        "AttemptDispatched",
        "AttemptSucceeded",
    ]
    assert rows[0]["details"]["spec"]["command"] == ["x"]
    assert "priority" not in rows[0]["details"]["spec"]
    assert rows[2]["details"]["reason"] == "EXIT_CODE"
    assert rows[4]["details"]["stdout_bytes"] == 4
    table = ftjm("history", "a").stdout
    assert "exit_code=3" in table
    assert ftjm("history", "none").exit_code == 1


def test_logs_of_the_newest_attempt_or_another(ftjm, failed):
    newest = ftjm("logs", "a")
    assert (newest.exit_code, newest.stdout_bytes) == (0, b"\xffout")
    first = ftjm("logs", "a", "--attempt", "1")
    assert first.stdout == "out"
    assert first.stderr == "[7 bytes of stdout before this were not kept]\nerr"
    assert ftjm("logs", "a", "--attempt", "1", "--stream", "stderr").stdout == ""
    assert json.loads(ftjm("logs", "a", "--attempt", "1", "-o", "json").stdout)["stderr"] == "err"


def test_missing_logs_are_an_error_that_says_why(ftjm):
    ftjm("submit", "--job-id", "b", "--hold", "--", "x")
    result = ftjm("logs", "b", "none")
    assert result.exit_code == 1
    assert "it is HELD, attempt 0" in result.stderr
    assert "expected a job default/none in the log" in result.stderr


def test_hold_release_cancel_rerun(ftjm, ftjm_json):
    ftjm("submit", "--job-id", "a", "--hold", "--", "x")
    assert ftjm_json("release", "a")["state"] == "READY"
    assert ftjm_json("hold", "a", "--reason", "disk")["state"] == "HELD"
    assert ftjm_json("get", "a")["reason"] == "disk"
    assert ftjm_json("cancel", "a")["state"] == "CANCELLED"
    again = ftjm_json("rerun", "a", "--command-id", "request-1")
    assert (again["state"], again["run"]) == ("READY", 2)
    repeated = ftjm_json("rerun", "a", "--command-id", "request-1")
    assert (repeated["answer"], repeated["run"]) == ("was carried out before", 2)


def test_rerun_of_several_jobs_sends_a_request_for_each(ftjm):
    for job in ("a", "b"):
        ftjm("submit", "--job-id", job, "--", "x")
        ftjm("cancel", job)
    result = ftjm("rerun", "a", "b", "-o", "json")
    assert [row["run"] for row in json.loads(result.stdout)] == [2, 2]


def test_reruns_by_one_command_id_of_jobs_with_long_names_and_in_several_queues(ftjm):
    """Two names that are alike in their first 63 letters, and one name in two queues."""
    jobs = [f"{queue}/{'x' * 70}{number}" for queue in ("default", "other") for number in "12"]
    for job in jobs:
        queue, _, job_id = job.partition("/")
        ftjm("submit", "--queue", queue, "--job-id", job_id, "--", "x")
        ftjm("cancel", job)
    again = ("rerun", *jobs, "--command-id", "nightly", "-o", "json")
    assert [(row["answer"], row["run"]) for row in json.loads(ftjm(*again).stdout)] == [("accepted", 2)] * 4
    repeated = json.loads(ftjm(*again).stdout)
    assert [(row["answer"], row["run"]) for row in repeated] == [("was carried out before", 2)] * 4
    one = json.loads(ftjm("rerun", jobs[0], "--command-id", "nightly", "-o", "json").stdout)
    assert one["answer"] == "was carried out before", "also if it is named alone"


def test_a_refusal_goes_to_standard_error_and_exits_1(ftjm):
    ftjm("submit", "--job-id", "a", "--", "x")
    ftjm("submit", "--job-id", "b", "--hold", "--", "x")
    for verb, jobs, codes in (
        ("release", ["a"], ["WRONG_STATE"]),
        ("release", ["a", "none"], ["WRONG_STATE", "UNKNOWN_JOB"]),
        ("hold", ["none"], ["UNKNOWN_JOB"]),
        ("cancel", ["none"], ["UNKNOWN_JOB"]),
        ("rerun", ["a"], ["WRONG_STATE"]),
    ):
        result = ftjm(verb, *jobs)
        assert (result.exit_code, result.stdout) == (1, ""), verb
        for job, code, line in zip(jobs, codes, result.stderr.splitlines(), strict=True):
            assert line.startswith(f"error: default/{job} was refused: ")
            assert line.endswith(f"({code})")
    some = ftjm("release", "a", "b")
    assert (some.exit_code, "default/b" in some.stdout, "default/a" in some.stdout) == (1, True, False)
    documents = json.loads(ftjm("release", "a", "-o", "json").stdout)
    assert documents["answer"] == "refused: WRONG_STATE"


def test_a_command_that_is_not_decided_yet(ftjm, cluster):
    ftjm("submit", "--job-id", "a", "--", "x")
    cluster.deciding = False
    result = ftjm("cancel", "a")
    assert result.exit_code == 0
    assert "in the log" in result.stdout
    assert "waiting for a scheduler" in result.stderr


def test_a_forgotten_job_is_still_shown(ftjm, ftjm_json, cluster):
    ftjm("submit", "--job-id", "a", "--retention", "1ms", "--", "x")
    ftjm("cancel", "a")
    cluster.work()
    cluster.work()
    job = ftjm_json("get", "a")
    assert job["state"] == "CANCELLED"
    assert job["forgotten_at"].endswith("Z")
    ftjm("submit", "--job-id", "a", "--", "y")
    assert ftjm_json("get", "a")["command"] == ["y"]

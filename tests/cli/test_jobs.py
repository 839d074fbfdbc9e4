import json

import pytest
import yaml

from ftjm.errors import UsageError


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
    assert job["ended"].endswith("Z")
    table = ftjm("get", "a").stdout
    assert "SUCCEEDED" in table
    assert yaml.safe_load(ftjm("get", "a", "-o", "yaml").stdout)["state"] == "SUCCEEDED"


def test_get_several_jobs_and_one_that_is_not_there(ftjm):
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


def test_history_tells_all_that_happened(ftjm, ftjm_json, failed):
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
    assert rows[4]["details"]["stdout"] == {"base64": "/291dA=="}
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


def test_logs_that_are_not_there_yet(ftjm):
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
    again = ftjm_json("rerun", "a", "--command-id", "wish-1")
    assert (again["state"], again["run"]) == ("READY", 2)
    repeated = ftjm_json("rerun", "a", "--command-id", "wish-1")
    assert (repeated["answer"], repeated["run"]) == ("was carried out before", 2)


def test_rerun_of_several_jobs_is_one_wish_for_each(ftjm):
    for job in ("a", "b"):
        ftjm("submit", "--job-id", job, "--", "x")
        ftjm("cancel", job)
    result = ftjm("rerun", "a", "b", "-o", "json")
    assert [row["run"] for row in json.loads(result.stdout)] == [2, 2]


def test_a_refusal_is_told_and_exits_1(ftjm):
    ftjm("submit", "--job-id", "a", "--", "x")
    result = ftjm("release", "a", "none")
    assert result.exit_code == 1
    assert "WRONG_STATE" in result.stdout
    assert "UNKNOWN_JOB" in result.stdout


def test_a_command_that_is_not_decided_yet(ftjm, cluster):
    ftjm("submit", "--job-id", "a", "--", "x")
    cluster.deciding = False
    result = ftjm("cancel", "a")
    assert result.exit_code == 0
    assert "in the log" in result.stdout
    assert "waiting for a scheduler" in result.stderr


def test_a_job_that_was_forgotten_is_still_told(ftjm, ftjm_json, cluster):
    ftjm("submit", "--job-id", "a", "--retention", "1ms", "--", "x")
    ftjm("cancel", "a")
    cluster.work()
    cluster.work()
    job = ftjm_json("get", "a")
    assert job["state"] == "CANCELLED"
    assert job["forgotten"].endswith("Z")
    ftjm("submit", "--job-id", "a", "--", "y")
    assert ftjm_json("get", "a")["command"] == ["y"]

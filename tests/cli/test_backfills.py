"""Backfills by the command line on a cluster in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftjm.core.decide import backfills as rules
from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.history.backfills import BackfillFollower
from ftjm.runtime.durations import format_time
from ftjm.runtime.errors import FtjmError, UsageError
from tests.cli.cluster import PARTITIONS, Cluster
from tests.cli.test_bulk import send
from tests.cli.test_schedules import HOUR_MS, write

HOURS = 3
NAME = "etl/nightly"


def ago(cluster: Cluster, hours: float) -> str:
    return format_time(cluster.now - cluster.now % HOUR_MS - int(hours * HOUR_MS))


def request(cluster: Cluster, *options: str, hours: float = HOURS) -> tuple[str, ...]:
    return ("schedule", "backfill", NAME, "--from", ago(cluster, hours), "--to", ago(cluster, 0), *options)


def rows(done: Any) -> Any:
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _schedule(ftjm: Any, cluster: Cluster) -> None:
    """A schedule of every hour, in a cluster whose time is a full hour."""
    cluster.now -= cluster.now % HOUR_MS
    write("nightly")
    assert ftjm("apply", "-f", "files").exit_code == 0


def ended_jobs(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, failing: int = 0) -> None:
    """Let a worker run what comes while somebody waits for a backfill; the first jobs fail."""
    follow = BackfillFollower.follow

    def working(follower: BackfillFollower, requests: Any) -> Any:
        cluster.outcomes = [(1, b"", b"")] * failing
        for _ in range(9):
            cluster.work("etl")
        yield from follow(follower, requests)

    monkeypatch.setattr(BackfillFollower, "follow", working)


def test_instants_that_have_passed_get_their_jobs(ftjm, cluster, monkeypatch):
    ended_jobs(cluster, monkeypatch)
    done = ftjm(*request(cluster, "--max-active", "2", "--command-id", "b1", "-o", "json"))
    assert done.exit_code == 0, done.output
    [found] = rows(done)
    assert found == {
        "request": f"{NAME}/b1",
        "schedule": NAME,
        "queue": "etl",
        "name": "nightly",
        "id": "b1",
        "from": ago(cluster, HOURS),
        "to": ago(cluster, 0),
        "reprocess": "none",
        "max_active": 2,
        "status": "DONE",
        "instants": HOURS + 1,
        "submitted": HOURS + 1,
        "rerun": 0,
        "kept": 0,
        "succeeded": HOURS + 1,
        "failed": 0,
        "active": 0,
        "begun_at": found["begun_at"],
        "ended_at": found["ended_at"],
        "actor": found["actor"],
    }
    assert rows(ftjm("schedule", "backfills", "-o", "json")) == [found], "the same document"
    assert rows(ftjm("schedule", "backfills", NAME, "-o", "json")) == [found]
    assert rows(ftjm("schedule", "backfills", "etl/other", "-o", "json")) == []
    jobs = rows(ftjm("list", "--queue", "etl", "-o", "json"))
    assert {job["schedule"] for job in jobs} == {NAME}
    assert len(jobs) == HOURS + 1
    again = ftjm(*request(cluster, "--max-active", "2", "--command-id", "b1", "-o", "json"))
    assert (again.exit_code, rows(again)) == (0, [found]), "a repeated request is the same"


def test_a_run_that_fails_makes_the_exit_status_1_and_runs_again_if_that_is_asked_for(ftjm, cluster, monkeypatch):
    ended_jobs(cluster, monkeypatch, failing=1)
    done = ftjm(*request(cluster, "-o", "json"))
    assert (done.exit_code, rows(done)[0]["failed"]) == (1, 1)
    dry = rows(ftjm(*request(cluster, "--reprocess", "failed", "--dry-run", "-o", "json", hours=HOURS + 1)))
    assert dry == {"schedule": NAME, "instants": 5, "to_submit": 1, "to_rerun": 1, "to_keep": 3}
    again = ftjm(*request(cluster, "--reprocess", "failed", "-o", "json", hours=HOURS + 1))
    assert again.exit_code == 1, "one fails again"
    assert [rows(again)[0][count] for count in ("submitted", "rerun", "kept")] == [1, 1, 3]
    all_again = ftjm(*request(cluster, "--reprocess", "completed", "--dry-run", "-o", "json"))
    assert rows(all_again)["to_rerun"] == HOURS + 1


def test_a_table_names_what_was_done(ftjm, cluster, monkeypatch):
    ended_jobs(cluster, monkeypatch)
    done = ftjm(*request(cluster, "--command-id", "b1"))
    header, _, row = (line.split() for line in done.stdout.splitlines() if line.strip())
    assert header[:3] == ["REQUEST", "STATUS", "INSTANTS"]
    assert row == [f"{NAME}/b1", "DONE", "4", "4", "0", "0", "0", "4", "0"]


def test_a_backfill_that_is_not_waited_for_is_stopped(ftjm, cluster):
    begun = ftjm(*request(cluster, "--command-id", "b1", "--no-wait", "--max-active", "1", "-o", "json"))
    assert rows(begun) == {"request": f"{NAME}/b1", "answer": "accepted"}
    second = ftjm(*request(cluster, "--no-wait"))
    assert (second.exit_code, "b1 is; wait for its end, or stop it (UNDER_WAY)" in second.stderr) == (1, True)
    stopped = ftjm("schedule", "stop-backfill", f"{NAME}/b1", "-o", "json")
    assert rows(stopped) == {"request": f"{NAME}/b1", "answer": "accepted"}
    again = ftjm("schedule", "stop-backfill", f"{NAME}/b1")
    assert (again.exit_code, "UNKNOWN_BACKFILL" in again.stderr) == (1, True)
    [found] = rows(ftjm("schedule", "backfills", "-o", "json"))
    assert (found["status"], found["submitted"]) == ("STOPPED", 1)


def test_one_that_is_stopped_while_somebody_waits_says_why(ftjm, cluster, monkeypatch):
    monkeypatch.setattr(rules, "BACKFILL_INSTANTS_MAX", 3)
    done = ftjm(*request(cluster, "-o", "json"))
    [found] = rows(done)
    assert (done.exit_code, found["status"]) == (1, "STOPPED")
    assert found["reason"] == "expected at most 3 instants, but found more; ask for a shorter time"
    assert rows(ftjm("list", "-o", "json")) == []


def test_who_stops_waiting_is_told_that_the_backfill_goes_on(ftjm, cluster, monkeypatch):
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(BackfillFollower, "follow", interrupted)
    done = ftjm(*request(cluster, "--command-id", "b1"))
    assert f"see it with `ftjm schedule backfills`, stop it with `ftjm schedule stop-backfill {NAME}/b1`" in done.stderr


def test_a_schedule_that_is_deleted_stops_its_backfill(ftjm, cluster):
    ftjm(*request(cluster, "--command-id", "b1", "--no-wait", "--max-active", "1"))
    send(cluster, c.DeleteSchedule(queue="etl", name="nightly"))
    [found] = rows(ftjm("schedule", "backfills", "-o", "json"))
    assert (found["status"], found["reason"]) == ("STOPPED", "its schedule was deleted")
    assert cluster.partitions[partition_for("etl", PARTITIONS)].state.processes() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("nightly", "--from", "2d", "--to", "1d"), "QUEUE/NAME"),
        ((NAME, "--from", "soon", "--to", "1d"), "--from"),
        ((NAME, "--from", "1d", "--to", "2d"), "expected to not to be before from"),
        ((NAME, "--from", "2d", "--to", "1d", "--reprocess", "all"), "expected one of none, failed, completed"),
        ((NAME, "--from", "2d", "--to", "1d", "--command-id", "a b"), "--command-id"),
    ],
)
def test_wrong_options_are_refused(ftjm, options, words):
    done = ftjm("schedule", "backfill", *options)
    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception)


def test_a_name_that_is_none_of_a_backfill_is_refused(ftjm):
    for text in (NAME, f"{NAME}/b1/c", "etl//b1"):
        done = ftjm("schedule", "stop-backfill", text)
        assert isinstance(done.exception, UsageError)
        assert "QUEUE/NAME/ID" in str(done.exception)


def test_a_dry_run_refuses_too_many_instants(ftjm, cluster):
    done = ftjm(*request(cluster, "--dry-run", hours=10_001))
    assert isinstance(done.exception, FtjmError)
    assert "at most 10000 instants" in str(done.exception)

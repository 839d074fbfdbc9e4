"""Schedules by the command line on a cluster in memory: declared by files, shown, paused, triggered, reckoned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjm.adapters.avro import codec
from ftjm.cli import answers
from ftjm.core.identity import partition_for
from ftjm.core.records.commands import ApplySchedule
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import Schedule, ScheduleSpec
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.specs.resource_files import InvalidResourcesError
from tests.cli.cluster import PARTITIONS, Cluster

SCHEDULE = """
apiVersion: ftjm.io/v1
kind: Schedule
metadata: {{name: {name}, labels: {{app: etl}}}}
spec:
  queue: etl
  {spec}
  job: {{command: [load, --all], payload: {{rows: 1.50}}, env: {{RATE: 1.50}}}}
"""
QUEUE = "apiVersion: ftjm.io/v1\nkind: Queue\nmetadata: {name: etl, labels: {app: etl}}\nspec: {concurrency: 3}\n"
HOUR_MS = 3_600_000


def write(name: str, spec: str = "interval: 1h") -> None:
    Path("files").mkdir(exist_ok=True)
    Path(f"files/{name}.yaml").write_text(SCHEDULE.format(name=name, spec=spec))


def declared(cluster: Cluster, name: str) -> Schedule | None:
    return cluster.partitions[partition_for("etl", PARTITIONS)].state.schedule(f"etl/{name}")


def row(cluster: Cluster, name: str = "nightly") -> Schedule:
    found = declared(cluster, name)
    assert found is not None
    return found


def let_pass(cluster: Cluster, ms: int) -> None:
    cluster.now += ms
    cluster.decide(partition_for("etl", PARTITIONS))


def test_both_kinds_are_planned_applied_changed_and_pruned(ftjm, cluster):
    write("nightly")
    write("hourly", "cron: 0 * * * *")
    Path("files/etl.yaml").write_text(QUEUE)
    plan = ftjm("plan", "-f", "files")
    assert (plan.exit_code, plan.stdout.splitlines()[-1]) == (2, "3 to create, 0 to change, 0 to delete, 0 unchanged")
    assert '    spec.job.payload: {"rows": 1.5}\n' in plan.stdout
    assert ftjm("apply", "-f", "files").stdout == (
        "Queue etl created\nSchedule etl/hourly created\nSchedule etl/nightly created\n"
    )
    assert row(cluster).spec.job.payload == b'{"rows":1.5}'
    assert row(cluster).labels == {"app": "etl"}
    assert ftjm("plan", "-f", "files").exit_code == 0
    write("nightly", "interval: 2h")
    plan = ftjm("plan", "-f", "files", "-o", "json")
    [change] = [one for one in json.loads(plan.stdout) if one["action"] == "change"]
    assert (change["kind"], change["name"]) == ("Schedule", "etl/nightly")
    assert change["differences"] == [{"field": "spec.interval", "before": "1h", "after": "2h"}]
    assert ftjm("apply", "-f", "files/nightly.yaml").stdout == "Schedule etl/nightly changed\n"
    Path("files/hourly.yaml").unlink()
    pruned = ftjm("apply", "-f", "files", "--prune", "-l", "app=etl")
    assert pruned.stdout == "Queue etl unchanged\nSchedule etl/nightly unchanged\nSchedule etl/hourly deleted\n"
    assert declared(cluster, "hourly") is None
    assert ftjm("delete", "-f", "files").stdout == "Queue etl deleted\nSchedule etl/nightly deleted\n"
    assert declared(cluster, "nightly") is None


def test_a_schedule_that_seems_to_move_to_another_queue_must_be_replaced(ftjm, cluster):
    write("nightly")
    ftjm("apply", "-f", "files")
    moved = Path("files/nightly.yaml").read_text().replace("queue: etl", "queue: mail")
    plan = ftjm("plan", "-f", "-", stdin=moved)
    assert plan.exit_code == 2
    assert (
        "    spec.queue: etl -> mail: may not be changed, so etl/nightly must be replaced by this one; " in plan.stdout
    )
    [change] = json.loads(ftjm("plan", "-f", "-", "-o", "json", stdin=moved).stdout)
    assert (change["action"], change["name"]) == ("create", "mail/nightly")
    assert "must be replaced" in change["note"]
    for other in (moved.replace("app: etl", "app: web"), f"{moved}---\n{Path('files/nightly.yaml').read_text()}"):
        assert "must be replaced" not in ftjm("plan", "-f", "-", stdin=other).stdout


def test_an_edit_in_between_is_a_conflict(ftjm, cluster, monkeypatch):
    write("nightly")
    ftjm("apply", "-f", "files")
    write("nightly", "interval: 3h")
    connect = answers.connect

    def after_an_edit(*arguments):
        spec = ScheduleSpec(JobSpec(command=["x"]), every_ms=1_000)
        command = ApplySchedule(queue="etl", name="nightly", spec=spec, actor="bob@host")
        cluster.append(partition_for("etl", PARTITIONS), b"etl", codec.encode(command), [])
        return connect(*arguments)

    monkeypatch.setattr(answers, "connect", after_an_edit)
    applied = ftjm("apply", "-f", "files")
    assert (applied.exit_code, applied.stdout) == (1, "")
    assert "error: etl/nightly was refused: expected the declaration of the schedule to be" in applied.stderr
    assert "bob@host" in applied.stderr
    assert "(CONFLICT)" in applied.stderr
    assert row(cluster).spec.every_ms == 1_000


def test_a_mistake_in_a_file_is_reported_before_anything_changes(ftjm, cluster):
    write("nightly", "cron: 0 0 30 2 *\n  time_zone: berlin")
    for verb in ("lint", "plan", "apply", "delete"):
        refused = ftjm(verb, "-f", "files").exception
        assert isinstance(refused, InvalidResourcesError), verb
        assert "files/nightly.yaml:7: spec.cron: expected a date that comes" in str(refused)
        assert "did you mean Europe/Berlin?" in str(refused)
    assert not any(cluster.commands)


def test_what_a_schedule_is_declared_to_is_a_file_again(ftjm, ftjm_json, cluster):
    write("nightly", "cron: 30 2 * * *\n  time_zone: Europe/Berlin\n  overlap: forbid")
    ftjm("apply", "-f", "files")
    described = ftjm("schedule", "describe", "etl/nightly", "-o", "yaml").stdout
    fields = yaml.safe_load(described)
    assert (fields["metadata"], fields["spec"]["queue"]) == ({"name": "nightly", "labels": {"app": "etl"}}, "etl")
    assert fields["spec"]["job"]["payload"] == {"rows": 1.5}
    assert ftjm("plan", "-f", "-", stdin=described).exit_code == 0
    ftjm("schedule", "pause", "etl/nightly", "--reason", "the source is down")
    assert ftjm("apply", "-f", "-", stdin=described).stdout == "Schedule etl/nightly unchanged\n"
    document = ftjm_json("schedule", "describe", "etl/nightly")
    assert (document["paused"], document["pause_reason"]) == (True, "the source is down")
    assert "next_at" not in document
    table = ftjm("schedule", "describe", "etl/nightly").stdout
    for text in ("revision 1, at ", "app=etl", "30 2 * * *", "Europe/Berlin", "forbid", "the source is down"):
        assert text in table
    write("nightly", "cron: 0 2 * * *")
    assert ftjm("apply", "-f", "files").stdout == "Schedule etl/nightly changed\n"
    assert row(cluster).paused_at, "no file resumes a schedule"


def test_schedules_are_listed_by_queue(ftjm, ftjm_json):
    write("nightly", "cron: '@daily'")
    write("hourly")
    Path("files/mail.yaml").write_text(
        SCHEDULE.format(name="digest", spec="interval: 5m").replace("queue: etl", "queue: m")
    )
    ftjm("apply", "-f", "files")
    assert [one["schedule"] for one in ftjm_json("schedule", "list")] == ["etl/hourly", "etl/nightly", "m/digest"]
    assert [one["schedule"] for one in ftjm_json("schedule", "list", "--queue", "etl")] == ["etl/hourly", "etl/nightly"]
    assert ftjm_json("schedule", "list", "--queue", "et") == []
    table = ftjm("schedule", "list").stdout
    for text in ("WHEN", "every 5m", "@daily", "UTC", "allow"):
        assert text in table
    assert isinstance(ftjm("schedule", "list", "--queue", "a b").exception, UsageError)


def test_a_paused_schedule_does_not_fire_and_a_request_makes_one_job(ftjm, ftjm_json, cluster):
    write("nightly", "interval: 1h\n  starting_deadline: 1d")
    ftjm("apply", "-f", "files")
    paused = ftjm_json("schedule", "pause", "etl/nightly", "--reason", "repair")
    assert paused == {"schedule": "etl/nightly", "answer": "accepted"}
    let_pass(cluster, 2 * HOUR_MS)
    assert row(cluster).last_job == ""
    made = ftjm_json("schedule", "trigger", "etl/nightly", "--command-id", "once")
    assert (made["schedule"], made["job"], made["answer"]) == ("etl/nightly", "etl/nightly.now.once", "accepted")
    assert ftjm_json("schedule", "trigger", "etl/nightly", "--command-id", "once") == made, "the same job"
    assert ftjm_json("schedule", "resume", "etl/nightly")["answer"] == "accepted"
    let_pass(cluster, HOUR_MS)
    fired = row(cluster).last_job
    assert fired.startswith("nightly.20")
    listed = ftjm_json("list", "--queue", "etl", "--from-log")
    assert {one["job_id"]: one["schedule"] for one in listed} == {
        fired: "etl/nightly",
        "nightly.now.once": "etl/nightly",
    }
    job = ftjm_json("get", f"etl/{fired}")
    assert (job["schedule"], job["env"]["FTJM_SCHEDULE"]) == ("etl/nightly", "nightly")
    history = ftjm_json("history", f"etl/{fired}")
    assert [one["event"] for one in history][:2] == ["JobSubmitted", "ScheduleFired"]
    assert history[1]["details"]["instant"].endswith(":00.000Z")


def test_a_request_while_the_last_job_runs_is_refused_where_nothing_may_overlap(ftjm, cluster):
    write("nightly", "interval: 1h\n  overlap: forbid")
    ftjm("apply", "-f", "files")
    assert ftjm("schedule", "trigger", "etl/nightly").exit_code == 0
    refused = ftjm("schedule", "trigger", "etl/nightly")
    assert refused.exit_code == 1
    assert "(OVERLAP)" in refused.stderr


@pytest.mark.parametrize("verb", ["pause", "resume", "trigger"])
def test_a_schedule_that_is_not_there_is_refused(ftjm, verb):
    refused = ftjm("schedule", verb, "etl/absent")
    assert refused.exit_code == 1
    assert "etl/absent was refused: expected a schedule etl/absent, but there is none" in refused.stderr
    assert "(UNKNOWN_SCHEDULE)" in refused.stderr
    assert isinstance(ftjm("schedule", verb, "absent").exception, UsageError)


@pytest.mark.parametrize("verb", ["describe", "next"])
def test_a_schedule_that_is_not_there_is_not_shown(ftjm, verb):
    refused = ftjm("schedule", verb, "etl/absent").exception
    assert isinstance(refused, FtjmError)
    assert (refused.expected, refused.exit_code) == ("a schedule etl/absent", 1)
    for wrong in ("absent", "a b/c", "etl/", "etl/a/b"):
        assert isinstance(ftjm("schedule", verb, wrong).exception, UsageError)


# ---- the next instants


def instants(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["local"], one["utc"]) for one in rows]


def test_the_next_instants_of_files_need_no_cluster(ftjm_json, cluster):
    write("nightly", "cron: 30 2 * * *\n  time_zone: Europe/Berlin\n  dst: both")
    found = ftjm_json("schedule", "next", "-f", "files", "--after", "2026-10-24T12:00:00Z", "--count", "3")
    assert instants(found) == [
        ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00Z"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z"),
        ("2026-10-26T02:30:00+01:00", "2026-10-26T01:30:00Z"),
    ]
    assert {one["schedule"] for one in found} == {"etl/nightly"}
    assert not any(cluster.commands)


def test_the_next_instants_of_a_declared_schedule_end_with_it(ftjm, ftjm_json):
    write("nightly", "interval: 1h\n  start: 2030-01-01T00:30:00Z\n  end: 2030-01-01T02:00:00Z")
    ftjm("apply", "-f", "files")
    found = ftjm_json("schedule", "next", "etl/nightly", "--after", "2029-01-01T00:00:00Z")
    assert [one["utc"] for one in found] == ["2030-01-01T00:30:00Z", "2030-01-01T01:30:00Z"]
    assert "2030-01-01T00:30:00+00:00" in ftjm("schedule", "next", "etl/nightly").stdout


def test_next_needs_either_a_schedule_or_files(ftjm):
    Path("files").mkdir()
    Path("files/etl.yaml").write_text(QUEUE)
    for options in ([], ["etl/nightly", "-f", "files"], ["-f", "files"]):
        assert isinstance(ftjm("schedule", "next", *options).exception, UsageError)
    write("nightly")
    assert isinstance(ftjm("schedule", "next", "-f", "files", "--after", "soon").exception, UsageError)


# ---- calendars


CALENDAR = (
    "apiVersion: ftjm.io/v1\nkind: Calendar\nmetadata: {name: work}\n"
    "spec: {days: [mon, tue, wed, thu, fri], excluded: [2026-01-06]}\n"
)
AFTER = ("--after", "2026-01-02T00:00:00Z", "--count", "3", "-o", "json")


def test_the_next_instants_are_on_days_of_the_calendar(ftjm, cluster):
    write("nightly", "{cron: 0 7 * * *, calendar: work}".strip("{}").replace(", ", "\n  "))
    done = ftjm("schedule", "next", "-f", "files", *AFTER)
    assert isinstance(done.exception, UsageError)
    assert "the calendar work of etl/nightly in these files" in str(done.exception)
    Path("files/work.yaml").write_text(CALENDAR)
    wanted = ["2026-01-02T07:00:00Z", "2026-01-05T07:00:00Z", "2026-01-07T07:00:00Z"]
    assert [row["utc"] for row in json.loads(ftjm("schedule", "next", "-f", "files", *AFTER).stdout)] == wanted
    applied = ftjm("apply", "-f", "files")
    assert applied.exit_code == 0, applied.output
    assert [row["utc"] for row in json.loads(ftjm("schedule", "next", "etl/nightly", *AFTER).stdout)] == wanted
    shown = json.loads(ftjm("schedule", "describe", "etl/nightly", "-o", "json").stdout)
    assert (shown["declaration"]["spec"]["calendar"], shown["calendar_revision"] > 0) == ("work", True)
    assert ftjm("plan", "-f", "files").exit_code == 0
    dry = ftjm(
        *("schedule", "backfill", "etl/nightly", "--from", "2026-01-01T00:00:00Z"),
        *("--to", "2026-01-08T00:00:00Z", "--dry-run", "-o", "json"),
    )
    assert json.loads(dry.stdout)["instants"] == 4

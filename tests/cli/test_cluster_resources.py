"""Calendars, windows and cordons, by the command line on a cluster in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ftjm.cli import adoption
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.windows import WindowEffect, WindowSpec
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.specs.resource_files import InvalidResourcesError
from tests.cli.cluster import PARTITIONS, Cluster

FILES = """
apiVersion: ftjm.io/v1
kind: Window
metadata: {name: nights, labels: {team: data}}
spec:
  cron: "0 22 * * *"
  duration: 8h
  time_zone: Europe/Berlin
  calendar: workdays
  queues: [etl, "batch-*"]
  workers: ["big-*"]
---
apiVersion: ftjm.io/v1
kind: Calendar
metadata: {name: workdays}
spec: {time_zone: Europe/Berlin, days: [mon, tue, wed, thu, fri], included: [2026-12-27], excluded: [2026-12-25]}
"""
WORKDAYS = CalendarSpec("Europe/Berlin", [0, 1, 2, 3, 4], ["2026-12-27"], ["2026-12-25"])
NIGHTS = WindowSpec(
    "0 22 * * *", 8 * 3_600_000, WindowEffect.ALLOW, "Europe/Berlin", "workdays", ["etl", "batch-*"], ["big-*"]
)


@pytest.fixture(autouse=True)
def files(ftjm) -> None:
    Path("r.yaml").write_text(FILES)


def written(text: str) -> None:
    Path("r.yaml").write_text(f"apiVersion: ftjm.io/v1\nmetadata: {{name: x}}\n{text}\n")


def test_files_are_planned_applied_in_their_order_and_known_to_all(ftjm, cluster: Cluster) -> None:
    assert ftjm("plan", "-f", "r.yaml").exit_code == 2
    applied = ftjm("apply", "-f", "r.yaml")
    assert (applied.exit_code, applied.stdout) == (0, "Window nights created\nCalendar workdays created\n")
    for partition in cluster.partitions:
        known = partition.state.calendar("workdays")
        assert known is not None
        assert known.spec == WORKDAYS
        assert partition.state.windows()["nights"].spec.window == [NIGHTS]
    assert ftjm("plan", "-f", "r.yaml").exit_code == 0


def test_what_is_described_is_what_is_applied(ftjm, cluster: Cluster) -> None:
    ftjm("apply", "-f", "r.yaml")
    shown = ftjm("window", "describe", "nights", "-o", "yaml").stdout + "---\n"
    shown += ftjm("calendar", "describe", "workdays", "-o", "yaml").stdout
    Path("again.yaml").write_text(shown)
    assert ftjm("plan", "-f", "again.yaml").exit_code == 0
    assert [one["kind"] for one in yaml.safe_load_all(shown)] == ["Window", "Calendar"]
    (listed,) = json.loads(ftjm("window", "list", "-o", "json").stdout)
    assert (listed["window"], listed["open"], listed["adopted"], listed["partitions"]) == (
        "nights", False, PARTITIONS, PARTITIONS
    )  # fmt: skip
    table = ftjm("calendar", "list").stdout
    assert f"{PARTITIONS}/{PARTITIONS}" in table
    assert "mon, tue, wed, thu, fri" in table
    assert "workdays" in ftjm("window", "describe", "nights").stdout
    assert json.loads(ftjm("calendar", "describe", "workdays", "-o", "json").stdout)["adopted"] == PARTITIONS


def test_a_calendar_that_a_window_uses_is_not_deleted_and_both_are_in_their_order(ftjm, cluster: Cluster) -> None:
    ftjm("apply", "-f", "r.yaml")
    both = Path("r.yaml").read_text()
    Path("r.yaml").write_text(both.split("---")[1])
    refused = ftjm("delete", "-f", "r.yaml")
    assert refused.exit_code == 1
    assert "calendar workdays was refused" in refused.stderr.replace("error: workdays", "error: calendar workdays")
    assert "IN_USE" in refused.stderr
    Path("r.yaml").write_text(both)
    deleted = ftjm("delete", "-f", "r.yaml")
    assert (deleted.exit_code, deleted.stdout) == (0, "Window nights deleted\nCalendar workdays deleted\n")
    assert all(not list(partition.state.resources_from("")) for partition in cluster.partitions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Calendar\nspec: {excluded: [2026-02-30]}", ("r.yaml:4", "excluded", "2026-02-30")),
        ("kind: Calendar\nspec: {time_zone: Europe/Berlni}", ("time_zone", "Europe/Berlin")),
        ("kind: Calendar\nspec: {days: []}", ("days", "at least one day")),
        ("kind: Calendar\nspec: {days: [monday]}", ("days", "monday")),
        ("kind: Calendar\nspec: {included: [2026-12-24], excluded: [2026-12-24]}", ("2026-12-24 in both",)),
        ("kind: Calendar\nspec: {included: [1]}", ("included", "expected a date")),
        ("kind: Window\nspec: {cron: 0 8 30 2 *, duration: 1h, queues: [q]}", ("r.yaml:4", "cron", "never due")),
        ("kind: Window\nspec: {cron: 0 8 * * *, duration: 0s, queues: [q]}", ("duration", "expected 1s to 366d")),
        ("kind: Window\nspec: {cron: 0 8 * * *, duration: 1h, queues: []}", ("queues", "at least one")),
        ("kind: Window\nspec: {cron: 0 8 * * *, duration: 1h, queues: ['a b']}", ("queues", "expected a name")),
        ("kind: Window\nspec: {cron: 0 8 * * *, duration: 1h, queues: [q], effect: maybe}", ("allow, deny", "maybe")),
        (
            "kind: Window\nspec:\n  {cron: 0 8 * * *, duration: 1h, queues: [q],\n  on_close: kill}",
            ("r.yaml:6", "on_close", "finish, stop", "kill"),
        ),
        ("kind: Window\nspec: {cron: 0 8 * * *, queues: [q]}", ("duration",)),
    ],
)
def test_faults_are_named_with_line_and_field(ftjm, text: str, words: tuple[str, ...]) -> None:
    written(text)
    error = ftjm("lint", "-f", "r.yaml").exception
    assert isinstance(error, InvalidResourcesError)
    assert all(word in str(error) for word in words), str(error)


def test_a_window_whose_calendar_is_missing_or_has_no_such_day_is_refused(ftjm, cluster: Cluster) -> None:
    written("kind: Window\nspec: {cron: 0 8 * * *, duration: 1h, queues: [q], calendar: workdays}")
    refused = ftjm("apply", "-f", "r.yaml")
    assert refused.exit_code == 1
    assert "UNKNOWN_CALENDAR" in refused.stderr


def test_who_waits_is_told_of_partitions_that_lag(ftjm, cluster: Cluster, monkeypatch) -> None:
    monkeypatch.setattr(adoption, "_lagging", lambda *_: 2)
    monkeypatch.setattr(adoption, "LOOK_SECONDS", 0.01)
    error = ftjm("apply", "-f", "r.yaml", "--patience", "0s").exception
    assert isinstance(error, FtjmError)
    assert "all partitions to know Calendar workdays" in str(error)
    assert ftjm("apply", "-f", "r.yaml", "--no-wait").exit_code == 0


def test_workers_are_cordoned_and_uncordoned_by_name(ftjm, cluster: Cluster) -> None:
    cordoned = ftjm("worker", "cordon", "w1", "w2", "--reason", "a fan is broken")
    assert (cordoned.exit_code, cordoned.stdout.count("accepted")) == (0, 2)
    for partition in cluster.partitions:
        assert {name: row.spec.cordon[0].reason for name, row in partition.state.cordons().items()} == {
            "w1": "a fan is broken",
            "w2": "a fan is broken",
        }
    assert ftjm("worker", "uncordon", "w1").exit_code == 0
    assert all(list(partition.state.cordons()) == ["w2"] for partition in cluster.partitions)
    assert ftjm("worker", "uncordon", "unknown").exit_code == 0
    assert isinstance(ftjm("worker", "cordon", "a b").exception, UsageError)


def test_a_resource_that_is_not_there_is_named(ftjm, cluster: Cluster) -> None:
    assert "a window x" in str(ftjm("window", "describe", "x").exception)
    assert "the name of a calendar" in str(ftjm("calendar", "describe", "a b").exception)
    assert ftjm("window", "list").exit_code == 0


def test_a_calendar_that_a_schedule_uses_is_not_deleted(ftjm, cluster: Cluster) -> None:
    calendar = "apiVersion: ftjm.io/v1\nkind: Calendar\nmetadata: {name: workdays, labels: {app: t}}\n"
    schedule = (
        "---\napiVersion: ftjm.io/v1\nkind: Schedule\nmetadata: {name: nightly, labels: {app: t}}\n"
        "spec: {queue: q, cron: 30 2 * * *, calendar: workdays, job: {command: [backup]}}\n"
    )
    Path("r.yaml").write_text(calendar + schedule)
    assert ftjm("apply", "-f", "r.yaml").exit_code == 0
    Path("c.yaml").write_text(calendar)
    error = ftjm("delete", "-f", "c.yaml").exception
    assert isinstance(error, UsageError)
    assert "q/nightly" in str(error)
    Path("c.yaml").write_text(schedule.removeprefix("---\n").replace(", calendar: workdays", ""))
    assert ftjm("apply", "-f", "c.yaml", "--prune", "-l", "app=t").exit_code == 0
    assert all(not list(partition.state.resources_from("")) for partition in cluster.partitions)

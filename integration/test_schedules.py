"""Schedules, by the command line on a real Kafka: each instant fires once, over kills of the owner."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from ftjm.core.records import events as e
from ftjm.core.records.schedule_events import ScheduleDelayed, ScheduleFired, ScheduleSkipped
from ftjm.core.state.schedules import FiredBy, SkipReason
from ftjm.runtime.durations import format_time
from integration.harness import QUEUES, Cluster, Log, LogTail, Process
from integration.test_limits import ready, violations
from integration.test_metrics import until_ready
from integration.test_operations import rows, run
from integration.waiting import until

QUEUE = QUEUES[0]
SECOND_MS = 1_000
DUE_SCHEDULES = 1_000
KILL_OFFSETS_MS = (-50, 0, 50)
MANY_OFFSETS_MS = [round(-50 + 100 * n / 19) for n in range(20)]
"""With --long. Then the figure is tested, too."""
LATE_MS_MAX = 1_000
LATE_MS_MAX_BUSY = 30_000
"""Far beyond what a takeover takes: a busy machine may stall anything. The figure is printed."""


def write(name: str, spec: str, script: str = "true", queue: str = QUEUE) -> str:
    """A document of a schedule."""
    return (
        f"apiVersion: ftjm.io/v1\nkind: Schedule\nmetadata: {{name: {name}, labels: {{app: t}}}}\n"
        f"spec:\n  queue: {queue}\n  {spec}\n  job: {{command: [sh, -c, {script!r}]}}\n"
    )


def apply(running: Cluster, *documents: str) -> None:
    done = apply_all(running, *documents)
    assert done.returncode == 0, done.stderr


def apply_all(running: Cluster, *documents: str) -> subprocess.CompletedProcess[str]:
    Path("schedules.yaml").write_text("---\n".join(documents))
    return run(running.settings, "apply", "-f", "schedules.yaml")


def with_worker(running: Cluster) -> None:
    until_ready(running.worker("w", slots=8, queues=[QUEUE]))


def firings(log: Log, name: str, *by: FiredBy) -> list[ScheduleFired]:
    found = log.events(ScheduleFired)
    return [f for f in found if isinstance(f, ScheduleFired) and f.name == name and (not by or f.by in by)]


def check_each_instant_once(log: Log, unended: str = "") -> None:
    """No instant fires twice, none makes no job, and the checker of histories agrees.

    Args:
        unended: how the checker says that a job has not ended, if no worker runs them.
    """
    fired = [f for f in log.events(ScheduleFired) if isinstance(f, ScheduleFired)]
    instants = Counter((f.queue, f.name, f.instant) for f in fired if f.by is not FiredBy.TRIGGERED)
    assert set(instants.values()) <= {1}, "an instant that fired twice"
    submitted = Counter((s.queue, s.job_id) for s in log.events(e.JobSubmitted))
    assert all(submitted[f.queue, f.job_id] == 1 for f in fired), "a firing without its one job"
    assert [text for text in violations(log) if not unended or unended not in text] == []


def until_fired(running: Cluster, name: str, count: int) -> None:
    until(lambda: len(firings(running.log(), name)) >= count, f"{count} firings of {name}")


def gaps(instants: Iterable[int]) -> set[int]:
    return {later - earlier for earlier, later in pairwise(sorted(instants))}


def test_each_second_fires_once_over_a_kill_of_the_owner_and_finds_its_instant(running: Cluster) -> None:
    scheduler = ready(running)
    with_worker(running)
    written = running.folder / "instants"
    apply(running, write("tick", "interval: 1s", f"echo $FTJM_SCHEDULED_AT >>{written}"))
    until_fired(running, "tick", 3)
    scheduler.kill()
    scheduler.start()
    until_fired(running, "tick", len(firings(running.log(), "tick")) + 5)
    done = run(running.settings, "delete", "-f", "schedules.yaml")
    assert done.stdout == f"Schedule {QUEUE}/tick deleted\n"
    fired = firings(running.log(), "tick")
    log = running.until_done((f.queue, f.job_id) for f in fired)
    check_each_instant_once(log)
    assert gaps(f.instant for f in fired) == {SECOND_MS}, "also those in which no owner was alive"
    ran = [text.replace("Z", ".000Z") for text in written.read_text().split()]
    assert sorted(ran) == sorted(format_time(f.instant) for f in fired)


def test_a_schedule_is_paused_resumed_and_triggered(running: Cluster) -> None:
    settings, scheduler = running.settings, ready(running)
    with_worker(running)
    key = f"{QUEUE}/tick"
    apply(running, write("tick", "interval: 1s"))
    until_fired(running, "tick", 2)
    assert rows(settings, "schedule", "pause", key, "--reason", "repair") == {"schedule": key, "answer": "accepted"}
    shown = rows(settings, "schedule", "describe", key)
    assert (shown["paused"], shown["pause_reason"], "next_at" in shown) == (True, "repair", False)
    scheduler.kill()
    scheduler.start()
    until_ready(scheduler)
    running.until_owners("a")
    made = rows(settings, "schedule", "trigger", key, "--command-id", "once")
    assert made == rows(settings, "schedule", "trigger", key, "--command-id", "once") | {"state": made["state"]}
    assert made["job"] == f"{QUEUE}/tick.now.once"
    before = firings(running.log(), "tick", FiredBy.DUE, FiredBy.WAITED)
    time.sleep(2)
    assert firings(running.log(), "tick", FiredBy.DUE, FiredBy.WAITED) == before, "the next owner keeps the pause"
    assert run(settings, "apply", "-f", "schedules.yaml").stdout == f"Schedule {key} unchanged\n"
    assert rows(settings, "schedule", "list")[0]["paused"], "no file resumes a schedule"
    rows(settings, "schedule", "resume", key)
    until_fired(running, "tick", len(before) + 3)
    described = run(settings, "schedule", "describe", key, "-o", "yaml").stdout
    Path("described.yaml").write_text(described)
    assert run(settings, "plan", "-f", "described.yaml").returncode == 0
    run(settings, "delete", "-f", "schedules.yaml")
    fired = firings(running.log(), "tick")
    log = running.until_done((f.queue, f.job_id) for f in fired)
    check_each_instant_once(log)
    assert [f.job_id for f in firings(log, "tick", FiredBy.TRIGGERED)] == ["tick.now.once"]
    job = rows(settings, "get", f"{QUEUE}/tick.now.once")
    assert (job["schedule"], job["state"]) == (key, "SUCCEEDED")


def test_jobs_of_a_schedule_do_not_overlap_where_that_is_forbidden(running: Cluster) -> None:
    ready(running)
    with_worker(running)
    gate = running.folder / "gate"
    script = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    apply(
        running,
        write("forbids", "interval: 1s\n  overlap: forbid", script),
        write("queues", "interval: 1s\n  overlap: queue", script),
    )

    def kept_back() -> bool:
        log = running.log()
        skipped = {s.name for s in log.events(ScheduleSkipped) if isinstance(s, ScheduleSkipped)}
        return skipped == {"forbids", "queues"} and bool(log.events(ScheduleDelayed))

    until(kept_back, "instants to be skipped")
    refused = run(running.settings, "schedule", "trigger", f"{QUEUE}/forbids")
    assert (refused.returncode, "(OVERLAP)" in refused.stderr) == (1, True)
    log = running.log()
    assert (len(firings(log, "forbids")), len(firings(log, "queues"))) == (1, 1)
    gate.touch()
    until(lambda: firings(running.log(), "queues", FiredBy.WAITED), "what waits to fire at the end")
    until_fired(running, "forbids", 2)
    run(running.settings, "delete", "-f", "schedules.yaml")
    log = running.log()
    check_each_instant_once(running.until_done((f.queue, f.job_id) for f in log.events(ScheduleFired)))
    reasons = {s.reason for s in log.events(ScheduleSkipped) if isinstance(s, ScheduleSkipped)}
    assert reasons == {SkipReason.OVERLAP}


# ---- calendars


def calendar(*excluded: str) -> str:
    head = "apiVersion: ftjm.io/v1\nkind: Calendar\nmetadata: {name: days}\n"
    return f"{head}spec: {{excluded: [{', '.join(excluded)}]}}\n"


def test_a_schedule_fires_on_days_of_its_calendar_which_changes_while_the_owner_is_killed(running: Cluster) -> None:
    settings, scheduler = running.settings, ready(running)
    with_worker(running)
    now = time.time_ns() // 1_000_000
    today = [format_time(now + days * 86_400_000)[:10] for days in (0, 1)]
    tick = write("tick", "interval: 1s\n  calendar: days")
    refused = apply_all(running, tick)
    assert (refused.returncode, "(UNKNOWN_CALENDAR)" in refused.stderr) == (1, True)
    apply(running, tick, calendar(*today))
    shown = rows(settings, "schedule", "describe", f"{QUEUE}/tick")
    assert shown["next_at"] > format_time(now + 86_400_000)
    scheduler.kill()
    scheduler.start()
    until_ready(scheduler)
    apply(running, tick, calendar())
    until_fired(running, "tick", 3)
    used = run(settings, "delete", "-f", "schedules.yaml")
    assert used.returncode == 0, used.stderr
    count = len(firings(running.log(), "tick"))
    apply(running, tick, calendar())
    until_fired(running, "tick", count + 2)
    apply(running, tick, calendar(*today))
    count = len(firings(running.log(), "tick"))
    time.sleep(2)
    assert len(firings(running.log(), "tick")) == count
    run(settings, "delete", "-f", "schedules.yaml")
    log = running.until_done((f.queue, f.job_id) for f in firings(running.log(), "tick"))
    check_each_instant_once(log)


# ---- many at once


def kill_around_the_instant(running: Cluster, number: int, offset_ms: int, processes: dict[str, Process]) -> int:
    """Let all schedules of a fresh set be due in one second, and kill the owner around it.

    Returns: how late the last of them fired: from its instant to the commit of its batch, ms.
    """
    instant = (time.time_ns() // 1_000_000_000 + 25) * SECOND_MS
    start = format_time(instant).replace(".000", "")
    spec = f"interval: 1d\n  start: {start}\n  end: {start}"
    names = [f"r{number}-{n:04d}" for n in range(DUE_SCHEDULES)]
    apply(running, *(write(name, spec) for name in names))
    victim = processes[running.until_owners(*processes)[0]]
    left = instant + offset_ms - time.time_ns() // 1_000_000
    assert left > 0, f"declaring {DUE_SCHEDULES} schedules took too long"
    time.sleep(left / 1_000)
    killed_at = victim.kill()
    fired = until_all_fired(running, set(names))
    late = max(at for at, _ in fired) - instant
    by_victim = sum(owner == victim.name for _, owner in fired)
    print(f"killed {killed_at - instant:+d} ms from the instant: {by_victim} fired by the victim", end=", ")
    print(f"{len(fired) - by_victim} by the next owner, at most {late} ms late")
    victim.start()
    until_ready(victim)
    return late


def until_all_fired(running: Cluster, names: set[str]) -> list[tuple[int, str]]:
    """Wait until all of these schedules have fired. Returns the time of each firing's commit, and its owner."""

    def fired() -> list[tuple[int, str]] | None:
        found = [
            (batch.time_ms, batch.owner)
            for batch in tail.read_on().batches[0]
            for event in batch.events
            if isinstance(event, ScheduleFired) and event.name in names
        ]
        return found if len(found) >= len(names) else None

    with LogTail(running.settings) as tail:
        return until(fired, f"{len(names)} schedules to fire")


@pytest.mark.timeout(1_800)
def test_a_thousand_schedules_of_one_second_fire_once_over_a_kill_of_their_owner(
    running: Cluster, request: pytest.FixtureRequest
) -> None:
    processes = {name: running.scheduler(name) for name in ("a", "b")}
    for process in processes.values():
        until_ready(process)
    long = request.config.getoption("--long")
    offsets = MANY_OFFSETS_MS if long else KILL_OFFSETS_MS
    late = [kill_around_the_instant(running, number, each, processes) for number, each in enumerate(offsets)]
    assert max(late) <= (LATE_MS_MAX if long else LATE_MS_MAX_BUSY), late
    log = running.log()
    check_each_instant_once(log, unended="expected it to have ended")
    assert len(log.events(ScheduleFired)) == DUE_SCHEDULES * len(offsets)

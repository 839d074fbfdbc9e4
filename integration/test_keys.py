"""Concurrency keys, by the command line on a real Kafka, over kills of the owner."""

from __future__ import annotations

from ftjm.core.records import events as e
from integration.harness import QUEUES, Cluster
from integration.test_limits import declare, explained, ready, violations, with_slots
from integration.test_operations import rows, run, state_of
from integration.waiting import until

QUEUE = QUEUES[0]


def submitted(running: Cluster, name: str, script: str) -> None:
    """Submit a job of the key `k`."""
    options = ("--queue", QUEUE, "--job-id", name, "--concurrency-key", "k")
    done = run(running.settings, "submit", *options, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr


def test_jobs_of_one_key_never_run_at_the_same_time_over_kills_of_the_owner(running: Cluster) -> None:
    scheduler = ready(running)
    with_slots(running, 8)
    lock, overlaps, gate = (running.folder / name for name in ("lock", "overlaps", "gate"))
    script = (
        f"mkdir {lock} || echo $FTJM_JOB_ID >> {overlaps}; while [ ! -e {gate} ]; do sleep 0.05; done; "
        f"sleep 0.1; rmdir {lock}"
    )
    names = [f"j{number}" for number in range(10)]
    for name in names:
        submitted(running, name, script)
    until(lambda: state_of(running.settings, names[0]) == "RUNNING", "the first job to run")
    assert state_of(running.settings, names[-1]) == "PENDING"
    found = explained(running, names[-1])
    assert found["reason"] == "ConcurrencyLimit"
    assert f"the key is taken by {QUEUE}/{names[0]} (RUNNING since" in found["text"]
    assert "8 job(s) get the key before it" in found["text"]
    scheduler.kill()
    scheduler.start()
    gate.touch()
    until(lambda: state_of(running.settings, names[2]) == "SUCCEEDED", "some jobs to end")
    scheduler.kill()
    scheduler.start()
    log = running.until_done([(QUEUE, name) for name in names])
    assert not overlaps.exists(), overlaps.read_text()
    assert [event.job_id for event in log.events(e.AttemptSucceeded)] == names
    assert violations(log) == []


def test_a_job_is_skipped_or_replaces_others_where_its_queue_says_so(running: Cluster) -> None:
    ready(running)
    with_slots(running, 2)
    declare(running, "concurrency_keys: {on_conflict: drop}")
    submitted(running, "first", "sleep 1000")
    until(lambda: state_of(running.settings, "first") == "RUNNING", "the first job to run")
    options = ("--queue", QUEUE, "--job-id", "dropped", "--concurrency-key", "k", "--wait")
    done = run(running.settings, "submit", *options, "--", "true")
    assert done.returncode != 0
    assert "SKIPPED" in done.stdout + done.stderr
    declare(running, "concurrency_keys: {on_conflict: replace}")
    submitted(running, "newest", "true")
    log = running.until_done([(QUEUE, name) for name in ("first", "dropped", "newest")])
    states = [rows(running.settings, "get", f"{QUEUE}/{name}")["state"] for name in ("first", "dropped", "newest")]
    assert states == ["CANCELLED", "SKIPPED", "SUCCEEDED"]
    assert [event.job_id for event in log.events(e.JobSkipped)] == ["dropped"]
    assert violations(log) == []


def test_a_job_that_waits_for_its_key_for_too_long_fails_and_is_kept_as_a_dead_letter(running: Cluster) -> None:
    scheduler = ready(running)
    with_slots(running, 2)
    declare(
        running,
        "waiting_limits: [{reason: ConcurrencyLimit, after: 12s, action: fail}, {after: 1s}], "
        "dead_letter: {retention: 30d}",
    )
    submitted(running, "first", "sleep 1000")
    until(lambda: state_of(running.settings, "first") == "RUNNING", "the first job to run")
    submitted(running, "late", "true")
    until(lambda: running.log().events(e.JobStuck, job=(QUEUE, "late")), "the other limit to tell of it")
    scheduler.kill()
    scheduler.start()
    until(lambda: state_of(running.settings, "late") == "FAILED", "the job to fail")
    late = rows(running.settings, "get", f"{QUEUE}/late")
    assert late["reason"] == "WAITING_LIMIT"
    assert "now for ConcurrencyLimit, and its queue allows 12000 ms" in late["error"]
    dead = rows(running.settings, "list", "--from-log", "--queue", QUEUE, "--dead")
    assert [one["job"] for one in dead] == [f"{QUEUE}/late"]
    assert rows(running.settings, "queue", "describe", "--from-log", QUEUE)["failed"] == 1
    purged = run(running.settings, "bulk", "purge", "--queue", QUEUE, "--dead")
    assert purged.returncode == 0, purged.stderr
    assert rows(running.settings, "list", "--from-log", "--queue", QUEUE, "--dead") == []
    assert run(running.settings, "cancel", f"{QUEUE}/first").returncode == 0
    assert violations(running.until_done([(QUEUE, "first")])) == []

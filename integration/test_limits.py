"""Limits, rates and ageing of queues, by the command line on a real Kafka, over a kill of the owner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjm.core.records import events as e
from ftjm.lab.checker.judge import check
from ftjm.lab.checker.verdict import LogEntry
from integration.harness import QUEUES, Cluster, Log, Process
from integration.test_metrics import until_ready
from integration.test_operations import job, rows, run, submit
from integration.waiting import until

QUEUE = QUEUES[0]
OUTCOMES = (e.AttemptSucceeded, e.AttemptFailed, e.AttemptLost, e.AttemptDeclined)


def declare(running: Cluster, spec: str, queue: str = QUEUE) -> None:
    """Apply a file with this spec."""
    text = f"apiVersion: ftjm.io/v1\nkind: Queue\nmetadata: {{name: {queue}}}\nspec: {{{spec}}}\n"
    Path("queue.yaml").write_text(text)
    done = run(running.settings, "apply", "-f", "queue.yaml")
    assert done.returncode == 0, done.stderr


def ready(running: Cluster) -> Process:
    """A scheduler that owns all partitions."""
    scheduler = running.scheduler()
    until_ready(scheduler)
    running.until_owners("a")
    return scheduler


def with_slots(running: Cluster, slots: int) -> None:
    until_ready(running.worker("w", slots=slots, queues=[QUEUE]))


def explained(running: Cluster, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rows(running.settings, "explain", "--from-log", f"{QUEUE}/{name}")
    return found


def most_at_a_time(log: Log) -> int:
    """The highest number of attempts of the queue that had a worker at a time."""
    live = most = 0
    for event in log.events(e.AttemptDispatched, *OUTCOMES):
        live += 1 if isinstance(event, e.AttemptDispatched) else -1
        most = max(most, live)
    return most


def violations(log: Log) -> list[str]:
    """What the checker of histories finds."""
    entries: list[LogEntry] = []
    for batch in log.all():
        records: list[e.Event | e.BatchClosed] = [*batch.events, batch.closed]
        entries += [LogEntry(batch.partition, batch.offset, record, batch.time_ms) for record in records]
    return check(entries).violations


def test_no_more_jobs_run_at_a_time_than_the_queue_is_declared_to(running: Cluster) -> None:
    scheduler = ready(running)
    declare(running, "concurrency: 2")
    with_slots(running, 8)
    gate = running.folder / "gate"
    names = [f"j{number:02d}" for number in range(24)]
    submit(running.settings, *(job(name, f"while [ ! -e {gate} ]; do sleep 0.05; done") for name in names))
    until(lambda: most_at_a_time(running.log()) == 2, "two jobs to have a worker")

    def kept_back() -> dict[str, Any] | None:
        found = explained(running, names[-1])
        return found if found["reason"] == "QueueLimit" else None

    assert "2 job(s) of queue" in until(kept_back, "the limit to be named")["text"]
    scheduler.kill()
    scheduler.start()
    gate.touch()
    log = running.until_done([(QUEUE, name) for name in names])
    assert most_at_a_time(log) == 2
    assert violations(log) == []


def test_no_more_jobs_start_than_the_rate_of_the_queue_allows(running: Cluster) -> None:
    scheduler = ready(running)
    declare(running, "rate: {limit: 10, per: 1s, burst: 2}")
    with_slots(running, 8)
    names = [f"j{number:02d}" for number in range(40)]
    submit(running.settings, *(job(name) for name in names))
    until(lambda: running.log().events(e.AttemptDispatched), "the first job to start")
    scheduler.kill()
    scheduler.start()
    log = running.until_done([(QUEUE, name) for name in names])
    starts = [event.at for event in log.events(e.AttemptDispatched)]
    for first, at in enumerate(starts):
        for number, later in enumerate(starts[first:], start=1):
            assert number <= 2 + (later - at) * 10 / 1_000
    assert violations(log) == []
    declare(running, "rate: {limit: 1, per: 1h}")
    submit(running.settings, job("one"), job("two"))
    until(lambda: log_of(running, "one").count("AttemptSucceeded"), "one more to start")
    assert explained(running, "two")["reason"] == "RateLimit"


def log_of(running: Cluster, name: str) -> list[str]:
    return running.log().event_names((QUEUE, name))


def test_a_job_of_a_low_priority_has_its_turn(running: Cluster) -> None:
    ready(running)
    settings = running.settings
    declare(running, "ageing: 10ms")
    run(settings, "queue", "pause", QUEUE)
    submit(settings, job("low", priority=0))
    submitted_at = running.log().events(e.JobSubmitted)[0].at
    number = 0
    while True:  # until one comes that is eligible more than 100 points later
        submit(settings, job(f"high{number}", priority=100))
        if running.log().events(e.JobSubmitted)[-1].at > submitted_at + 100 * 10:
            break
        number += 1
    declare(running, "ageing: off")
    assert order(running)[0].startswith("high"), "by priority alone"
    declare(running, "ageing: 10ms")
    run(settings, "queue", "resume", QUEUE)
    with_slots(running, 1)
    names = ["low", *(f"high{each}" for each in range(number + 1))]
    log = running.until_done([(QUEUE, name) for name in names])
    started = [event.job_id for event in log.events(e.AttemptDispatched)]
    assert started.index("low") < started.index(f"high{number}")
    assert violations(log) == []


def order(running: Cluster) -> list[str]:
    """The queue's waiting jobs in their order, once all have the places that follow from the declaration."""

    def settled() -> list[str] | None:
        events = running.log().events(e.QueueReordered)
        if not events or events[-1].next_key:  # type: ignore[attr-defined]
            return None
        waiting = rows(running.settings, "list", "--from-log", "--queue", QUEUE, "--state", "READY")
        ahead = {row["job_id"]: explained(running, row["job_id"]).get("ahead") or 0 for row in waiting}
        return sorted(ahead, key=lambda name: ahead[name])

    return until(settled, "the waiting jobs to have their places")

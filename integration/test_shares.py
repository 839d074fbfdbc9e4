"""Shares of a queue and weights of queues, by the command line on a real Kafka, over a kill of the owner."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from integration.harness import QUEUES, Cluster, Log
from integration.test_limits import QUEUE, declare, explained, ready, violations, with_slots
from integration.test_metrics import until_ready
from integration.test_operations import job, run, submit
from integration.waiting import until

LOAD_SECONDS = 150
AGEING_MS = 1_000
WEIGHTS = {"a": 1, "b": 2, "c": 4}
SHARES = "shares: [{identifier: b, weight: 2}, {identifier: c, weight: 4}]"


def slot_time(log: Log, since: int) -> Counter[str]:
    """Slot time by the first letter of the jobs' ids: of the attempts that were dispatched from `since` (ms) on, and
    while jobs of all letters waited."""
    dispatched = log.events(e.AttemptDispatched)
    last = {event.job_id[0]: event.at for event in dispatched}
    counted = {event.job_id for event in dispatched if since <= event.at < min(last.values())}
    used: Counter[str] = Counter()
    for event in log.events(e.AttemptSucceeded):
        if event.job_id in counted:
            used[event.job_id[0]] += event.ended_at - event.started_at  # type: ignore[attr-defined]
    return used


def test_shares_have_slot_time_by_their_weights_over_a_kill_of_the_owner(running: Cluster) -> None:
    scheduler = ready(running)
    declare(running, f"{SHARES}, half_life: 1m")
    counts, lasts = {"a": 150, "b": 34, "c": 600}, {"a": 0.05, "b": 0.5, "c": 0.05}
    jobs = [
        job(f"{share}{number}", f"sleep {lasts[share]}", share_identifier=share)
        for share, count in counts.items()
        for number in range(count)
    ]
    submit(running.settings, *jobs)
    with_slots(running, 4)
    until(lambda: len(running.log().events(e.AttemptSucceeded)) > 200, "some jobs to end")
    scheduler.kill()
    scheduler.start()
    log = running.until_done([(QUEUE, each.job_id) for each in jobs])
    used = slot_time(log, log.events(e.AttemptDispatched)[0].at)
    parts = {share: used[share] / sum(used.values()) * 7 for share in WEIGHTS}
    print("slot time, of 7 parts:", {share: round(part, 3) for share, part in parts.items()})
    for share, weight in WEIGHTS.items():
        assert parts[share] == pytest.approx(weight, rel=0.05), parts
    assert violations(log) == []


def test_a_share_is_declared_submitted_and_explained(running: Cluster) -> None:
    ready(running)
    settings = running.settings
    declare(running, SHARES)
    described = run(settings, "queue", "describe", QUEUE, "-o", "yaml", "--from-log").stdout
    assert "weight: 4" in described
    assert "half_life: 10m" in described
    gate = running.folder / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.05; done"
    with_slots(running, 2)
    for name in ("a0", "b0", "b1"):
        about = ("--queue", QUEUE, "--job-id", name, "--share-identifier", name[0])
        done = run(settings, "submit", *about, "--", "sh", "-c", wait)
        assert done.returncode == 0, done.stderr
    until(lambda: len(running.log().events(e.AttemptStarted)) == 2, "two jobs to run")
    submit(settings, job("a1", share_identifier="a"))

    def behind() -> str | None:
        found = explained(running, "a1")
        return str(found["text"]) if found["reason"] == "Share" else None

    assert "share a has used 1s for a weight of 1; share b has used 1s for a weight of 2" in until(behind, "the share")
    refused = run(settings, "submit", "--queue", QUEUE, "--share-identifier", "a b", "--", "true")
    assert refused.returncode != 0
    assert "share_identifier" in refused.stderr
    gate.touch()
    log = running.until_done([(QUEUE, name) for name in ("a0", "b0", "b1", "a1")])
    assert violations(log) == []


def in_partition_of(queue: str) -> str:
    """Another queue in the same partition."""
    names = (f"other{number}" for number in range(1_000))
    return next(name for name in names if partition_for(name, 4) == partition_for(queue, 4))


@pytest.mark.parametrize("heavy", [QUEUES[1], in_partition_of(QUEUE)], ids=["in two partitions", "in one partition"])
def test_queues_have_slots_by_their_weights(running: Cluster, heavy: str) -> None:
    ready(running)
    declare(running, "weight: 3", heavy)
    names = {QUEUE: 60, heavy: 180}
    jobs = [job(f"j{n:03}", "sleep 0.2", queue) for queue, count in names.items() for n in range(count)]
    submit(running.settings, *jobs)
    until_ready(running.worker("w", slots=4, queues=list(names)))
    log = running.until_done([(each.queue, each.job_id) for each in jobs])
    dispatched = log.events(e.AttemptDispatched)
    end = min({event.queue: event.at for event in dispatched}.values())
    starts = Counter(event.queue for event in dispatched if event.at <= end)
    print("starts while both waited:", dict(starts))
    assert starts[heavy] / starts[QUEUE] == pytest.approx(3, rel=0.1)
    assert violations(log) == []


@pytest.mark.long
def test_jobs_of_priority_0_have_their_turn_under_too_many_of_priority_100(running: Cluster) -> None:
    ready(running)
    declare(running, "ageing: 1s")
    with_slots(running, 2)
    names: list[str] = []
    began = time.monotonic()
    # Attempts take 0.25 s, so two slots start at most 8 a second; 9.6 a second come.
    while (passed := time.monotonic() - began) < LOAD_SECONDS:
        due = [f"high{number}" for number in range(sum(name[0] == "h" for name in names), int(passed * 9.6))]
        due += [f"low{number}" for number in range(sum(name[0] == "l" for name in names), int(passed / 2))]
        submit(running.settings, *(job(name, "sleep 0.25", priority=100 if name[0] == "h" else 0) for name in due))
        names += due
        time.sleep(0.5)
    log = running.until_done([(QUEUE, name) for name in names])
    eligible = {event.job_id: event.at for event in log.events(e.JobSubmitted)}
    place = {event.job_id: number for number, event in enumerate(log.events(e.AttemptDispatched))}
    overtaken = late = 0
    for low in (name for name in names if name[0] == "l"):
        for high in (name for name in names if name[0] == "h"):
            if eligible[high] > eligible[low] + 100 * AGEING_MS:
                late += 1
                overtaken += place[high] < place[low]
    print(f"{late} pairs in which the bound says who goes first; {overtaken} of them in the wrong order")
    assert late > 1_000
    assert not overtaken
    assert violations(log) == []

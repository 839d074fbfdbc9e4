"""What a job costs, by counts: records, bytes and transactions in the topics, wake-ups and system calls of processes.

Jobs go one after the other: each is submitted when the one before has ended. So each decision is a transaction of its
own, which is the most that a job may cost, and the counts do not depend on the load of the machine. What the processes
do all the time, as heartbeats, is counted before, and subtracted. An attempt that takes long also reports that it has
started, which is a third transaction: its job counts as one and a half.

A bound is a tenth above what was counted for records and transactions, of which a job has a whole number, and a quarter
above it for the rest, on an idle machine or on a busy one, whichever was more. docs/benchmarks.md has the counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftjm.core.records import events as e
from ftjm.core.records.commands import SubmitJob
from ftjm.lab.chaos.members import ZYGOTE
from ftjm.lab.chaos.process_trees import running
from ftjm.local.kafka import EmbeddedKafka
from ftjm.specs.job import parse_job
from ftjm.worker.attempts.linux_processes import mark_of
from integration.counting import Activity, Written, activity, written
from integration.task_app import nothing
from integration.workers import Site, Worker

ROOT = str(Path(__file__).parents[1])
QUEUE = "counted"
JOBS, WARM, WAITING = 200, 40, 400
IDLE_SECONDS = 3.0
KINDS: dict[str, dict[str, Any]] = {"task": {"task": nothing.name}, "command": {"command": ["true"]}}
EVENTS = ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]
TOPICS_MAX: dict[str, dict[str, Written]] = {
    "task": {
        "commands": Written(2.2, 2.2, 0, 580),
        "events": Written(5.5, 2.2, 2.2, 1_100),
        "dispatch": Written(1.1, 1.1, 0, 325),
        "replies": Written(2.2, 2.2, 0, 440),
    },
    "command": {
        "commands": Written(2.2, 2.2, 0, 530),
        "events": Written(5.5, 2.2, 2.2, 1_050),
        "dispatch": Written(1.1, 1.1, 0, 270),
        "replies": Written(2.2, 2.2, 0, 450),
    },
}
PROCESSES_MAX: dict[str, dict[str, Activity]] = {
    "task": {
        "scheduler": Activity(130, 92, 1_000),
        "supervisor": Activity(14, 4, 10),
        "guard": Activity(3, 1.3, 250),
        "task process": Activity(1.3, 0.1, 10),
    },
    "command": {
        "scheduler": Activity(130, 92, 1_000),
        "supervisor": Activity(14, 4, 10),
        "guard": Activity(12, 20, 5_300),
    },
}
TRANSACTIONS_MAX = 10
"""In which jobs are decided that all waited."""


class Costs(NamedTuple):
    """What one job costs."""

    topics: dict[str, Written]
    processes: dict[str, Activity]


@pytest.fixture(scope="module")
def site(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("counts"), partitions=1, lanes=1) as site:
        yield site


@pytest.fixture(scope="module")
def worker(site: Site) -> Worker:
    """A worker on which an attempt runs all the time: what the guard does while any attempt runs is no job's cost."""
    found = site.start_worker(QUEUE, slots=2, lease=60, app="integration.task_app", env={"PYTHONPATH": ROOT})
    site.submit(QUEUE, "always", ["sleep", "3600"])
    site.until_event(QUEUE, "always", e.AttemptStarted)
    return found


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run_one_after_the_other(site: Site, kind: str, name: str, number: int) -> list[str]:
    """Run so many jobs, and return their ids."""
    ids = [f"{kind}-{name}-{one:03}" for one in range(number)]
    for job_id in ids:
        [ticket] = site.submit_all([{"queue": QUEUE, "job_id": job_id, **KINDS[kind]}])
        assert site.until_ended(ticket) == ["SUCCEEDED"]
    return ids


def parts(site: Site, worker: Worker) -> dict[str, list[int]]:
    """The processes of each part, without those that end with a job."""
    guard = worker.guard().pid
    kept = [process.pid for process in running(guard, ZYGOTE)]
    return {
        "scheduler": [site.owner.pid],
        "supervisor": [worker.pid],
        "guard": [guard],
        "task process": [pid for pid in kept if mark_of(pid) != mark_of(worker.pid)],
    }


@pytest.fixture(scope="module")
def costs(site: Site, worker: Worker, kafka: EmbeddedKafka, kind: str) -> Costs:
    """Run the jobs, and count. What was too much is counted once more: only what the code costs comes again."""
    run_one_after_the_other(site, kind, "warm", WARM)
    first = counted(site, worker, kafka, kind, "first")
    if not too_much(first.topics, TOPICS_MAX[kind]) and not too_much(first.processes, PROCESSES_MAX[kind]):
        return first
    second = counted(site, worker, kafka, kind, "second")
    return Costs(
        {name: Written(*map(min, one, second.topics[name])) for name, one in first.topics.items()},
        {name: Activity(*map(min, one, second.processes[name])) for name, one in first.processes.items()},
    )


def counted(site: Site, worker: Worker, kafka: EmbeddedKafka, kind: str, name: str) -> Costs:
    """Count what jobs cost."""
    of = parts(site, worker)

    def look() -> dict[str, Activity]:
        return {part: activity(pids) for part, pids in of.items()}

    def topics() -> dict[str, Written]:
        return {topic: written(kafka.directory, site.settings.topic(topic)) for topic in TOPICS_MAX[kind]}

    began_with, began = look(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    idle = {part: found.minus(began_with[part]).each(time.monotonic() - began) for part, found in look().items()}
    held, before, began = topics(), look(), time.monotonic()
    ids = set(run_one_after_the_other(site, kind, name, JOBS))
    after, seconds, holds = look(), time.monotonic() - began, topics()
    names: dict[str, list[str]] = {job_id: [] for job_id in ids}
    for event in site.log().events():
        if event.job_id in ids:
            names[event.job_id].append(type(event).__name__)
    slow = sum("AttemptStarted" in found for found in names.values())
    assert all([name for name in found if name != "AttemptStarted"] == EVENTS for found in names.values())
    number = JOBS + slow / 2
    found = Costs(
        {topic: now.minus(held[topic]).each(number) for topic, now in holds.items()},
        {part: now.minus(before[part]).minus(idle[part], seconds).each(number) for part, now in after.items()},
    )
    print(f"{kind}: {seconds / JOBS * 1000:.1f} ms a job, {slow} slow; idle, each second: {idle}")
    for what, counts in {**found.topics, **found.processes}.items():
        print(f"{kind}, {what}: {counts}")
    return found


def too_much(found: Mapping[str, Any], bounds: Mapping[str, Any]) -> list[str]:
    """Describe each count that is beyond its bound."""
    return [
        f"{name}: expected at most {most:g} {field} a job, but found {count:.2f}"
        for name, bound in bounds.items()
        for field, most, count in zip(bound._fields, bound, found[name], strict=True)
        if count > most
    ]


def test_a_job_writes_no_more_than_it_did(costs: Costs, kind: str) -> None:
    assert too_much(costs.topics, TOPICS_MAX[kind]) == []


def test_a_job_wakes_no_more_and_calls_no_more_than_it_did(costs: Costs, kind: str) -> None:
    assert too_much(costs.processes, PROCESSES_MAX[kind]) == []


def test_jobs_that_wait_are_decided_in_few_transactions(site: Site, worker: Worker) -> None:
    assert worker.popen.poll() is None
    jobs = [parse_job({"queue": QUEUE, "job_id": f"waiting-{one}", **KINDS["task"]}) for one in range(WAITING)]
    site.owner.pause()
    try:
        tickets = [
            site.client.send(SubmitJob(queue=QUEUE, job_id=job.job_id or "", spec=job.spec, awaits=True))
            for job in jobs
        ]
        site.client.confirm()
    finally:
        site.owner.resume()
    assert set(site.until_ended(*tickets)) == {"SUCCEEDED"}
    submitting = [
        batch
        for batch in site.log().all()
        if any(isinstance(event, e.JobSubmitted) and event.job_id.startswith("waiting-") for event in batch.events)
    ]
    print(f"{WAITING} jobs that waited: {len(submitting)} transactions")
    assert len(submitting) <= TRANSACTIONS_MAX

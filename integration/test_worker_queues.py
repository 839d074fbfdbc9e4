"""Slots, queues and partitions: everyone gets a turn, nobody gets more than was offered."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from ftjm.core import events as e
from ftjm.embedded.kafka import EmbeddedKafka
from integration.harness import queue_on
from integration.workers import Site, attempts_of, told


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("queues")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.dismiss()


def test_one_slot_serves_queues_on_all_partitions_in_turn(site: Site) -> None:
    queues = [queue_on(p) for p in range(4)]
    jobs = [(queue, f"turn-{n}") for n in range(25) for queue in queues]  # for several turns each
    tickets = site.submit_all({"queue": q, "job_id": j, "command": site.probing(0.15)} for q, j in jobs)
    site.hire(*queues, slots=1)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    ran = {queue: [site.intervals(q, j)[0] for q, j in jobs if q == queue] for queue in queues}
    begin = min(i.started for each in ran.values() for i in each)
    last_first = max(min(i.started for i in each) for each in ran.values())
    first_last = min(max(i.started for i in each) for each in ran.values())
    told("one slot, four partitions: until each has had a turn", last_first - begin)
    assert last_first < first_last, "a queue was through before another had begun"
    one_at_a_time = sorted(i for each in ran.values() for i in ((x.started, x.last) for x in each))
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(one_at_a_time)), "two in one slot"
    site.judge(*jobs)


def test_two_workers_share_a_queue_within_their_slots(site: Site) -> None:
    queue = site.queue()
    workers = [site.hire(queue, slots=2) for _ in range(2)]
    jobs = [f"j{n}" for n in range(40)]
    tickets = site.submit_all({"queue": queue, "job_id": job, "command": site.probing(0.1)} for job in jobs)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    log = site.judge(*((queue, job) for job in jobs))
    done: dict[str, list[tuple[float, float]]] = {worker.name: [] for worker in workers}
    for dispatched in attempts_of(log.events(e.AttemptDispatched), e.AttemptDispatched):
        if dispatched.queue == queue:
            (ran,) = site.intervals(queue, dispatched.job_id)
            done[dispatched.worker].append((ran.started, ran.last))
    for name, intervals in done.items():
        told(f"of 40 jobs, {name} ran", len(intervals), "jobs")
        assert len(intervals) >= 8
        assert _most_at_once(intervals) <= 2


def test_higher_priority_first_then_the_older(site: Site) -> None:
    queue = site.queue()
    priorities = [50, 10, 90, 50, 90, 0, 100, 50]
    jobs = [{"queue": queue, "job_id": f"j{n}", "priority": p} for n, p in enumerate(priorities)]
    tickets = site.submit_all({**job, "command": site.probing(0.05)} for job in jobs)
    assert site.client.decided(tickets, 20)
    site.hire(queue, slots=1)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    started = {job["job_id"]: site.intervals(queue, str(job["job_id"]))[0].started for job in jobs}
    expected = [f"j{n}" for n, _ in sorted(enumerate(priorities), key=lambda item: (-item[1], item[0]))]
    assert sorted(started, key=lambda job: started[job]) == expected
    site.judge(*((queue, str(job["job_id"])) for job in jobs))


def test_a_thousand_short_jobs(site: Site) -> None:
    queues = [queue_on(p) for p in range(4)]
    jobs = [(queues[n % 4], f"short-{n}") for n in range(1_000)]
    for _ in range(2):
        site.hire(*queues, slots=4)
    began = time.monotonic()
    tickets = site.submit_all({"queue": queue, "job_id": job, "command": ["true"]} for queue, job in jobs)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    told("1,000 short jobs, 2 workers of 4 slots", len(jobs) / (time.monotonic() - began), "jobs/s")
    log = site.judge(*jobs)
    told("declined meanwhile", len([x for x in log.events(e.AttemptDeclined) if x.job_id.startswith("short")]), "jobs")
    assert [x for x in log.events(e.AttemptFailed, e.AttemptLost) if x.job_id.startswith("short")] == []


def _most_at_once(intervals: list[tuple[float, float]]) -> int:
    edges = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    return max(itertools.accumulate(change for _, change in edges))

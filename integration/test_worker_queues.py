"""Slots, queues and partitions: every partition gets a turn, and none gets more slots than it was offered."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from ftjm.core.records import events as e
from ftjm.local.kafka import EmbeddedKafka
from integration.harness import queue_on
from integration.workers import Site, attempts_of, print_figure


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("queues")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.stop_workers()


def test_one_slot_serves_queues_on_all_partitions_in_turn(site: Site) -> None:
    queues = [queue_on(p) for p in range(4)]
    jobs = [(queue, f"turn-{n}") for n in range(25) for queue in queues]  # for several turns each
    tickets = site.submit_all({"queue": q, "job_id": j, "command": site.probing(0.15)} for q, j in jobs)
    worker = site.start_worker(*queues, slots=1, lease=60)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    ran = {queue: [site.intervals(q, j)[0] for q, j in jobs if q == queue] for queue in queues}
    begin = min(i.started for each in ran.values() for i in each)
    last_first = max(min(i.started for i in each) for each in ran.values())
    first_last = min(max(i.started for i in each) for each in ran.values())
    print_figure("one slot, four partitions: until each has had a turn", last_first - begin)
    assert last_first < first_last, "a queue was finished before another had begun"
    one_at_a_time = sorted(i for each in ran.values() for i in ((x.started, x.last) for x in each))
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(one_at_a_time)), (
        "two attempts in one slot"
    )
    assert worker.stop() == 0, "jobs of a later test in these queues would be sent to it"
    site.check(*jobs)


def test_two_workers_share_a_queue_within_their_slots(site: Site) -> None:
    queue = site.queue()
    workers = [site.start_worker(queue, slots=2, lease=60) for _ in range(2)]
    jobs = [f"j{n}" for n in range(40)]
    tickets = site.submit_all({"queue": queue, "job_id": job, "command": site.probing(0.5)} for job in jobs)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    log = site.check(*((queue, job) for job in jobs))
    done: dict[str, list[tuple[float, float]]] = {worker.name: [] for worker in workers}
    dispatched = attempts_of(log.events(e.AttemptDispatched), e.AttemptDispatched)
    # An attempt that a worker has declined was dispatched, too.
    worker_of = {(x.job_id, x.attempt): x.worker for x in dispatched if x.queue == queue}
    for x in attempts_of(log.events(e.AttemptSucceeded), e.AttemptSucceeded):
        if x.queue == queue:
            (ran,) = site.intervals(queue, x.job_id)
            done[worker_of[x.job_id, x.attempt]].append((ran.started, ran.last))
    for name, intervals in done.items():
        print_figure(f"of 40 jobs, {name} ran", len(intervals), "jobs")
        assert len(intervals) >= 4
        assert _most_at_once(intervals) <= 2


def test_higher_priority_goes_first_then_the_older_job(site: Site) -> None:
    queue = site.queue()
    priorities = [50, 10, 90, 50, 90, 0, 100, 50]
    jobs = [{"queue": queue, "job_id": f"j{n}", "priority": p} for n, p in enumerate(priorities)]
    tickets = site.submit_all({**job, "command": site.probing(0.05)} for job in jobs)
    assert site.client.decided(tickets, 90)
    site.start_worker(queue, slots=1, lease=60)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    started = {job["job_id"]: site.intervals(queue, str(job["job_id"]))[0].started for job in jobs}
    expected = [f"j{n}" for n, _ in sorted(enumerate(priorities), key=lambda item: (-item[1], item[0]))]
    assert sorted(started, key=lambda job: started[job]) == expected
    site.check(*((queue, str(job["job_id"])) for job in jobs))


def test_a_thousand_short_jobs_run_without_a_loss(site: Site) -> None:
    queues = [queue_on(p) for p in range(4)]
    jobs = [(queues[n % 4], f"short-{n}") for n in range(1_000)]
    for _ in range(2):
        site.start_worker(*queues, slots=4, lease=60)
    began = time.monotonic()
    tickets = site.submit_all({"queue": queue, "job_id": job, "command": ["true"]} for queue, job in jobs)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    print_figure("1,000 short jobs, 2 workers of 4 slots", len(jobs) / (time.monotonic() - began), "jobs/s")
    log = site.check(*jobs)
    print_figure(
        "declined meanwhile", len([x for x in log.events(e.AttemptDeclined) if x.job_id.startswith("short")]), "jobs"
    )
    assert [x for x in log.events(e.AttemptFailed, e.AttemptLost) if x.job_id.startswith("short")] == []


def _most_at_once(intervals: list[tuple[float, float]]) -> int:
    edges = sorted([(start, 1) for start, _ in intervals] + [(end, -1) for _, end in intervals])
    return max(itertools.accumulate(change for _, change in edges))

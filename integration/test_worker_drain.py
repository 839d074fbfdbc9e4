"""A worker that is asked to leave finishes its attempts, takes no new ones, and loses nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest

from ftjm.client.ticket import Ticket
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason
from ftjm.local.kafka import EmbeddedKafka
from ftjm.runtime.clock import boot_ms
from integration.harness import queue_on
from integration.waiting import until
from integration.workers import UNTIL_STOPPED, Site, attempts_of, print_figure


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("drain")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.stop_workers()


def test_a_drained_worker_finishes_its_attempts_and_takes_no_new_ones(site: Site) -> None:
    queue = site.queue()
    leaver = site.start_worker(queue, slots=2, lease=60)
    running = [site.probe(queue, job, 5) for job in ("a", "b")]
    for job in ("a", "b"):
        site.until_running(queue, job)
    leaver.popen.terminate()
    until(lambda: leaver.log_lines("worker_draining"), "the signal to be heard")
    later = [site.probe(queue, job, 0.1) for job in ("c", "d", "e")]
    assert leaver.wait_for_exit() == 0
    finished_at = max(interval.last for job in ("a", "b") for interval in site.intervals(queue, job))
    print_figure("the last job's end to the worker's", boot_ms() - finished_at)
    assert site.until_ended(*running) == ["SUCCEEDED"] * 2
    assert site.has_left(leaver.name)
    assert all(site.intervals(queue, job) == [] for job in ("c", "d", "e"))
    (session,) = leaver.sessions()

    def lost() -> list[bool]:
        events = attempts_of(site.log().events(e.WorkerLost), e.WorkerLost)
        return [event.closed for event in events if event.session == session]

    assert until(lost, "the owner to know that it has left") == [True]
    site.start_worker(queue, slots=2, lease=60)
    assert site.until_ended(*later) == ["SUCCEEDED"] * 3
    for job in "abcde":
        assert len(site.intervals(queue, job)) == 1
    site.check(*((queue, job) for job in "abcde"))


def test_after_a_second_signal_a_worker_stops_its_jobs_and_they_run_elsewhere_at_once(site: Site) -> None:
    queue = site.queue()
    leaver = site.start_worker(queue, slots=1, lease=60)
    ticket = site.probe(queue, "job", 0.5, first=UNTIL_STOPPED)
    site.until_running(queue, "job")
    site.start_worker(queue, slots=1, lease=60)
    leaver.popen.send_signal(signal.SIGTERM)
    until(lambda: leaver.log_lines("worker_draining"), "the first signal to be heard")
    at = boot_ms()
    leaver.popen.send_signal(signal.SIGTERM)
    assert leaver.wait_for_exit() == 0
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    (lost,) = attempts_of(site.history(queue, "job"), e.AttemptLost)
    assert lost.reason == FailureReason.WORKER_STOPPED
    again = site.until_running(queue, "job", 2)
    print_figure("second SIGTERM to the job's next start", again.started - at)
    assert again.started - at < 30_000, "it waited for the lease"
    assert site.has_left(leaver.name)
    assert site.view(queue, "job").job.failures == 0
    site.assert_apart(queue, "job")
    site.check((queue, "job"))


def test_a_job_on_its_way_to_a_leaving_worker_is_declined_uncharged(site: Site) -> None:
    queue = site.queue()
    serial = count()
    # Whether a woken worker reads its signal or its lane first is not determined.
    job_id, ticket = until(lambda: declined_on_leaving(site, queue, f"job{next(serial)}"), "an attempt to be declined")
    job = site.view(queue, job_id).job
    assert (job.failures, job.losses) == (0, 0)
    site.start_worker(queue, slots=1, lease=60)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    site.check((queue, job_id))


def declined_on_leaving(site: Site, queue: str, job_id: str) -> tuple[str, Ticket] | None:
    """Send a worker a job and SIGTERM at once. Return the job if it was declined, None if it was run."""
    leaver = site.start_worker(queue, slots=1, lease=60)
    until(lambda: any(beat.offers for beat in site.heartbeats(leaver.name)), "an offer")
    leaver.pause()
    ticket = site.probe(queue, job_id, 0.1)
    site.until_event(queue, job_id, e.AttemptDispatched)
    leaver.popen.terminate()
    leaver.resume()
    assert leaver.wait_for_exit() == 0
    reasons = [event.reason for event in attempts_of(site.history(queue, job_id), e.AttemptDeclined)]
    if not reasons:
        assert site.until_ended(ticket) == ["SUCCEEDED"]
        return None
    assert reasons == ["the worker is leaving"]
    return job_id, ticket


def test_workers_come_and_go_under_load(site: Site) -> None:
    queues = [queue_on(0), queue_on(1)]
    jobs = [(queue, f"j{n}") for n in range(60) for queue in queues]
    staff = [site.start_worker(*queues, slots=2, lease=60) for _ in range(2)]
    tickets = site.submit_all({"queue": q, "job_id": j, "command": site.probing(0.1)} for q, j in jobs)
    for _ in range(3):
        begun = len(list(site.marks.glob("q*+j*")))
        until(partial(_begun, site, min(begun + 12, 118)), "twelve more to begin")
        staff.append(site.start_worker(*queues, slots=2, lease=60))
        leaver = staff.pop(0)
        leaver.popen.terminate()
        assert leaver.wait_for_exit() == 0
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    log = site.check(*jobs)
    assert [x for x in log.events(e.AttemptLost) if x.queue in queues] == []
    print_figure(
        "declined while scaling in", len([x for x in log.events(e.AttemptDeclined) if x.queue in queues]), "attempts"
    )
    for queue, job in jobs:
        assert len(site.intervals(queue, job)) == 1


def _begun(site: Site, count: int) -> bool:
    """Whether `count` attempts have begun."""
    return len(list(site.marks.glob("q*+j*"))) >= count

"""Workers that are asked to leave finish what they run, take nothing new, and lose nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest

from ftjm.clock import boot_ms
from ftjm.core import events as e
from ftjm.core.model import FailureReason
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.tickets import Ticket
from integration.harness import queue_on
from integration.waiting import until
from integration.workers import SLACK_MS, Site, attempts_of, told


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("drain")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.dismiss()


def test_a_drained_worker_finishes_what_runs_and_takes_nothing_new(site: Site) -> None:
    queue = site.queue()
    leaver = site.hire(queue, slots=2)
    running = [site.probe(queue, job, 1.5) for job in ("a", "b")]
    for job in ("a", "b"):
        site.until_running(queue, job)
    later = [site.probe(queue, job, 0.1) for job in ("c", "d", "e")]
    leaver.popen.terminate()
    assert leaver.left() == 0
    finished_at = max(interval.last for job in ("a", "b") for interval in site.intervals(queue, job))
    told("the last job's end to the worker's", boot_ms() - finished_at)
    assert site.until_ended(*running) == ["SUCCEEDED"] * 2
    assert site.closed(leaver.name)
    assert all(site.intervals(queue, job) == [] for job in ("c", "d", "e"))
    (session,) = leaver.sessions()
    lost = [x for x in attempts_of(site.log().events(e.WorkerLost), e.WorkerLost) if x.session == session]
    assert [x.closed for x in lost] == [True]
    site.hire(queue, slots=2)
    assert site.until_ended(*later) == ["SUCCEEDED"] * 3
    for job in "abcde":
        assert len(site.intervals(queue, job)) == 1
    site.judge(*((queue, job) for job in "abcde"))


def test_told_twice_it_stops_its_jobs_and_they_go_elsewhere_at_once(site: Site) -> None:
    queue = site.queue()
    leaver = site.hire(queue, slots=1)
    ticket = site.probe(queue, "job", 5.0)  # longer than the other worker takes to start
    site.until_running(queue, "job")
    site.hire(queue, slots=1)
    leaver.popen.send_signal(signal.SIGTERM)
    until(lambda: leaver.said("worker_draining"), "the first signal to be heard")
    at = boot_ms()
    leaver.popen.send_signal(signal.SIGTERM)
    assert leaver.left() == 0
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    (lost,) = attempts_of(site.history(queue, "job"), e.AttemptLost)
    assert lost.reason == FailureReason.WORKER_STOPPED
    again = site.until_running(queue, "job", 2)
    told("second SIGTERM to the job's next start", again.started - at)
    assert again.started - at < SLACK_MS
    assert site.closed(leaver.name)
    assert site.view(queue, "job").job.failures == 0
    site.assert_apart(queue, "job")
    site.judge((queue, "job"))


def test_what_was_on_its_way_to_a_leaving_worker_is_declined_uncharged(site: Site) -> None:
    queue = site.queue()
    serial = count()
    # Which of the two a woken worker reads first, its signal or its lane, is the system's choice.
    job_id, ticket = until(lambda: declined_on_leaving(site, queue, f"job{next(serial)}"), "an attempt to be declined")
    job = site.view(queue, job_id).job
    assert (job.failures, job.losses) == (0, 0)
    site.hire(queue, slots=1)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    site.judge((queue, job_id))


def declined_on_leaving(site: Site, queue: str, job_id: str) -> tuple[str, Ticket] | None:
    """Send a worker a job and the word to leave; the job, if it was declined rather than run to its end."""
    leaver = site.hire(queue, slots=1)
    until(lambda: any(beat.offers for beat in site.beats(leaver.name)), "an offer")
    leaver.pause()
    ticket = site.probe(queue, job_id, 0.1)
    site.until_event(queue, job_id, e.AttemptDispatched)
    leaver.popen.terminate()
    leaver.resume()
    assert leaver.left() == 0
    reasons = [event.reason for event in attempts_of(site.history(queue, job_id), e.AttemptDeclined)]
    if not reasons:
        assert site.until_ended(ticket) == ["SUCCEEDED"]
        return None
    assert reasons == ["the worker is leaving"]
    return job_id, ticket


def test_workers_come_and_go_under_load(site: Site) -> None:
    queues = [queue_on(0), queue_on(1)]
    jobs = [(queue, f"j{n}") for n in range(60) for queue in queues]
    staff = [site.hire(*queues, slots=2) for _ in range(2)]
    tickets = site.submit_all({"queue": q, "job_id": j, "command": site.probing(0.1)} for q, j in jobs)
    for _ in range(3):
        begun = len(list(site.marks.glob("q*+j*")))
        until(partial(_begun, site, min(begun + 12, 118)), "twelve more to begin")
        staff.append(site.hire(*queues, slots=2))
        leaver = staff.pop(0)
        leaver.popen.terminate()
        assert leaver.left() == 0
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    log = site.judge(*jobs)
    assert [x for x in log.events(e.AttemptLost) if x.queue in queues] == []
    told("declined while scaling in", len([x for x in log.events(e.AttemptDeclined) if x.queue in queues]), "attempts")
    for queue, job in jobs:
        assert len(site.intervals(queue, job)) == 1


def _begun(site: Site, count: int) -> bool:
    """Whether so many attempts have begun."""
    return len(list(site.marks.glob("q*+j*"))) >= count

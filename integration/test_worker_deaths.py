"""Supervisors, guards and jobs that die or freeze: what they ran is stopped in time, and runs once more elsewhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from ftjm.clock import boot_ms, wall_ms
from ftjm.core import events as e
from ftjm.core.commands import FailAttempt
from ftjm.core.model import FailureReason, JobState
from ftjm.embedded.kafka import EmbeddedKafka
from integration.waiting import until
from integration.workers import SLACK_MS, Site, attempts_of, below, gone, told

REPORTED_MS_MAX = 100


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("deaths")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.dismiss()


# ---- the supervisor


@pytest.mark.parametrize("lease", [1, 5])
def test_kill_9_of_a_worker_frees_its_jobs_after_the_lease(site: Site, lease: int) -> None:
    queue = site.queue()
    victim = site.hire(queue, slots=2, lease=lease)
    tickets = [site.probe(queue, job, 5 + lease / 5) for job in ("a", "b")]
    for job in ("a", "b"):
        site.until_running(queue, job)
    ran = below(victim.pid)
    heir = site.hire(queue, slots=2, lease=lease)
    # A later heir may have taken an attempt that a hasty lease lost: what counts is what runs where now.
    mine = [job for job in ("a", "b") if _holder(site, queue, job) == victim.name]
    assert mine
    at = boot_ms()
    victim.kill()
    told(f"lease {lease} s: the guard and all it ran gone", gone(ran, within_ms=2_000))
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * 2
    for job in mine:
        again = next(i for i in site.intervals(queue, job) if i.started > at)
        told(f"lease {lease} s: kill -9 of the worker to its job's next start", again.started - at)
        assert again.started - at < lease * 1000 + SLACK_MS
        # The owner waits for a whole lease from the last heartbeat, which was sent at most a fifth of it before.
        assert again.started - at > lease * 1000 * 0.7
        (lost,) = [x for x in attempts_of(site.history(queue, job), e.AttemptLost) if x.session in victim.sessions()]
        assert lost.reason == "LAPSED"
        assert site.view(queue, job).job.failures == 0
    assert heir.popen.poll() is None
    site.assert_apart(queue, "a", "b")
    site.judge((queue, "a"), (queue, "b"))


def test_what_becomes_of_a_job_is_its_own_choice(site: Site) -> None:
    queue = site.queue()
    victim = site.hire(queue, slots=4, lease=1)
    choices = ("requeue", "fail", "hold")
    tickets = {choice: site.probe(queue, choice, 30, on_worker_loss=choice) for choice in choices}
    for job in choices:
        site.until_running(queue, job)
    victim.kill()
    assert site.until_ended(tickets["fail"]) == ["FAILED"]
    for job in choices:
        site.until_event(queue, job, e.AttemptLost)
    held = site.view(queue, "hold").job
    assert (held.state, held.reason) == (JobState.HELD, "WORKER_LOST")
    failed = site.view(queue, "fail").job
    assert (failed.state, failed.reason) == (JobState.FAILED, "WORKER_LOST")
    assert site.view(queue, "requeue").job.state is JobState.READY
    for job in ("requeue", "hold"):
        site.cancel(queue, job)
    site.judge(*((queue, job) for job in ("requeue", "fail", "hold")))


def test_losses_are_counted_and_limited(site: Site) -> None:
    queue = site.queue()
    ticket = site.probe(queue, "unlucky", 30, worker_losses_max=1, max_attempts=1)
    for attempt in (1, 2):
        victim = site.hire(queue, slots=1, lease=1)
        site.until_running(queue, "unlucky", attempt)
        victim.kill()
        site.until_event(queue, "unlucky", e.AttemptLost, attempt)
    assert site.until_ended(ticket) == ["FAILED"]
    ended = site.view(queue, "unlucky")
    assert (ended.job.losses, ended.job.failures, ended.job.reason) == (2, 0, "WORKER_LOST")
    assert "2 of 1 times" in ended.outcome.error
    site.assert_apart(queue, "unlucky")
    site.judge((queue, "unlucky"))


def test_a_frozen_supervisor_loses_its_jobs_in_time_and_serves_again(site: Site) -> None:
    queue, lease = site.queue(), 2
    frozen = site.hire(queue, slots=1, lease=lease)
    ticket = site.probe(queue, "job", 3)
    first = site.until_running(queue, "job")
    at = boot_ms()
    frozen.pause()
    heir = site.hire(queue, slots=1, lease=lease)
    second = site.until_running(queue, "job", 2)
    killed = site.intervals(queue, "job")[0]
    assert not killed.finished
    told(f"lease {lease} s: SIGSTOP of the supervisor to the guard's kill", killed.last - at)
    told(f"lease {lease} s: SIGSTOP of the supervisor to the next start", second.started - at)
    told(f"lease {lease} s: between the two", second.started - killed.last)
    assert killed.last < second.started
    assert killed.last - at < lease * 1000
    assert first.attempt == 1
    before = len(frozen.sessions())
    frozen.resume()
    frozen.ready(before + 1)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    # What it says of its old attempt is refused; it may as well have kept silent.
    late = [r for r, _ in site.reports(queue, "job") if r.attempt == 1 and isinstance(r, FailAttempt)]
    refused = [x for x in attempts_of(site.history(queue, "job"), e.CommandRejected) if x.code == "STALE_ATTEMPT"]
    assert len(refused) >= len(late)
    heir.stop()
    again = site.probe(queue, "again", 0.1)
    assert site.until_ended(again) == ["SUCCEEDED"]
    assert attempts_of(site.history(queue, "again"), e.AttemptSucceeded)[0].session == frozen.sessions()[-1]
    site.assert_apart(queue, "job", "again")
    site.judge((queue, "job"), (queue, "again"))


# ---- the guard


def test_a_killed_guard_is_replaced_and_its_jobs_run_again_uncharged(site: Site) -> None:
    queue = site.queue()
    worker = site.hire(queue, slots=2)
    tickets = [site.probe(queue, job, 1.0, max_attempts=1) for job in ("a", "b")]
    for job in ("a", "b"):
        site.until_running(queue, job)
    guard, ran = worker.guard(), below(worker.pid)
    at = boot_ms()
    guard.kill()
    told("kill -9 of the guard: all it ran gone", gone(ran, within_ms=2_000))
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * 2
    for job in ("a", "b"):
        (lost,) = attempts_of(site.history(queue, job), e.AttemptLost)
        assert lost.reason == FailureReason.GUARD_LOST
        assert site.view(queue, job).job.failures == 0
        told("kill -9 of the guard to the job's next start", site.until_running(queue, job, 2).started - at)
    assert len(set(worker.sessions())) == 2
    assert worker.guard().pid != guard.pid
    site.assert_apart(queue, "a", "b")
    site.judge((queue, "a"), (queue, "b"))


def test_a_frozen_guard_is_replaced(site: Site) -> None:
    queue, lease = site.queue(), 2
    worker = site.hire(queue, slots=1, lease=lease)
    ticket = site.probe(queue, "job", 1.0)
    site.until_running(queue, "job")
    guard = worker.guard()
    guard.suspend()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    until(lambda: not guard.is_running() or worker.guard().pid != guard.pid, "another guard")
    site.assert_apart(queue, "job")
    site.judge((queue, "job"))


# ---- a job's own death


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("signal:11", FailureReason.SIGNAL),
        ("signal:9", FailureReason.SIGNAL),
        ("exit:3", FailureReason.EXIT_CODE),
    ],
)
def test_a_jobs_death_is_reported_within_100_ms(site: Site, how: str, reason: FailureReason) -> None:
    queue = site.queue()
    site.hire(queue, slots=1)
    ticket = site.probe(queue, "job", 0.5, how)
    assert site.until_ended(ticket) == ["FAILED"]
    (died,) = site.intervals(queue, "job")
    ((report, taken_at),) = [(r, at) for r, at in site.reports(queue, "job") if isinstance(r, FailAttempt)]
    assert isinstance(report, FailAttempt)
    told(f"{how}: last sign of life to the report's sending", report.sent_at - died.last_wall)
    told(f"{how}: last sign of life to the report in the log", taken_at - died.last_wall)
    assert report.sent_at - died.last_wall < REPORTED_MS_MAX
    assert report.reason is reason
    number = int(how.partition(":")[2])
    assert (report.signal, report.exit_code) == ((number, 0) if how.startswith("signal") else (0, number))
    site.judge((queue, "job"))


def test_a_killed_job_is_reported_within_100_ms_and_tried_again(site: Site) -> None:
    queue = site.queue()
    site.hire(queue, slots=1)
    command = ["sh", "-c", f"echo $$ > {site.marks}/{queue}.$FTJM_ATTEMPT; [ $FTJM_ATTEMPT = 2 ] || exec sleep 30"]
    ticket = site.submit(queue, "job", command, max_attempts=2, backoff={"initial": "0s"})
    path = site.marks / f"{queue}.1"
    pid = int(until(lambda: path.read_text() if path.exists() else "", "the job's pid"))
    at = wall_ms()
    os.kill(pid, signal.SIGKILL)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    ((report, _),) = [(r, at) for r, at in site.reports(queue, "job") if isinstance(r, FailAttempt)]
    told("kill -9 of a job to the report's sending", report.sent_at - at)
    assert report.sent_at - at < REPORTED_MS_MAX
    told("kill -9 of a job to the next attempt's first line", (path.parent / f"{queue}.2").stat().st_mtime * 1000 - at)
    assert site.view(queue, "job").job.failures == 1
    site.judge((queue, "job"))


def test_an_exhausted_memory_is_told_where_it_can_be(site: Site) -> None:
    """The limit is the job's own: Python says MemoryError and leaves. The kernel's killer cannot be called safely."""
    queue = site.queue()
    site.hire(queue, slots=1)
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2); bytearray(1 << 30)"
    ticket = site.submit(queue, "job", ["python3", "-c", script])
    assert site.until_ended(ticket) == ["FAILED"]
    (failed,) = attempts_of(site.history(queue, "job"), e.AttemptFailed)
    assert failed.reason is FailureReason.EXIT_CODE
    assert b"MemoryError" in failed.stderr
    site.judge((queue, "job"))


def _holder(site: Site, queue: str, job: str) -> str:
    """The worker that was given the newest attempt."""
    return str(attempts_of(site.history(queue, job), e.AttemptDispatched)[-1].worker)


def test_a_worker_that_is_killed_under_load_loses_nothing(site: Site) -> None:
    queue = site.queue()
    workers = [site.hire(queue, slots=2, lease=1) for _ in range(2)]
    jobs = [f"j{n}" for n in range(40)]
    tickets = site.submit_all(
        {"queue": queue, "job_id": job, "command": site.probing(0.2), "worker_losses_max": 5} for job in jobs
    )
    until(lambda: len(list(site.marks.glob(f"{queue}+*"))) > 8, "a fifth of the jobs to begin")
    workers[0].kill()
    time.sleep(0.2)  # so that the heir and the survivor share what is left
    site.hire(queue, slots=2, lease=1)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    site.assert_apart(queue, *jobs)
    site.judge(*((queue, job) for job in jobs))

"""Supervisors, guards and jobs die or freeze: their attempts are stopped in time and run again elsewhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from ftjm.core.records import events as e
from ftjm.core.records.commands import FailAttempt
from ftjm.core.state.model import FailureReason, JobState
from ftjm.local.kafka import EmbeddedKafka
from ftjm.runtime.clock import boot_ms, wall_ms
from integration.waiting import until
from integration.workers import UNTIL_STOPPED, Site, attempts_of, descendants, print_figure, wait_until_gone

REPORTED_MS_MAX = 30_000
"""A job's death is reported at once, and not only when the lease of a minute is over."""
LEASE = 5
"""Longer than a busy machine lets a worker wait. A shorter lease may end before the test ends it."""


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("deaths")) as site:
        yield site


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    yield shared
    shared.stop_workers()


# ---- the supervisor


def test_jobs_of_a_killed_worker_run_again_after_its_lease(site: Site) -> None:
    queue, lease = site.queue(), LEASE
    victim = site.start_worker(queue, slots=2, lease=lease)
    tickets = [site.probe(queue, job, 0.5, first=UNTIL_STOPPED) for job in ("a", "b")]
    for job in ("a", "b"):
        site.until_running(queue, job)
    ran = descendants(victim.pid)
    heir = site.start_worker(queue, slots=2, lease=60)
    # On a slow machine a lease may end early and the other worker take an attempt: only those of the victim count now.
    mine = [job for job in ("a", "b") if _holder(site, queue, job) == victim.name]
    assert mine
    at = boot_ms()
    victim.kill()
    print_figure(f"lease {lease} s: the guard and all it ran gone", wait_until_gone(ran, within_ms=60_000))
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * 2
    for job in mine:
        again = next(i for i in site.intervals(queue, job) if i.started > at)
        print_figure(f"lease {lease} s: kill -9 of the worker to its job's next start", again.started - at)
        assert again.started - at < UNTIL_STOPPED * 1000
        lost = [x for x in attempts_of(site.history(queue, job), e.AttemptLost) if x.session in victim.sessions()][-1]
        assert lost.reason == "LAPSED"
        assert site.view(queue, job).job.failures == 0
    assert heir.popen.poll() is None
    site.assert_apart(queue, "a", "b")
    site.check((queue, "a"), (queue, "b"))


def test_a_job_chooses_what_happens_when_its_worker_is_lost(site: Site) -> None:
    queue = site.queue()
    victim = site.start_worker(queue, slots=4, lease=LEASE)
    choices = ("requeue", "fail", "hold")
    tickets = {choice: site.probe(queue, choice, UNTIL_STOPPED, on_worker_loss=choice) for choice in choices}
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
    site.check(*((queue, job) for job in ("requeue", "fail", "hold")))


def test_losses_are_counted_and_limited(site: Site) -> None:
    queue = site.queue()
    ticket = site.probe(queue, "unlucky", UNTIL_STOPPED, worker_losses_max=1, max_attempts=1)
    for attempt in (1, 2):
        victim = site.start_worker(queue, slots=1, lease=LEASE)
        site.until_running(queue, "unlucky", attempt)
        victim.kill()
        site.until_event(queue, "unlucky", e.AttemptLost, attempt)
    assert site.until_ended(ticket) == ["FAILED"]
    ended = site.view(queue, "unlucky")
    assert (ended.job.losses, ended.job.failures, ended.job.reason) == (2, 0, "WORKER_LOST")
    assert "it is loss 2 of this run, and worker_losses_max allows 1" in ended.outcome.error
    site.assert_apart(queue, "unlucky")
    site.check((queue, "unlucky"))


def test_a_frozen_supervisor_loses_its_jobs_in_time_and_serves_again(site: Site) -> None:
    queue, lease = site.queue(), 3
    frozen = site.start_worker(queue, slots=1, lease=lease)
    ticket = site.probe(queue, "job", 1.0, first=UNTIL_STOPPED)
    first = site.until_running(queue, "job")
    at = boot_ms()
    frozen.pause()
    heir = site.start_worker(queue, slots=1, lease=60)
    second = site.until_running(queue, "job", 2)
    killed = site.intervals(queue, "job")[0]
    assert not killed.finished
    print_figure(f"lease {lease} s: SIGSTOP of the supervisor to the guard's kill", killed.last - at)
    print_figure(f"lease {lease} s: SIGSTOP of the supervisor to the next start", second.started - at)
    print_figure(f"lease {lease} s: between the two", second.started - killed.last)
    assert killed.last < second.started
    assert killed.last_wall < site.until_event(queue, "job", e.AttemptLost).at, "it went on past its lease"
    assert first.attempt == 1
    before = len(frozen.sessions())
    frozen.resume()
    frozen.ready(before + 1)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    # Its report on the old attempt, if it sends one, is refused.
    late = [r for r, _ in site.reports(queue, "job") if r.attempt == 1 and isinstance(r, FailAttempt)]

    def refused() -> list[str]:
        codes = [x.code for x in attempts_of(site.history(queue, "job"), e.CommandRejected)]
        return [code for code in codes if code == "STALE_ATTEMPT"]

    until(lambda: len(refused()) >= len(late), "its late reports to be refused")
    heir.stop()
    again = site.probe(queue, "again", 0.1)
    assert site.until_ended(again) == ["SUCCEEDED"]
    assert attempts_of(site.history(queue, "again"), e.AttemptSucceeded)[0].session in frozen.sessions()
    site.assert_apart(queue, "job", "again")
    site.check((queue, "job"), (queue, "again"))


# ---- the guard


def test_a_killed_guard_is_replaced_and_its_jobs_run_again_uncharged(site: Site) -> None:
    queue = site.queue()
    worker = site.start_worker(queue, slots=2, lease=60)
    tickets = [site.probe(queue, job, 1.0, first=UNTIL_STOPPED, max_attempts=1) for job in ("a", "b")]
    for job in ("a", "b"):
        site.until_running(queue, job)
    guard, ran = worker.guard(), descendants(worker.pid)
    at = boot_ms()
    guard.kill()
    print_figure("kill -9 of the guard: all it ran gone", wait_until_gone(ran, within_ms=60_000))
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * 2
    reasons = []
    for job in ("a", "b"):
        (lost,) = attempts_of(site.history(queue, job), e.AttemptLost)
        reasons.append(lost.reason)
        assert site.view(queue, job).job.failures == 0
        print_figure("kill -9 of the guard to the job's next start", site.until_running(queue, job, 2).started - at)
    # An attempt that was started long before the other one is not suspected.
    assert FailureReason.GUARD_LOST in reasons
    assert set(reasons) <= {FailureReason.GUARD_LOST, FailureReason.GUARD_LOST_BESIDE}
    assert len(set(worker.sessions())) >= 2
    assert worker.guard().pid != guard.pid
    site.assert_apart(queue, "a", "b")
    site.check((queue, "a"), (queue, "b"))


def test_a_frozen_guard_is_replaced(site: Site) -> None:
    queue = site.queue()
    worker = site.start_worker(queue, slots=1, lease=30)
    ticket = site.probe(queue, "job", 1.0, first=UNTIL_STOPPED)
    site.until_running(queue, "job")
    guard = worker.guard()
    guard.suspend()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    until(lambda: not guard.is_running() or worker.guard().pid != guard.pid, "another guard")
    site.assert_apart(queue, "job")
    site.check((queue, "job"))


# ---- a job's own death


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("signal:11", FailureReason.SIGNAL),
        ("signal:9", FailureReason.SIGNAL),
        ("exit:3", FailureReason.EXIT_CODE),
    ],
)
def test_a_jobs_death_is_reported_at_once(site: Site, how: str, reason: FailureReason) -> None:
    queue = site.queue()
    site.start_worker(queue, slots=1, lease=60)
    ticket = site.probe(queue, "job", 0.5, how)
    assert site.until_ended(ticket) == ["FAILED"]
    (died,) = site.intervals(queue, "job")
    ((report, taken_at),) = [(r, at) for r, at in site.reports(queue, "job") if isinstance(r, FailAttempt)]
    assert isinstance(report, FailAttempt)
    print_figure(f"{how}: last sign of life to the report's sending", report.sent_at - died.last_wall)
    print_figure(f"{how}: last sign of life to the report in the log", taken_at - died.last_wall)
    assert report.sent_at - died.last_wall < REPORTED_MS_MAX
    assert report.reason is reason
    number = int(how.partition(":")[2])
    assert (report.signal, report.exit_code) == ((number, 0) if how.startswith("signal") else (0, number))
    site.check((queue, "job"))


def test_a_killed_job_is_reported_at_once_and_tried_again(site: Site) -> None:
    queue = site.queue()
    site.start_worker(queue, slots=1, lease=60)
    command = ["sh", "-c", f"echo $$ > {site.marks}/{queue}.$FTJM_ATTEMPT; [ $FTJM_ATTEMPT = 2 ] || exec sleep 600"]
    ticket = site.submit(queue, "job", command, max_attempts=2, backoff={"initial": "0s"})
    path = site.marks / f"{queue}.1"
    pid = int(until(lambda: path.read_text() if path.exists() else "", "the job's pid"))
    at = wall_ms()
    os.kill(pid, signal.SIGKILL)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    ((report, _),) = [(r, at) for r, at in site.reports(queue, "job") if isinstance(r, FailAttempt)]
    print_figure("kill -9 of a job to the report's sending", report.sent_at - at)
    assert report.sent_at - at < REPORTED_MS_MAX
    print_figure(
        "kill -9 of a job to the next attempt's first line", (path.parent / f"{queue}.2").stat().st_mtime * 1000 - at
    )
    assert site.view(queue, "job").job.failures == 1
    site.check((queue, "job"))


def test_out_of_memory_is_reported_where_the_kernel_says_so(site: Site) -> None:
    """The job limits its own memory, so Python raises MemoryError: the kernel's OOM killer cannot be invoked safely."""
    queue = site.queue()
    site.start_worker(queue, slots=1)
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 28,) * 2); bytearray(1 << 30)"
    ticket = site.submit(queue, "job", ["python3", "-c", script])
    assert site.until_ended(ticket) == ["FAILED"]
    (failed,) = attempts_of(site.history(queue, "job"), e.AttemptFailed)
    assert failed.reason is FailureReason.EXIT_CODE
    assert b"MemoryError" in failed.stderr
    site.check((queue, "job"))


def _holder(site: Site, queue: str, job: str) -> str:
    """The worker that got the newest attempt."""
    return str(attempts_of(site.history(queue, job), e.AttemptDispatched)[-1].worker)


def test_a_worker_that_is_killed_under_load_loses_nothing(site: Site) -> None:
    queue = site.queue()
    workers = [site.start_worker(queue, slots=2, lease=3) for _ in range(2)]
    jobs = [f"j{n}" for n in range(40)]
    tickets = site.submit_all(
        {"queue": queue, "job_id": job, "command": site.probing(0.2), "worker_losses_max": 5} for job in jobs
    )
    until(lambda: len(list(site.marks.glob(f"{queue}+*"))) > 8, "a fifth of the jobs to begin")
    workers[0].kill()
    time.sleep(0.2)  # so that the new worker and the surviving one share the rest
    site.start_worker(queue, slots=2, lease=3)
    assert site.until_ended(*tickets) == ["SUCCEEDED"] * len(jobs)
    site.assert_apart(queue, *jobs)
    site.check(*((queue, job) for job in jobs))

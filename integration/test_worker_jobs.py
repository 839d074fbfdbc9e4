"""A job's input and output, and how it is stopped: by a user, by a timeout, and at its own end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.core.records import events as e
from ftjm.core.records.commands import CancelJob
from ftjm.core.state.model import FailureReason, JobState, StopReason
from ftjm.local.kafka import EmbeddedKafka
from ftjm.runtime.clock import wall_ms
from integration.waiting import until
from integration.workers import UNTIL_STOPPED, Site, attempts_of, print_figure, wait_until_gone

QUEUE = "jobs"
LIMIT = 32 * 1024
SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def site(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("jobs")
    with Site.on(kafka, folder, inline_limit_bytes=LIMIT) as site:
        site.start_worker(QUEUE, slots=4, lease=60, env={"FTJM_KAFKA_SASL_PASSWORD": SECRET, "PLAIN": "seen"})
        yield site


def test_a_cancelled_job_gets_sigterm_with_all_its_group(site: Site) -> None:
    pids = site.marks / "cancelled"
    site.submit(QUEUE, "cancelled", ["sh", "-c", f"sleep 600 & echo $$ $! > {pids}; wait"])
    running = _pids(pids)
    site.until_event(QUEUE, "cancelled", e.AttemptStarted)
    at = wall_ms()
    site.cancel(QUEUE, "cancelled")
    wait_until_gone(running, within_ms=60_000)
    print_figure("cancel to the end of the processes", wall_ms() - at)
    site.until_event(QUEUE, "cancelled", e.JobCancelled)
    (failed,) = attempts_of(site.history(QUEUE, "cancelled"), e.AttemptFailed)
    assert (failed.reason, failed.signal) == (FailureReason.STOPPED, signal.SIGTERM)
    site.check((QUEUE, "cancelled"))


def test_sigkill_follows_after_the_grace(site: Site) -> None:
    pids = site.marks / "stubborn"
    script = f"trap '' TERM; echo $$ > {pids}; while :; do sleep 0.05; done"
    ticket = site.submit(QUEUE, "stubborn", ["sh", "-c", script], cancel_grace="700ms")
    running = _pids(pids)
    at = wall_ms()
    site.cancel(QUEUE, "stubborn")
    wait_until_gone(running, within_ms=60_000)
    assert site.until_ended(ticket) == ["CANCELLED"]
    (failed,) = attempts_of(site.history(QUEUE, "stubborn"), e.AttemptFailed)
    print_figure("cancel to SIGKILL, with a grace of 700 ms", failed.ended_at - at)
    assert failed.ended_at - at >= 700
    site.check((QUEUE, "stubborn"))


def test_an_outcome_in_the_log_before_the_cancel_wins(site: Site) -> None:
    ticket = site.probe(QUEUE, "finished-first", 2)
    site.until_running(QUEUE, "finished-first")
    (scheduler,) = site.processes
    scheduler.pause()
    try:
        until(lambda: site.intervals(QUEUE, "finished-first")[0].finished, "the job's end")
        _until_reported(site, "finished-first")
        cancel = site.client.send(_cancel("finished-first"))
        site.client.confirm()
    finally:
        scheduler.resume()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    assert site.client.decided([cancel], 90)
    assert cancel.reply is not None
    assert cancel.reply.code == "WRONG_STATE"
    site.check((QUEUE, "finished-first"))


def test_an_outcome_that_is_reached_before_the_stop_wins(site: Site, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    script = f"touch {begun}; until [ -e {go} ]; do sleep 0.05; done"
    ticket = site.submit(QUEUE, "asked-too-late", ["sh", "-c", script])
    until(begun.exists, "the job to run")
    (scheduler,) = site.processes
    scheduler.pause()
    try:
        site.client.send(_cancel("asked-too-late"))
        site.client.confirm()
        go.touch()
        _until_reported(site, "asked-too-late")
    finally:
        scheduler.resume()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    assert "JobStopRequested" in site.event_names(QUEUE, "asked-too-late")
    site.check((QUEUE, "asked-too-late"))


def test_a_timeout_is_for_each_attempt(site: Site) -> None:
    ticket = site.probe(QUEUE, "slow", UNTIL_STOPPED, timeout="400ms", max_attempts=2, backoff={"initial": "10ms"})
    assert site.until_ended(ticket) == ["FAILED"]
    failed = attempts_of(site.history(QUEUE, "slow"), e.AttemptFailed)
    assert [attempt.reason for attempt in failed] == [FailureReason.TIMEOUT] * 2
    for attempt in failed:
        assert 400 <= attempt.ended_at - attempt.started_at < 30_000
    site.assert_apart(QUEUE, "slow")
    site.check((QUEUE, "slow"))


def test_a_deadline_stops_running_jobs_and_fails_waiting_ones(site: Site) -> None:
    running = site.probe(QUEUE, "late", UNTIL_STOPPED, deadline="20s", max_attempts=5)
    waiting = site.submit("nobody-serves-it", "late", ["true"], deadline="500ms")
    assert site.until_ended(running, waiting) == ["FAILED"] * 2
    assert site.view(QUEUE, "late").job.reason == StopReason.DEADLINE
    assert site.view("nobody-serves-it", "late").job.reason == "DEADLINE"
    (died,) = site.intervals(QUEUE, "late")
    assert not died.finished
    site.check((QUEUE, "late"), ("nobody-serves-it", "late"))


DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()) + "\\n")
        os.execvpe("sleep", ["sleep", "300"], {} if sys.argv[2] == "hide" else os.environ)
    os._exit(0)
os.wait()
import time
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.01)
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("manner", ["keep", "hide"])
def test_a_daemon_that_a_job_left_dies_with_it(site: Site, manner: str) -> None:
    """A daemon that hides which job it belongs to is killed when nothing else runs on the worker."""
    path = site.marks / f"daemon-{manner}"
    ticket = site.submit(QUEUE, f"daemon-{manner}", ["python3", "-c", DAEMON, str(path), manner, "0"])
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    wait_until_gone(_pids(path), within_ms=60_000)


def test_a_daemon_dies_with_its_cancelled_job(site: Site) -> None:
    path = site.marks / "daemon-cancelled"
    ticket = site.submit(QUEUE, "daemon-cancelled", ["python3", "-c", DAEMON, str(path), "keep", "300"])
    left = _pids(path)
    site.cancel(QUEUE, "daemon-cancelled")
    assert site.until_ended(ticket) == ["CANCELLED"]
    wait_until_gone(left, within_ms=60_000)
    site.check((QUEUE, "daemon-cancelled"))


def test_a_daemon_dies_with_its_workers_supervisor(site: Site) -> None:
    queue = site.queue()
    worker = site.start_worker(queue, lease=60)
    path = site.marks / "daemon-orphan"
    site.submit(queue, "job", ["python3", "-c", DAEMON, str(path), "hide", "300"], on_worker_loss="fail")
    left = _pids(path)
    worker.kill()
    wait_until_gone(left, within_ms=30_000)  # long before the lease ends


def test_a_job_gets_its_environment_and_payload(site: Site, tmp_path: Path) -> None:
    script = (
        "import json, os, sys; json.dump({'env': dict(os.environ), 'cwd': os.getcwd(), 'in': sys.stdin.read()},"
        "open(os.environ['FTJM_RESULT_FILE'], 'w')); print('out'); print('err', file=sys.stderr)"
    )
    fields = {"payload": {"n": [1, 2]}, "env": {"MINE": "x"}, "cwd": str(tmp_path)}
    ticket = site.submit(QUEUE, "given", ["python3", "-c", script], **fields)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    (done,) = attempts_of(site.history(QUEUE, "given"), e.AttemptSucceeded)
    assert (done.stdout, done.stderr, done.exit_code) == (b"out\n", b"err\n", 0)
    result = json.loads(done.result)
    assert json.loads(result["in"]) == {"n": [1, 2]}
    assert result["cwd"] == os.path.realpath(tmp_path)
    environment = result["env"]
    assert (environment["MINE"], environment["PLAIN"]) == ("x", "seen")
    ours = {name: value for name, value in environment.items() if name.startswith("FTJM_")}
    for name in ("result", "checkpoint", "progress"):
        assert Path(ours.pop(f"FTJM_{name.upper()}_FILE")).name == f"{name}.json"
    assert ours == {
        "FTJM_JOB_ID": "jobs/given",
        "FTJM_QUEUE": "jobs",
        "FTJM_ATTEMPT": "1",
        "FTJM_RUN": "1",
        "FTJM_RUN_KEY": "jobs/given/1",
    }
    assert SECRET not in str(result)


def test_the_guard_has_no_credentials_either(site: Site) -> None:
    """A job could read the environment of its parent."""
    ticket = site.submit(QUEUE, "nosy", ["sh", "-c", "tr '\\0' '\\n' < /proc/$PPID/environ"])
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    (done,) = attempts_of(site.history(QUEUE, "nosy"), e.AttemptSucceeded)
    assert b"PLAIN=seen" in done.stdout
    assert b"FTJM_" not in done.stdout


def test_a_job_has_its_own_directory_which_is_removed(site: Site) -> None:
    ticket = site.submit(QUEUE, "own-directory", ["sh", "-c", "mkdir -p a/b; echo x > a/b/c; pwd"])
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    (done,) = attempts_of(site.history(QUEUE, "own-directory"), e.AttemptSucceeded)
    directory = Path(done.stdout.decode().strip())
    assert directory.is_absolute()
    until(lambda: not directory.exists(), f"{directory} to be removed")


def test_a_payload_that_is_not_read_does_no_harm(site: Site) -> None:
    ticket = site.submit(QUEUE, "unread", ["true"], payload="x" * (LIMIT - 100))
    assert site.until_ended(ticket) == ["SUCCEEDED"]


@pytest.mark.parametrize(
    ("name", "script", "message"),
    [
        ("too-large", f"head -c {LIMIT + 1} /dev/zero > $FTJM_RESULT_FILE", "store it elsewhere"),
        ("no-json", "echo '{' > $FTJM_RESULT_FILE", "write one JSON value, or nothing"),
        ("no-file", "mkfifo $FTJM_RESULT_FILE", "not a regular file"),
    ],
)
def test_an_invalid_result_is_refused_with_advice(site: Site, name: str, script: str, message: str) -> None:
    ticket = site.submit(QUEUE, f"result-{name}", ["sh", "-c", script])
    assert site.until_ended(ticket) == ["FAILED"]
    ended = site.view(QUEUE, f"result-{name}")
    assert ended.job.reason == FailureReason.RESULT_REFUSED
    assert message in ended.outcome.error


def test_output_is_cut_to_its_tail_and_the_cut_is_reported(site: Site) -> None:
    ticket = site.submit(QUEUE, "talkative", ["sh", "-c", "seq 1 100000; seq 1 3 >&2"])
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    (done,) = attempts_of(site.history(QUEUE, "talkative"), e.AttemptSucceeded)
    whole = b"".join(b"%d\n" % n for n in range(1, 100_001))
    assert done.stdout == whole[-LIMIT:]
    assert done.stdout_cut == len(whole) - LIMIT
    assert (done.stderr, done.stderr_cut) == (b"1\n2\n3\n", 0)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("no-program", {"command": ["no-such-program-here"]}, "no such program on this worker"),
        ("no-directory", {"command": ["true"], "cwd": "/no/such/place"}, "cannot enter the working directory"),
    ],
)
def test_a_job_that_cannot_start_says_why(site: Site, name: str, fields: dict[str, object], message: str) -> None:
    (ticket,) = site.submit_all([{"queue": QUEUE, "job_id": name, **fields}])
    assert site.until_ended(ticket) == ["FAILED"]
    ended = site.view(QUEUE, name)
    assert (ended.job.state, ended.job.reason) == (JobState.FAILED, FailureReason.START_FAILED)
    assert message in ended.outcome.error


def _pids(path: Path) -> list[int]:
    """Wait until a job has written the pids of its processes. Return them."""
    text = until(lambda: path.read_text() if path.exists() else "", f"pids in {path}")
    return [int(word) for word in text.split()]


def _until_reported(site: Site, job_id: str) -> None:
    """Wait until the log has the report on the end of the job's attempt."""
    until(lambda: any(hasattr(r, "ended_at") for r, _ in site.reports(QUEUE, job_id)), f"the report on {job_id}")


def _cancel(job_id: str) -> CancelJob:
    return CancelJob(queue=QUEUE, job_id=job_id)

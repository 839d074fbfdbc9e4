"""Verbs for operators on a real Kafka: list queues and workers, drain a worker, follow output, run the doctor."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from ftjm.adapters.kafka import topics
from ftjm.client.command_client import Client
from ftjm.core.identity import partition_for
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.runtime.config import Settings
from ftjm.runtime.durations import parse_time
from ftjm.runtime.endpoint import replace_file
from integration.harness import QUEUES, Cluster, Process
from integration.test_metrics import until_ready
from integration.waiting import LIMIT_SECONDS, until

QUEUE = QUEUES[0]


def started(settings: Settings, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
    environment = {**os.environ, **settings.environment(), "COLUMNS": "160"}
    return subprocess.Popen([sys.executable, "-m", "ftjm", *arguments], env=environment, **options)


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = started(settings, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=180)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def rows(settings: Settings, *arguments: str) -> Any:
    done = run(settings, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def submit(settings: Settings, *jobs: SubmitJob) -> None:
    with Client(settings) as client:
        assert client.decided([client.send(job) for job in jobs], LIMIT_SECONDS)


def job(job_id: str, script: str = "true", queue: str = QUEUE, **spec: Any) -> SubmitJob:
    return SubmitJob(queue=queue, job_id=job_id, spec=JobSpec(command=["sh", "-c", script], **spec))


def state_of(settings: Settings, name: str) -> str:
    return str(rows(settings, "get", f"{QUEUE}/{name}")["state"])


@pytest.fixture
def working(running: Cluster) -> tuple[Cluster, Process]:
    """A scheduler and a worker `w` that are ready."""
    scheduler, worker = running.scheduler(), running.worker("w")
    until_ready(scheduler)
    until_ready(worker)
    running.until_owners("a")
    return running, worker


def test_queues_and_workers_are_listed(working: tuple[Cluster, Process]) -> None:
    settings = working[0].settings
    submit(settings, job("a"), job("b", "exit 3"), job("c", held=True), job("waits", queue="nobody"))

    def settled() -> dict[str, Any] | None:
        found = {row["queue"]: row for row in rows(settings, "queue", "list")}
        row = found.get(QUEUE, {})
        told = "nobody" in found and found["nobody"].get("oldest_ready_at")
        ended = row.get("succeeded") == 1 and row["failed"] == 1 and row["held"] == 1
        return found if told and ended and row["free"] == 4 and row["workers"] == ["w"] else None

    found = until(settled, "the queues to be reported")
    assert found[QUEUE]["states"] == {"SUCCEEDED": 1, "FAILED": 1, "HELD": 1}
    assert found[QUEUE]["slots"] == 4
    assert (found["nobody"]["ready"], found["nobody"]["slots"]) == (1, 0)
    assert abs(parse_time(found["nobody"]["oldest_ready_at"]) - time.time() * 1000) < 60_000
    assert set(found) == {*QUEUES, "nobody"}, "queues that workers serve are listed, too"

    def described() -> tuple[int, str]:
        found = rows(settings, "queue", "describe", "nobody")
        return found["ready"], found["owner"].partition("@")[0]

    until(lambda: described() == (1, "a"), "the queue's owner to report it")
    absent = run(settings, "queue", "describe", "absent")
    assert (absent.returncode, "expected a queue absent" in absent.stderr) == (1, True)
    [worker] = until(lambda: rows(settings, "worker", "list"), "the worker to be reported")
    assert (worker["worker"], worker["state"], worker["slots"], worker["queues"]) == ("w", "OPEN", 4, QUEUES)
    assert rows(settings, "worker", "describe", "w")["session"] == worker["session"]
    table = run(settings, "queue", "list").stdout
    assert "QUEUE" in table
    assert "nobody" in table


def test_a_paused_queue_starts_nothing_until_it_is_resumed(running: Cluster) -> None:
    """Whatever owns its partition meanwhile: the pause is in the log."""
    settings = running.settings
    beside = next(name for name in map("beside{}".format, range(100)) if partition_for(name, 4) == 0)
    scheduler, worker = running.scheduler(), running.worker(queues=[QUEUE, beside])
    until_ready(scheduler)
    until_ready(worker)
    running.until_owners("a")
    answer = rows(settings, "queue", "pause", QUEUE, "--reason", "the disk is full")
    assert (answer["queue"], answer["answer"]) == (QUEUE, "accepted")

    def told() -> bool:
        return bool(rows(settings, "queue", "describe", QUEUE).get("paused"))

    until(told, "its owner to report the pause of a queue without jobs")
    submit(settings, job("waits"))
    scheduler.kill()
    scheduler.start()
    submit(settings, job("goes-on", queue=beside))
    until(lambda: rows(settings, "get", f"{beside}/goes-on")["state"] == "SUCCEEDED", "the new owner to go on")

    def explained() -> dict[str, Any] | None:
        found: dict[str, Any] = rows(settings, "explain", "--from-log", f"{QUEUE}/waits")
        return found if found["reason"] == "QueuePaused" else None

    found = until(explained, "the pause to be named")
    assert (found["state"], found["todo"]) == ("READY", f"resume it: ftjm queue resume {QUEUE}")
    assert "the disk is full" in found["text"]
    wrong = run(settings, "queue", "pause", "no name")
    assert (wrong.returncode, "expected the name of a queue" in wrong.stderr) == (2, True)
    assert len(rows(settings, "queue", "resume", QUEUE, beside, QUEUE)) == 2
    until(lambda: state_of(settings, "waits") == "SUCCEEDED", "the job to run")
    until(lambda: not told(), "its owner to report the resumption")


def test_a_worker_is_drained_by_the_command_line(working: tuple[Cluster, Process]) -> None:
    running, worker = working
    settings = running.settings
    done = running.folder / "done"
    submit(settings, job("long", f"while [ ! -e {done} ]; do sleep 0.1; done"))
    until(lambda: state_of(settings, "long") == "RUNNING", "the job to run")
    first = rows(settings, "worker", "drain", "w")
    assert [(row["worker"], row["state"], row["busy"]) for row in first] == [("w", "DRAINING", 1)]
    submit(settings, job("next"))
    impatient = run(settings, "drain", "w", "--wait", "--timeout", "1s")
    assert (impatient.returncode, "expected w to leave within 1s" in impatient.stderr) == (1, True)
    done.touch()
    again = rows(settings, "drain", "w", "--wait", "--timeout", "120s")
    assert [row["state"] for row in again] == ["CLOSED"]
    assert worker.popen.wait(120) == 0
    until(lambda: state_of(settings, "long") == "SUCCEEDED", "the job to end: a repeated drain request stops nothing")
    until(lambda: state_of(settings, "next") == "READY", "the other job to wait")
    until(lambda: rows(settings, "worker", "list") == [], "the worker to be gone")
    absent = run(settings, "worker", "drain", "absent")
    assert (absent.returncode, "expected a worker absent" in absent.stderr) == (1, True)
    running.worker("w")
    until(lambda: state_of(settings, "next") == "SUCCEEDED", "the new worker w to ignore the old drain request")


def test_logs_are_followed_to_the_end_of_the_job(working: tuple[Cluster, Process]) -> None:
    settings = working[0].settings
    go = working[0].folder / "go"
    script = f'echo "attempt $FTJM_ATTEMPT"; test "$FTJM_ATTEMPT" = 3 && while [ ! -e {go} ]; do sleep 0.1; done'
    follower = started(
        settings, "logs", "-f", f"{QUEUE}/tries", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stderr is not None
    assert "is not in the log yet" in follower.stderr.readline()
    submit(settings, job("tries", script, max_attempts=5, backoff_ms=200, backoff_max_ms=200))
    assert follower.stdout is not None
    told = [follower.stdout.readline() for _ in range(2)]
    assert follower.poll() is None, "it follows while the job runs"
    go.touch()
    out, err = follower.communicate(timeout=180)
    assert (told + out.splitlines(keepends=True), follower.returncode) == (
        ["attempt 1\n", "attempt 2\n", "attempt 3\n"],
        0,
    )
    assert err.count("==>") == 3
    ended = run(settings, "logs", "-f", f"{QUEUE}/tries")
    assert (ended.returncode, ended.stdout) == (0, "attempt 1\nattempt 2\nattempt 3\n")


def test_watched_output_is_shown_again_and_again(working: tuple[Cluster, Process]) -> None:
    settings = working[0].settings
    submit(settings, job("a"))
    watch = started(settings, "worker", "list", "--watch", "-o", "json", stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    lines = [json.loads(watch.stdout.readline()) for _ in range(3)]
    assert [line[0]["worker"] for line in lines] == ["w"] * 3
    watch.send_signal(signal.SIGINT)
    assert watch.wait(120) == 0
    watch.stdout.close()
    for arguments in (["inspect", "partitions"], ["get", f"{QUEUE}/a"], ["queue", "list"]):
        seen = on_a_terminal(settings, *arguments, "--watch")
        assert b"\x1b[" in seen, "a terminal is redrawn in place"


def on_a_terminal(settings: Settings, *arguments: str) -> bytes:
    """Run the verb on a terminal for some seconds, then press Ctrl-C. Return what it drew."""
    mine, theirs = pty.openpty()
    process = started(settings, *arguments, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + LIMIT_SECONDS
    while seen.count(b"\x1b[2K") < 8 and time.monotonic() < deadline:
        seen += os.read(mine, 65_536)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, seen
    os.close(mine)
    return seen


def test_the_doctor_passes_a_healthy_cluster_and_finds_faults(working: tuple[Cluster, Process]) -> None:
    settings = working[0].settings

    def all_well() -> dict[str, Any] | None:
        done = run(settings, "doctor", "-o", "json")
        found = {row["check"]: row for row in json.loads(done.stdout)}
        return found if {row["status"] for name, row in found.items() if name != "disk"} == {"ok"} else None

    found = until(all_well, "the doctor to find nothing")
    told = ["versions", "platform", "settings", "disk", "java", "kafka", "topics", "clock", "schedulers", "workers"]
    assert [name for name in told if name not in found] == []
    nobody = run(settings, "doctor", "--cluster", "absent", "-o", "json")
    assert nobody.returncode == 1
    failed = [row for row in json.loads(nobody.stdout) if row["status"] == "fail"]
    assert len(failed) == len(topics.TOPICS)
    assert all(row["todo"] for row in failed)
    away = run(settings, "doctor", "--bootstrap", "127.0.0.1:9", "-X", "socket.connection.setup.timeout.ms=1000")
    assert away.returncode == 1
    assert "no answer within" in away.stdout


def test_the_doctor_reports_a_directory_that_cannot_be_written(cluster: Settings) -> None:
    cluster.data_dir.parent.mkdir(parents=True, exist_ok=True)
    replace_file(cluster.data_dir, b"not a directory")
    done = run(cluster, "doctor", "-o", "json")
    assert done.returncode == 1
    [failed] = [row for row in json.loads(done.stdout) if row["status"] == "fail"]
    assert (failed["check"], "choose another --data-dir" in failed["todo"]) == ("data directory", True)

"""Python tasks on a real Kafka: warm processes, all outcomes, checkpoints, and a client that loses answers."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ftjm
from ftjm.core.records import events as e
from ftjm.local.kafka import EmbeddedKafka
from ftjm.sdk import handle as handle_module
from integration import task_app
from integration.apis import start_api
from integration.waiting import until
from integration.workers import Site, descendants, print_figure, wait_until_gone

ROOT = str(Path(__file__).parents[1])
LOADED = 1_000


@pytest.fixture(scope="module")
def site(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.on(kafka, tmp_path_factory.mktemp("tasks")) as site:
        yield site


@pytest.fixture
def queue(site: Site) -> Iterator[str]:
    """A queue with its own worker, which knows the tasks."""
    queue = site.queue()
    site.start_worker(queue, slots=4, lease=60, app="integration.task_app", env={"PYTHONPATH": ROOT})
    yield queue
    site.stop_workers()


@pytest.fixture
def client(site: Site) -> Iterator[ftjm.Client]:
    with ftjm.Client(settings=site.settings) as client:
        yield client


def pid_in(path: Path) -> int:
    return until(lambda: int(path.read_text()) if path.exists() and path.read_text() else None, f"a pid in {path}")


def test_a_task_gives_its_result(client: ftjm.Client, queue: str) -> None:
    request = task_app.resize("a.png", width=200)
    handle = client.submit(request, priority=7, job_id="resize-a-200", queue=queue)
    assert handle.result(timeout=30) == {"path": "a.png", "width": 200}
    assert handle.state() == "SUCCEEDED"
    again = client.submit(request, priority=7, job_id="resize-a-200", queue=queue)
    assert again.result(timeout=30) == {"path": "a.png", "width": 200}, "the same job, and its outcome again"
    with pytest.raises(ftjm.Refused, match="IDENTITY_TAKEN"):
        client.submit(task_app.resize("b.png", 1), job_id="resize-a-200", queue=queue).result(timeout=30)
    assert client.job(f"{queue}/resize-a-200").result(timeout=30) == {"path": "a.png", "width": 200}


def test_a_task_can_be_submitted_by_its_name(client: ftjm.Client, queue: str, site: Site, tmp_path: Path) -> None:
    name, called = task_app.resize.name, {"args": ["a.png"], "kwargs": {"width": 200}}
    answer = start_api(site).post("/jobs?wait=20s", {"task": name, "queue": queue, **called})
    assert (answer.status, answer.json["outcome"]["result"]) == (200, {"path": "a.png", "width": 200})
    (tmp_path / "jobs.yaml").write_text(
        f"- {{task: {name}, queue: {queue}, job_id: filed, args: [a.png], kwargs: {{width: 200}}}}\n"
    )
    flags = ["--task", name, "--queue", queue, "--job-id", "flagged", "--args", '["a.png", 200]']
    for arguments in (["-f", str(tmp_path / "jobs.yaml")], flags):
        command = [sys.executable, "-m", "ftjm", "submit", "--wait", *arguments]
        environment = {**os.environ, **site.settings.environment()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    for job_id in ("filed", "flagged"):
        assert client.job(f"{queue}/{job_id}").result(timeout=30) == {"path": "a.png", "width": 200}


def test_processes_are_warm(client: ftjm.Client, queue: str) -> None:
    (first, one), (second, two) = (client.submit(task_app.who(), queue=queue).result(30) for _ in range(2))
    assert first == second, "the app is imported once"
    assert one == two != first, "and a process is used again"
    took = []
    for _ in range(50):
        begun = time.monotonic()
        client.submit(task_app.nothing(), queue=queue).result(30)
        took.append((time.monotonic() - begun) * 1000)
    print_figure("no-op task, submit to result, p50", statistics.median(took))
    print_figure("no-op task, submit to result, p95", statistics.quantiles(took, n=20)[-1])


@pytest.mark.parametrize("one", [task_app.nothing(), task_app.nothing_alone()], ids=["kept", "isolated"])
def test_many_tasks_with_one_flush(client: ftjm.Client, site: Site, one: ftjm.Request[None]) -> None:
    queue = site.queue()
    site.start_worker(queue, slots=8, lease=60, app="integration.task_app", env={"PYTHONPATH": ROOT})
    task_options = {"queue": queue}
    request = ftjm.Request[None](one.executor, one.command, one.payload, {**one.options, **task_options})
    begun = time.monotonic()
    handles = client.submit_many((f"n-{number}", request) for number in range(LOADED))
    submitted = time.monotonic()
    assert [handle.result(timeout=60) for handle in handles] == [None] * LOADED
    print_figure(f"{one.command[0]}, submitted to ended", LOADED / (time.monotonic() - begun), "/s")
    print_figure("of which submitted", LOADED / (submitted - begun), "/s")
    site.stop_workers()


def test_failures_have_their_traceback(client: ftjm.Client, queue: str, site: Site) -> None:
    assert client.submit(task_app.fails_until(3), queue=queue).result(timeout=30) == 3
    handle = client.submit(task_app.fails_until(9), queue=queue, max_attempts=2)
    with pytest.raises(ftjm.JobFailed) as failed:
        handle.result(timeout=30)
    assert failed.value.reason == "EXCEPTION"
    assert failed.value.error.startswith("Traceback")
    assert "ValueError: not before attempt 9" in str(failed.value)
    outputs = [event.stdout for event in site.history(queue, handle.job_id) if isinstance(event, e.AttemptFailed)]
    assert outputs == [b"attempt 1\n", b"attempt 2\n"]
    with pytest.raises(ftjm.JobFailed, match="store it elsewhere") as failed:
        client.submit(task_app.large(300_000), queue=queue).result(timeout=30)
    assert failed.value.reason == "RESULT_REFUSED"
    unknown = ftjm.Request[None]("python", ("no.such",), b"", {"queue": queue})
    with pytest.raises(ftjm.JobFailed, match=r"integration\.task_app\.counts") as failed:
        client.submit(unknown).result(timeout=30)
    assert failed.value.reason == "START_FAILED"


def test_a_task_is_stopped_as_a_command_is(client: ftjm.Client, queue: str, tmp_path: Path) -> None:
    with pytest.raises(ftjm.JobFailed) as failed:
        client.submit(task_app.sleeps(str(tmp_path / "a")), queue=queue, timeout="300ms", max_attempts=1).result(30)
    assert failed.value.reason == "TIMEOUT"
    handle = client.submit(task_app.sleeps(str(tmp_path / "b")), queue=queue)
    pid = pid_in(tmp_path / "b")
    with pytest.raises(TimeoutError, match="goes on"):
        handle.result(timeout=0.1)
    assert handle.cancel("wrong size")
    with pytest.raises(ftjm.JobCancelled):
        handle.result(timeout=30)
    wait_until_gone([pid], 60_000)
    assert not handle.cancel()


def test_a_killed_process_costs_an_attempt(client: ftjm.Client, queue: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    handle = client.submit(task_app.waits_for(str(tmp_path / "a"), str(go)), queue=queue)
    os.kill(pid_in(tmp_path / "a"), signal.SIGKILL)
    go.touch()
    assert handle.result(timeout=30)[1] == 2
    assert handle.status().attempt == 2


def test_a_killed_or_cancelled_attempt_costs_no_other(client: ftjm.Client, queue: str, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    handles = [client.submit(task_app.waits_for(str(tmp_path / name), go), queue=queue) for name in "abc"]
    pids = [pid_in(tmp_path / name) for name in "abc"]
    assert len(set(pids)) == 3
    os.kill(pids[0], signal.SIGKILL)
    assert handles[1].cancel("no need")
    with pytest.raises(ftjm.JobCancelled):
        handles[1].result(timeout=30)
    (tmp_path / "go").touch()
    again, stays = (handles[number].result(timeout=30) for number in (0, 2))
    assert (again[1], again[2], again[0] in pids[:2]) == (2, {"pid": pids[0]}, False)
    assert stays == [pids[2], 1, None]


def test_the_next_attempt_has_the_checkpoint_of_a_killed_worker(
    client: ftjm.Client, site: Site, tmp_path: Path
) -> None:
    queue = site.queue()
    first = site.start_worker(queue, app="integration.task_app", env={"PYTHONPATH": ROOT})
    handle = client.submit(task_app.counts(str(tmp_path / "pid"), 10), queue=queue)
    pid_in(tmp_path / "pid")
    # The guard may look at the files between the writing of one and the other.
    told = (status for status in handle.watch(timeout=30) if status.checkpoint and status.checkpoint["done"] == 6)
    seen = next(status for status in told if status.progress == 0.6)
    assert seen.progress_text == "6 of 10"
    processes = descendants(first.pid)
    first.kill()
    wait_until_gone(processes, 60_000)
    site.start_worker(queue, app="integration.task_app", env={"PYTHONPATH": ROOT})
    assert handle.result(timeout=60) == [6, 10]
    [*_, last] = handle.watch(timeout=30)
    assert (last.state, last.attempt) == ("SUCCEEDED", 2)
    site.check((queue, handle.job_id))
    site.stop_workers()


def test_a_command_leaves_checkpoints_too(client: ftjm.Client, queue: str) -> None:
    script = (
        'if [ -n "$FTJM_LAST_CHECKPOINT_FILE" ]; then cp "$FTJM_LAST_CHECKPOINT_FILE" "$FTJM_RESULT_FILE"; exit 0; fi;'
        'echo "[1,2]" > "$FTJM_CHECKPOINT_FILE"; exit 1'
    )
    request = ftjm.command(["sh", "-c", script], max_attempts=2, backoff={"initial": "10ms"}, queue=queue)
    assert client.submit(request).result(timeout=30) == [1, 2]


def test_lost_answers_are_requested_again(client: ftjm.Client, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle_module, "ASK_AGAIN_SECONDS", 0.5)
    handle = client.submit(task_app.resize("a", 1), queue=queue)
    assert handle._ticket is not None
    handle._transport.forget(handle._ticket)  # answers for it are ignored from now on
    handle._ticket.reply = handle._ticket.outcome = None
    assert handle.result(timeout=30) == {"path": "a", "width": 1}
    assert handle.status().attempt == 1
    short = client.submit(task_app.resize("b", 2), queue=queue, retention="1s")
    assert short._ticket is not None
    until(lambda: short._ticket and short._ticket.outcome, "the outcome")
    time.sleep(1.5)
    short._ticket.reply = short._ticket.outcome = None
    # The job may be forgotten by now: submitted again, it would run again. The client must ask the log.
    assert short.result(timeout=30) == {"path": "b", "width": 2}
    assert short.status().attempt == 1


def test_threads_share_a_client(client: ftjm.Client, queue: str) -> None:
    results: dict[int, object] = {}

    def work(number: int) -> None:
        handles = [client.submit(task_app.resize(str(number), width), queue=queue) for width in range(5)]
        results[number] = [handle.result(timeout=60) for handle in handles]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert results == {n: [{"path": str(n), "width": width} for width in range(5)] for n in range(8)}


def test_an_app_that_cannot_be_imported_is_reported_at_once(site: Site) -> None:
    worker = site.start_worker("nowhere", app="no_such_app", wait=False)
    assert worker.wait_for_exit() == 2
    output = worker.log.read_text()
    assert "cannot import no_such_app: no module named 'no_such_app'" in output
    assert "Traceback" not in output
    assert sys.executable not in output

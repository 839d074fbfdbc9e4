"""A queue's defaults, by the command line and in Python on a real Kafka, over a kill of the owner."""

from __future__ import annotations

from pathlib import Path

import ftjm
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from integration.apis import start_api
from integration.harness import Cluster
from integration.test_limits import QUEUE, declare, ready, violations
from integration.test_operations import run


def submitted(running: Cluster) -> dict[str, JobSpec]:
    events = running.log().events(e.JobSubmitted)
    return {event.job_id: event.spec for event in events if isinstance(event, e.JobSubmitted)}


def test_a_job_gets_from_its_queue_what_it_leaves_open(running: Cluster) -> None:
    scheduler = ready(running)
    declare(running, "defaults: {max_attempts: 4, timeout: 10m, backoff: {initial: 5s}}")
    options = ("submit", "--queue", QUEUE, "--job-id")
    for name, own in (("open", ()), ("given", ("--max-attempts", "1", "--timeout", "90s"))):
        done = run(running.settings, *options, name, *own, "--", "true")
        assert done.returncode == 0, done.stderr
    scheduler.kill()
    scheduler.start()
    running.until_owners("a")
    with ftjm.Client(settings=running.settings) as client:
        client.submit(ftjm.command("true", queue=QUEUE, max_attempts=1), job_id="python").state()
        client.submit(ftjm.command("true", queue=QUEUE), job_id="open").state()
    found = {name: (spec.max_attempts, spec.timeout_ms, spec.backoff_ms) for name, spec in submitted(running).items()}
    assert found == {
        "open": (4, 600_000, 5_000),
        "given": (1, 90_000, 5_000),
        "python": (1, 600_000, 5_000),
    }
    repeated = run(running.settings, *options, "open", "--", "true")
    assert repeated.returncode == 0, repeated.stderr
    other = run(running.settings, *options, "open", "--max-attempts", "1", "--", "true")
    assert other.returncode == 1
    assert "IDENTITY_TAKEN" in other.stderr
    assert not [text for text in violations(running.log()) if "to have ended" not in text]


JOB = """
apiVersion: ftjm.io/v1
kind: Job
metadata: {{name: load, labels: {{app: etl}}}}
spec: {{queue: {queue}, command: ["true"], timeout: {timeout}}}
---
apiVersion: ftjm.io/v1
kind: Queue
metadata: {{name: {queue}}}
spec: {{defaults: {{max_attempts: 4}}}}
"""


def test_a_job_of_a_file_is_submitted_once(running: Cluster) -> None:
    ready(running)
    api = ("--api", f"http://127.0.0.1:{start_api(running).port}")

    def told(timeout: str, verb: str, *options: str) -> tuple[int, str]:
        Path("job.yaml").write_text(JOB.format(queue=QUEUE, timeout=timeout))
        done = run(running.settings, verb, "-f", "job.yaml", *options)
        return done.returncode, done.stdout + done.stderr

    for where in (api, ("--from-log",)):
        first = where[0] == "--api"
        assert told("1h", "plan", *where)[0] == (2 if first else 0)
        status, text = told("1h", "apply", *where)
        assert (status, f"Job {QUEUE}/load {'created' if first else 'unchanged'}" in text) == (0, True)
        assert told("1h", "plan", *where) == (0, "0 to create, 0 to change, 0 to delete, 2 unchanged\n")
        status, text = told("2h", "plan", *where)
        assert (status, "must be replaced" in text) == (2, True)
        status, text = told("2h", "apply", *where)
        assert (status, "IDENTITY_TAKEN" in text) == (1, True)
    status, text = told("1h", "delete")
    assert (status, f"ftjm cancel {QUEUE}/load" in text) == (2, True)
    spec = submitted(running)["load"]
    assert (spec.max_attempts, spec.timeout_ms, spec.labels) == (4, 3_600_000, {"app": "etl"})

"""A queue's defaults, by the command line and in Python on a real Kafka, over a kill of the owner."""

from __future__ import annotations

import ftjm
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
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

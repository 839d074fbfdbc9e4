"""The life of a job in all its variants, by its events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.backoff import backoff_ms
from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason, JobSpec, StopReason
from ftjm.local.kafka import EmbeddedKafka
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK, Cluster
from integration.waiting import LIMIT_SECONDS, until

QUEUE = QUEUES[0]
LIMIT = 2_048
SLEEP = ["sleep", "60"]


@pytest.fixture(scope="module")
def alive(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and a worker that serves the usual queues."""
    folder = tmp_path_factory.mktemp("life")
    settings = cluster_on(kafka, folder / "data", inline_limit_bytes=LIMIT)
    with Cluster(settings, folder) as cluster:
        cluster.scheduler()
        cluster.worker()
        cluster.until_owners("a")
        yield cluster
        log = cluster.log()
        log.check((job.queue, job.job_id) for job in log.events(e.AttemptSucceeded) if job.run == 1)


@pytest.fixture
def client(alive: Cluster) -> Iterator[Client]:
    with Client(alive.settings) as client:
        yield client


def answered(client: Client, command: c.Command) -> Ticket:
    ticket = client.send(command)
    client.confirm()
    assert client.decided([ticket], LIMIT_SECONDS), f"no answer to {command}"
    return ticket


def submit(client: Client, job_id: str, command: list[str] = QUICK, queue: str = QUEUE, **spec: Any) -> Ticket:
    """Submit a job and ask for its outcome."""
    spec = JobSpec(command=command, **{"cancel_grace_ms": 500, **spec})  # type: ignore[assignment]
    return answered(client, c.SubmitJob(queue=queue, job_id=job_id, spec=spec, awaits=True))  # type: ignore[arg-type]


def outcome(client: Client, ticket: Ticket) -> tuple[str, str]:
    """Wait for the job's end. Return the state and the reason."""
    assert client.ended([ticket], LIMIT_SECONDS)
    assert ticket.outcome is not None
    return ticket.outcome.state, ticket.outcome.reason


def ask(client: Client, kind: type[c.Command], job_id: str, **fields: Any) -> str:
    """Send a command about a job. Return the code of the refusal, empty if it was accepted."""
    reply = answered(client, kind(queue=QUEUE, job_id=job_id, **fields)).reply
    assert reply is not None
    return reply.code


def event_names_with(cluster: Cluster, job_id: str, name: str, times: int = 1) -> list[str]:
    """Wait until the log has `times` events of this name for the job. Return the names of all its events."""

    def names_if_there() -> list[str] | None:
        story = cluster.log().event_names((QUEUE, job_id))
        return story if story.count(name) >= times else None

    return until(names_if_there, f"{name} of {job_id}")


def test_jobs_are_submitted_and_shown_by_the_command_line(alive: Cluster) -> None:
    def ftjm(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ftjm", *arguments]
        environment = {**os.environ, **alive.settings.environment()}
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=environment)

    job = ["--queue", QUEUE, "--job-id", "cli", "--payload", "[1]"]
    submitted = ftjm("submit", "--wait", *job, "--", "sh", "-c", "cat; echo to stderr >&2")
    assert (submitted.returncode, submitted.stdout) == (0, f"{QUEUE}/cli SUCCEEDED\n")
    shown = json.loads(ftjm("get", f"{QUEUE}/cli", "-o", "json").stdout)
    assert "SUCCEEDED" in json.dumps(shown)
    assert "[1]" in ftjm("logs", f"{QUEUE}/cli").stdout
    history = ftjm("history", f"{QUEUE}/cli").stdout
    places = [history.index(name) for name in ("JobSubmitted", "AttemptDispatched", "AttemptSucceeded")]
    assert places == sorted(places)
    assert ftjm("submit", "--wait", "--queue", QUEUE, "--", "sh", "-c", "exit 7").returncode == 7
    held = ftjm("submit", "--hold", "--queue", QUEUE, "--job-id", "cli-held", "--", "true")
    assert held.returncode == 0
    assert ftjm("release", f"{QUEUE}/cli-held").returncode == 0
    assert event_names_with(alive, "cli-held", "AttemptSucceeded")[:3] == [
        "JobSubmitted",
        "JobReleased",
        "AttemptDispatched",
    ]
    assert ftjm("rerun", f"{QUEUE}/cli-held").returncode == 0
    event_names_with(alive, "cli-held", "AttemptSucceeded", 2)
    refused = ftjm("cancel", f"{QUEUE}/cli-held")
    assert refused.returncode == 1
    assert "WRONG_STATE" in refused.stdout + refused.stderr


def test_higher_priority_goes_first_and_equals_go_by_age(alive: Cluster, client: Client) -> None:
    priorities = [50, 0, 100, 50, 99]
    tickets = [submit(client, f"prio-{n}", queue="ordered", priority=p) for n, p in enumerate(priorities)]
    worker = alive.worker("one", slots=1, queues=["ordered"])
    assert client.ended(tickets, LIMIT_SECONDS)
    dispatched = [event.job_id for event in alive.log().events(e.AttemptDispatched) if event.queue == "ordered"]
    # On a busy machine, an attempt may be sent back and sent once more: the first time counts.
    assert list(dict.fromkeys(dispatched)) == ["prio-2", "prio-4", "prio-0", "prio-3", "prio-1"]
    assert worker.stop() == 0


def test_a_job_waits_for_its_time(alive: Cluster, client: Client) -> None:
    start_at = time.time_ns() // 1_000_000 + 10_000
    tickets = [submit(client, "at", start_at=start_at), submit(client, "delayed", delay_ms=900)]
    assert [outcome(client, ticket)[0] for ticket in tickets] == ["SUCCEEDED", "SUCCEEDED"]
    log = alive.log()
    for job_id in ("delayed", "at"):
        submitted, queued, dispatched = log.events(job=(QUEUE, job_id))[:3]
        assert isinstance(submitted, e.JobSubmitted)
        assert isinstance(queued, e.JobQueued)
        assert isinstance(dispatched, e.AttemptDispatched)
        assert queued.at >= submitted.due_at == (start_at if job_id == "at" else submitted.at + 900)


def test_a_failure_is_tried_again_after_its_backoff(alive: Cluster, client: Client) -> None:
    command = ["sh", "-c", 'test "$FTJM_ATTEMPT" -ge 3']
    spec: dict[str, Any] = {"max_attempts": 3, "backoff_ms": 400}
    assert outcome(client, submit(client, "third-time", command, **spec))[0] == "SUCCEEDED"
    assert outcome(client, submit(client, "never", ["false"], **spec)) == ("FAILED", "EXIT_CODE")
    log = alive.log()
    for job_id, failures in (("third-time", 2), ("never", 3)):
        events = log.events(job=(QUEUE, job_id))
        failed = [event for event in events if isinstance(event, e.AttemptFailed)]
        assert [event.reason for event in failed] == [FailureReason.EXIT_CODE] * failures
        queued = [event.at for event in events if isinstance(event, e.JobQueued)]
        for number, (event, again_at) in enumerate(zip(failed, queued, strict=False), start=1):
            expected = backoff_ms(JobSpec(command=command, **spec), f"{QUEUE}/{job_id}", 1, number)
            assert event.retry_at == event.at + expected
            assert again_at >= event.retry_at
    assert log.event_names((QUEUE, "never")).count("AttemptDispatched") == 3
    assert log.event_names((QUEUE, "never"))[-1] == "JobFailed"


def test_a_timeout_and_a_deadline_end_it(alive: Cluster, client: Client) -> None:
    late = submit(client, "late", SLEEP, timeout_ms=400)
    running = submit(client, "overdue", SLEEP, deadline_ms=10_000)
    waiting = submit(client, "too-late", QUICK, delay_ms=3_600_000, deadline_ms=600)
    assert outcome(client, late) == ("FAILED", "TIMEOUT")
    assert outcome(client, running) == ("FAILED", "DEADLINE")
    assert outcome(client, waiting) == ("FAILED", "DEADLINE")
    log = alive.log()
    (stop,) = log.events(e.JobStopRequested, job=(QUEUE, "overdue"))
    assert isinstance(stop, e.JobStopRequested)
    assert stop.reason is StopReason.DEADLINE
    assert log.event_names((QUEUE, "too-late")) == ["JobSubmitted", "JobFailed"]


def test_cancel_while_waiting_in_backoff_and_running(alive: Cluster, client: Client) -> None:
    waiting = submit(client, "c-waiting", delay_ms=3_600_000)
    retrying = submit(client, "c-backoff", ["false"], max_attempts=9, backoff_ms=3_600_000)
    running = submit(client, "c-running", SLEEP)
    event_names_with(alive, "c-backoff", "AttemptFailed")
    event_names_with(alive, "c-running", "AttemptStarted")
    assert [ask(client, c.CancelJob, job) for job in ("c-waiting", "c-backoff", "c-running")] == ["", "", ""]
    assert {outcome(client, ticket)[0] for ticket in (waiting, retrying, running)} == {"CANCELLED"}
    log = alive.log()
    assert log.event_names((QUEUE, "c-waiting")) == ["JobSubmitted", "JobCancelled"]
    assert log.event_names((QUEUE, "c-backoff"))[-2:] == ["AttemptFailed", "JobCancelled"]
    assert log.event_names((QUEUE, "c-running"))[-3:] == ["JobStopRequested", "AttemptFailed", "JobCancelled"]
    assert ask(client, c.CancelJob, "c-waiting") == "WRONG_STATE"
    assert ask(client, c.CancelJob, "unheard-of") == "UNKNOWN_JOB"


def test_hold_release_and_rerun(alive: Cluster, client: Client) -> None:
    ticket = submit(client, "held", ["sh", "-c", 'echo "$FTJM_RUN_KEY"'], delay_ms=3_600_000)
    assert ask(client, c.ReleaseJob, "held") == "WRONG_STATE"
    assert ask(client, c.HoldJob, "held") == ""
    assert ask(client, c.HoldJob, "held") == "WRONG_STATE"
    assert ask(client, c.CancelJob, "held") == ""
    assert outcome(client, ticket)[0] == "CANCELLED"
    assert ask(client, c.RerunJob, "held", command_id="once") == ""
    assert ask(client, c.RerunJob, "held", command_id="once") == "REPEATED"
    assert ask(client, c.RerunJob, "held") == "INVALID"
    event_names_with(alive, "held", "AttemptSucceeded")
    assert ask(client, c.RerunJob, "held", command_id="twice") == ""
    event_names_with(alive, "held", "AttemptSucceeded", 2)
    successes = alive.log().events(e.AttemptSucceeded, job=(QUEUE, "held"))
    keys = [event.stdout for event in successes if isinstance(event, e.AttemptSucceeded)]
    assert keys == [b"%s/held/2\n" % QUEUE.encode(), b"%s/held/3\n" % QUEUE.encode()]


def test_a_repeated_submission_is_the_same_job(alive: Cluster, client: Client) -> None:
    first = submit(client, "same", delay_ms=100)
    assert outcome(client, first)[0] == "SUCCEEDED"
    again = submit(client, "same", delay_ms=100)
    assert again.reply is not None
    assert again.reply.accepted
    assert outcome(client, again)[0] == "SUCCEEDED"
    other = submit(client, "same", delay_ms=101)
    assert other.reply is not None
    assert other.reply.code == "IDENTITY_TAKEN"
    story = alive.log().event_names((QUEUE, "same"))
    assert [story.count(name) for name in ("JobSubmitted", "AttemptSucceeded", "SubmissionRepeated")] == [1, 1, 1]


def test_a_misrouted_submission_is_forwarded_once(alive: Cluster, client: Client) -> None:
    home = partition_for(QUEUE, 4)
    wrong = (home + 1) % 4
    producer = ConfirmingProducer(alive.settings.kafka_settings("test"))
    for _ in range(3):
        value = codec.encode(c.SubmitJob(queue=QUEUE, job_id="astray", spec=JobSpec(command=QUICK)))
        producer.send(alive.settings.topic("commands"), value, partition=wrong)
    assert producer.close(120) == 0
    story = event_names_with(alive, "astray", "AttemptSucceeded")
    assert story.count("JobSubmitted") == 1
    until(lambda: alive.log().event_names((QUEUE, "astray")).count("SubmissionRepeated") == 2, "both repetitions")
    log = alive.log()
    forwarded = [b.partition for b in log.all() for x in b.events if isinstance(x, e.CommandForwarded)]
    received = [b.partition for b in log.all() for x in b.events if isinstance(x, e.ForwardReceived)]
    assert (forwarded, received) == ([wrong] * 3, [home] * 3)


def test_an_ended_job_leaves_after_its_retention(alive: Cluster, client: Client) -> None:
    assert outcome(client, submit(client, "brief", retention_ms=300))[0] == "SUCCEEDED"
    assert event_names_with(alive, "brief", "JobForgotten")[-1] == "JobForgotten"
    assert ask(client, c.RerunJob, "brief", command_id="too-late") == "UNKNOWN_JOB"


def test_results_and_the_tail_of_the_output_are_kept(alive: Cluster, client: Client) -> None:
    script = 'printf %s \'{"a": [1]}\' > "$FTJM_RESULT_FILE"; head -c 9000 /dev/zero | tr "\\0" x; printf end'
    kept = submit(client, "output", ["sh", "-c", script])
    assert outcome(client, kept)[0] == "SUCCEEDED"
    assert kept.outcome is not None
    assert json.loads(kept.outcome.result) == {"a": [1]}
    (success,) = alive.log().events(e.AttemptSucceeded, job=(QUEUE, "output"))
    assert isinstance(success, e.AttemptSucceeded)
    assert success.stdout == b"x" * (LIMIT - 3) + b"end"
    assert success.stdout_cut == 9_003 - LIMIT
    script = 'head -c 5000 /dev/zero | tr "\\0" 1 > "$FTJM_RESULT_FILE"'
    assert outcome(client, submit(client, "too-large", ["sh", "-c", script])) == ("FAILED", "RESULT_REFUSED")
    refused = submit(client, "payload", payload=b"1" * (LIMIT + 1))
    assert refused.reply is not None
    assert (refused.reply.code, refused.reply.accepted) == ("INVALID", False)

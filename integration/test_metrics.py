"""Metrics and health of all three roles over HTTP, while they work on a real Kafka."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ftjm.client.command_client import Client
from ftjm.core.records.commands import CompleteAttempt, SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.local.ports import free_base_port
from ftjm.runtime.config import Settings
from integration.harness import QUEUES, Cluster, Process
from integration.waiting import until

PROMISED: dict[str, set[str]] = {
    "scheduler": {
        "ftjm_jobs{queue,state}",
        "ftjm_job_transitions_total{event,queue}",
        "ftjm_queue_oldest_seconds{queue}",
        "ftjm_queue_wait_seconds",
        "ftjm_dispatch_latency_seconds",
        "ftjm_attempt_duration_seconds{outcome,queue}",
        "ftjm_retries_total{reason}",
        "ftjm_attempts_lost_total",
        "ftjm_fenced_reports_total",
        "ftjm_duplicate_submissions_total",
        "ftjm_schedule_delay_seconds",
        "ftjm_deadline_missed_total",
        "ftjm_schedule_firing_delay_seconds",
        "ftjm_schedule_skipped_total{reason}",
        "ftjm_partition_role{partition}",
        "ftjm_rebalances_total",
        "ftjm_takeover_seconds",
        "ftjm_replay_seconds",
        "ftjm_replay_lag_events",
        "ftjm_transaction_seconds",
        "ftjm_batch_commands",
        "ftjm_step_seconds",
        "ftjm_snapshot_seconds",
        "ftjm_snapshot_bytes_total",
        "ftjm_snapshots_failed_total",
        "ftjm_snapshots_damaged_total",
        "ftjm_restore_seconds",
    },
    "worker": {"ftjm_worker_slots{queue,status}", "ftjm_worker_heartbeat_age_seconds"},
    "api": {"ftjm_api_request_duration_seconds"},
}
"""The names of the contract by the role that shows them, with their labels. The oldest of a queue tells which."""
OF_ALL = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "ftjm_network_bytes_total{direction}",
    "ftjm_build_info{role,version}",
}


def ask(process: Process, path: str, token: str = "") -> tuple[int, str]:
    """Get a path. Return the status and the body; status 0 while the process does not listen yet."""
    served = process.log_lines("metrics_served")
    if not served:
        return 0, ""
    return ask_port(served[-1]["port"], path, token)


def ask_port(port: int, path: str, token: str = "") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until_ready(process: Process, path: str = "/readyz") -> None:
    until(lambda: ask(process, path)[0] == 200, f"{process.name} to say ok to {path}")


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def shown(text: str) -> set[str]:
    """Every metric with its labels, as `name{a,b}`; a histogram by its own name."""
    found = set()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name) if family.type == "histogram" else sample.name
            labels = ",".join(sorted(set(sample.labels) - {"le"}))
            found.add(f"{name}{{{labels}}}" if labels else name)
    return found


def value(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def until_shown(process: Process, name: str, expected: float, **labels: str) -> None:
    """Wait until the process shows this value."""
    what = f"{process.name} to show {expected:g} for {name}"
    until(lambda: value(ask(process, "/metrics")[1], name, **labels) == expected, what)


def takeovers_are_counted(process: Process, partitions: int = 4) -> bool:
    """Whether every takeover was counted: at least one of each partition, and no more than the log tells of."""
    counted = value(ask(process, "/metrics")[1], "ftjm_takeover_seconds_count")
    return partitions <= counted <= len(process.log_lines("took_over"))


def lint(text: str) -> None:
    """Run `promtool check metrics` where it is installed (Debian's package prometheus), and the library's parser."""
    assert families(text)
    promtool = shutil.which("promtool")
    if promtool:
        command = [promtool, "check", "metrics"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def ready(running: Cluster) -> tuple[Cluster, dict[str, Process], int]:
    """A scheduler, a worker and an API that are ready, and the port of the API."""
    running.keep_members()
    port = free_base_port()
    roles = {"scheduler": running.scheduler(), "worker": running.worker()}
    roles["api"] = running._start("api", ["-m", "ftjm", "api", "--port", str(port)])
    for process in roles.values():
        until_ready(process)
    return running, roles, port


def exercise(settings: Settings) -> None:
    """Cause at least one of everything that is counted."""
    fails = JobSpec(command=["false"], max_attempts=2, backoff_ms=100, backoff_max_ms=100)
    jobs = [
        SubmitJob(queue=QUEUES[0], job_id="once", spec=JobSpec(command=["true"]), awaits=True),
        SubmitJob(queue=QUEUES[0], job_id="fails", spec=fails, awaits=True),
        SubmitJob(queue=QUEUES[1], job_id="later", spec=JobSpec(command=["true"], delay_ms=300), awaits=True),
        SubmitJob(queue="nobody", job_id="late", spec=JobSpec(command=["true"], deadline_ms=300), awaits=True),
        SubmitJob(queue="nobody", job_id="waits", spec=JobSpec(command=["true"])),
    ]
    with Client(settings) as client:
        tickets = [client.send(job) for job in jobs]
        assert client.ended(tickets[:4], 40)
        stale = CompleteAttempt(
            queue=QUEUES[0], job_id="once", run=1, attempt=7, session="s", started_at=1, ended_at=2, exit_code=0
        )
        again = [client.send(jobs[0]), client.send(stale)]
        assert client.decided(again, 20)


def test_every_metric_of_the_contract_is_shown_under_load(ready: tuple[Cluster, dict[str, Process], int]) -> None:
    running, roles, port = ready
    with running.load(80) as load:
        exercise(running.settings)
        ask_port(port, "/api/v1/jobs")
        load.until(100)
        texts = {role: ask(process, "/metrics")[1] for role, process in roles.items()}
    for role, text in texts.items():
        lint(text)
        assert PROMISED[role] | OF_ALL <= shown(text), role
    scheduler = texts["scheduler"]
    assert value(scheduler, "ftjm_job_transitions_total", event="JobSubmitted", queue=QUEUES[1]) >= 1
    assert value(scheduler, "ftjm_attempt_duration_seconds_count", outcome="succeeded") >= 2
    assert value(scheduler, "ftjm_attempt_duration_seconds_count", outcome="failed", queue=QUEUES[0]) == 2
    assert value(scheduler, "ftjm_retries_total", reason="EXIT_CODE") == 1
    assert value(scheduler, "ftjm_duplicate_submissions_total") == 1
    assert value(scheduler, "ftjm_fenced_reports_total") == 1
    assert value(scheduler, "ftjm_deadline_missed_total") == 1
    assert value(scheduler, "ftjm_schedule_delay_seconds_count") == 2
    assert value(scheduler, "ftjm_queue_wait_seconds_count") >= 4
    assert value(scheduler, "ftjm_dispatch_latency_seconds_count") >= 4
    until_shown(roles["scheduler"], "ftjm_partition_role", 3 * 4)
    assert takeovers_are_counted(roles["scheduler"])
    assert value(scheduler, "ftjm_rebalances_total") >= 1
    until_shown(roles["scheduler"], "ftjm_worker_sessions", 1, state="open")

    def is_young() -> bool:
        return value(ask(roles["worker"], "/metrics")[1], "ftjm_worker_heartbeat_age_seconds") < 5

    until(is_young, "a young heartbeat")
    for queue in QUEUES:
        used = [value(texts["worker"], "ftjm_worker_slots", queue=queue, status=status) for status in ("busy", "free")]
        assert 0 <= sum(used) <= 4
    assert value(texts["api"], "ftjm_api_requests_total", route="/api/v1/jobs", status="200") == 1
    assert value(texts["api"], "ftjm_api_request_duration_seconds_count") == 1
    assert ask_port(port, "/metrics")[0] == 200
    until(
        lambda: value(ask(roles["scheduler"], "/metrics")[1], "ftjm_queue_oldest_seconds", queue="nobody") > 1,
        "the age of a job whose queue has no worker",
    )


def test_gauges_agree_with_the_log_and_counters_with_its_events(running: Cluster) -> None:
    """Two schedulers: the counts of the killed one are lost with it, and the other one counts from its takeover on."""
    running.keep_members()
    first = running.scheduler("a")
    running.worker()
    until_ready(first)
    running.until_owners("a")
    with running.load(60) as load:
        load.until(60)
    running.until_done(load.acknowledged)
    until_shown(first, "ftjm_jobs", len(load.acknowledged), state="SUCCEEDED")
    until_shown(first, "ftjm_job_transitions_total", len(load.acknowledged), event="AttemptSucceeded")
    second = running.scheduler("b")
    until_ready(second)
    until_shown(second, "ftjm_replay_seconds_count", 4)
    first.kill()
    running.until_owners("b")
    text = until(
        lambda: (
            shown_text
            if value(shown_text := ask(second, "/metrics")[1], "ftjm_jobs", state="SUCCEEDED") == len(load.acknowledged)
            else None
        ),
        "the second to show what it owns",
    )
    assert value(text, "ftjm_job_transitions_total", event="AttemptSucceeded") == 0, "folding the log was counted"
    assert takeovers_are_counted(second)


def test_the_heartbeat_names_the_port_and_the_flags_are_obeyed(running: Cluster, tmp_path: Path) -> None:
    port = free_base_port()
    process = running._start("p", ["-m", "ftjm", "scheduler", "--name", "p", "--metrics-port", str(port)])
    until(lambda: ask_port(port, "/livez")[0] == 200, "the scheduler to live")
    until(lambda: ask_port(port, "/readyz")[0] == 200, "the scheduler to be ready")
    assert process.log_lines("metrics_served")[-1]["port"] == port
    refused = running._start("r", ["-m", "ftjm", "scheduler", "--name", "r", "--metrics-host", "0.0.0.0"])
    assert refused.popen.wait(120) == 2
    assert "FTJM_METRICS_TOKEN" in refused.log.read_text()


def test_roles_are_not_ready_without_kafka(running: Cluster) -> None:
    settings = running.settings.model_copy(update={"bootstrap": f"127.0.0.1:{free_base_port()}"})
    running.settings = settings
    for process in (running.scheduler("a"), running.worker()):
        until_ready(process, "/livez")
        status, text = ask(process, "/readyz")
        assert (status, text) == (503, "Kafka has not been reached yet\n")
        assert ask(process, "/metrics")[0] == 200

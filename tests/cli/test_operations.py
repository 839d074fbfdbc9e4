"""Verbs for operators, without a Kafka: heartbeats, following and watching, and the doctor's findings."""

from __future__ import annotations

import json
import time
from typing import Any

import click
import pytest
import typer
import yaml

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.errors import LogError, LogRefused
from ftjm.adapters.kafka.topics import TopicDifference
from ftjm.adapters.records import Receipt
from ftjm.cli import app, options, queues, watch
from ftjm.cli.output import Output
from ftjm.core.records.messages import (
    DrainWorker,
    PartitionReport,
    QueueDemand,
    SchedulerHeartbeat,
    SessionState,
    WorkerHeartbeat,
)
from ftjm.core.state.model import JobState
from ftjm.ops import doctor
from ftjm.readmodel import presence
from ftjm.readmodel.cluster import queue_documents, worker_documents
from ftjm.readmodel.documents.fields import plain_document
from ftjm.readmodel.presence import Presence
from ftjm.runtime.durations import format_time
from ftjm.runtime.errors import FtjmError, Unreachable, UsageError

SILENT_VERBS = {"up", "scheduler", "worker", "api", "token"}
"""Roles: they log, and print nothing. `token` prints one word."""


def verbs(command: Any, path: str = "") -> dict[str, click.Command]:
    if not hasattr(command, "commands"):
        return {path: command}
    return {
        name: verb for sub, it in command.commands.items() for name, verb in verbs(it, f"{path} {sub}".strip()).items()
    }


def test_every_verb_that_prints_has_a_format():
    found = verbs(typer.main.get_command(app))
    assert {"queue list", "worker list", "worker drain", "drain", "doctor", "logs"} <= set(found)
    plain = {name for name, verb in found.items() if "-o" not in {flag for p in verb.params for flag in p.opts}}
    assert plain <= SILENT_VERBS


def test_verbs_that_show_a_changing_state_have_watch():
    found = verbs(typer.main.get_command(app))
    for name in ("get", "queue list", "queue describe", "worker list", "worker describe", "inspect partitions"):
        assert "--watch" in {flag for p in found[name].params for flag in p.opts}, name


def test_shells_can_complete(ftjm, monkeypatch):
    assert "--install-completion" in ftjm("--help").output
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "_FTJM_COMPLETE" in ftjm("--show-completion", "bash").output


def beat(session: str = "s1", worker: str = "w", **fields: Any) -> WorkerHeartbeat:
    given: dict[str, Any] = {
        "host": "h",
        "pid": 1,
        "state": SessionState.OPEN,
        "lane": 0,
        "lease_ms": 5_000,
        "slots": 4,
        "busy": 1,
        "queues": ["q"],
        "offers": [],
    }
    return WorkerHeartbeat(session=session, worker=worker, **(given | fields))


def scheduler(name: str, epoch: int, role: str = "owner", *demand: QueueDemand) -> SchedulerHeartbeat:
    report = PartitionReport(
        partition=0, role=role, owner_epoch=epoch, applied_offset=1, next_command=0, demand=list(demand), taken=[]
    )
    return SchedulerHeartbeat(instance=name, host="h", pid=1, port=0, partitions=[report])


def present(*heartbeats: tuple[Any, int]) -> Presence:
    """The presence after these heartbeats, each with the ms since it was received."""
    found = Presence()
    for heartbeat, silent_ms in heartbeats:
        found.receive(codec.encode(heartbeat), time.monotonic() - silent_ms / 1000)
    return found


def counts(**states: int) -> list[int]:
    numbers = [0] * (max(JobState) + 1)
    for name, count in states.items():
        numbers[JobState[name]] = count
    return numbers


def test_queues_are_rendered_from_the_heartbeats_of_owners_and_workers():
    since = time.time_ns() // 1_000_000 - 90_000
    demand = QueueDemand(queue="q", ready=3, counts=counts(READY=3, RUNNING=1, DISPATCHED=1, HELD=2), oldest_at=since)
    old = QueueDemand(queue="q", ready=9, counts=counts(READY=9))
    found = present(
        (scheduler("new", 7, "owner", demand), 100),
        (scheduler("stale", 6, "owner", old), 100),
        (scheduler("gone", 9, "owner", old), int(presence.SCHEDULER_SECONDS * 1000) + 1),
        (beat(), 100),
        (beat("s2", "w2", pid=2, queues=["q", "idle"], busy=4), 100),
        (beat("s3", "w3", pid=3), 6_000),
        (beat("s4", "w4", pid=4, state=SessionState.DRAINING), 100),
    )
    idle, row = queue_documents(found)
    assert (row.queue, row.owner, row.ready, row.running, row.held) == ("q", "new", 3, 2, 2)
    assert (row.workers, row.slots, row.free) == (["w", "w2"], 8, 3)
    assert row.states == {"HELD": 2, "READY": 3, "DISPATCHED": 1, "RUNNING": 1}
    assert row.oldest_ready_at == format_time(since)
    shown = queues._with_oldest(plain_document(row))
    assert shown["oldest"].startswith(("1m", "90s"))
    assert (idle.queue, idle.partition, idle.ready, idle.workers) == ("idle", None, 0, ["w2"])


def test_an_owner_of_an_older_version_reports_only_the_ready_jobs():
    [row] = queue_documents(present((scheduler("a", 1, "owner", QueueDemand(queue="q", ready=3)), 0)))
    assert (row.ready, row.running, row.states, row.oldest_ready_at) == (3, 0, {}, None)


def test_workers_by_process_and_their_newest_session():
    found = present(
        (beat("s1", state=SessionState.DRAINING), 900),
        (beat("s2"), 100),
        (beat("s3", "left", pid=2, state=SessionState.CLOSED), 100),
        (beat("s4", "mute", pid=3), 5_001),
        (beat("s5", "no name!", pid=4), 100),
    )
    found.receive(b"garbage", time.monotonic())
    rows = worker_documents(found.workers())
    assert [(row.worker, row.session, row.state) for row in rows] == [
        ("mute", "s4", "SILENT"),
        ("w", "s2", "OPEN"),
    ]


def test_a_cluster_without_members(ftjm, ftjm_json):
    result = ftjm("queue", "list", "-o", "json")
    assert (json.loads(result.stdout), result.exit_code) == ([], 0)
    assert "no scheduler was heard" in result.stderr
    assert ftjm_json("worker", "list") == []
    for arguments in (
        ["queue", "describe", "q"],
        ["worker", "describe", "w"],
        ["drain", "w"],
        ["worker", "drain", "w"],
    ):
        assert isinstance(ftjm(*arguments).exception, FtjmError), arguments


def test_a_drain_request_for_another_worker_is_ignored():
    from tests.worker.rules_world import World

    life = World().rules
    assert life.is_for_this_worker(DrainWorker(worker="w"))
    assert not life.is_for_this_worker(DrainWorker(worker="w2"))


def test_logs_are_followed_over_all_attempts(ftjm, cluster):
    cluster.outcomes = [(3, b"first\n", b"oops\n"), (0, b"second\n", b"")]
    ftjm("submit", "--job-id", "a", "--max-attempts", "2", "--backoff", "0s", "--", "x")
    cluster.work()
    cluster.work()
    result = ftjm("logs", "-f", "a")
    assert (result.exit_code, result.stdout) == (0, "first\nsecond\n")
    assert "==> default/a attempt 1 <==" in result.stderr
    lines = [json.loads(line) for line in ftjm("logs", "-f", "a", "-o", "json").stdout.splitlines()]
    assert [(line["attempt"], line["stdout"]) for line in lines] == [(1, "first\n"), (2, "second\n")]
    assert isinstance(ftjm("logs", "-f", "a", "--attempt", "1").exception, UsageError)


def test_following_a_rerun_prints_its_own_run_only(ftjm, cluster):
    cluster.outcomes = [(3, b"first\n", b""), (0, b"second\n", b"")]
    ftjm("submit", "--job-id", "a", "--", "x")
    cluster.work()
    ftjm("rerun", "a")
    cluster.work()
    assert ftjm("logs", "-f", "a").stdout == "second\n"
    assert "default/none is not in the log yet" in ftjm("logs", "-f", "none").stderr
    assert ftjm("cancel", "none").exit_code == 1
    assert "default/none is not in the log yet" in ftjm("logs", "-f", "none").stderr, "it has a refusal, and no job"


def test_watch_prints_one_document_after_another(monkeypatch, capsys):
    looks = iter([[{"a": 1}], [{"a": 2}]])

    def look() -> Any:
        try:
            return next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(watch, "SECONDS", 0.0)
    watch.emit_watched(look, Output.json, watch=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [[{"a": 1}], [{"a": 2}]]
    looks = iter([[{"a": 1}], [{"a": 2}]])
    watch.emit_watched(look, Output.yaml, watch=True)
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [[{"a": 1}], [{"a": 2}]]
    looks = iter([[{"a": 1}], [{"a": 2}]])
    watch.emit_watched(look, Output.table, columns=["a"], watch=True)
    assert capsys.readouterr().out.count("A") == 2


# ---- doctor


def statuses(found: Any) -> dict[str, str]:
    return {finding.check: finding.status for finding in found}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return options.load_settings(bootstrap="127.0.0.1:1", data_dir=str(tmp_path / "data"))


def test_the_doctor_skips_checks_that_need_a_failed_one(settings, monkeypatch):
    def unreachable(_: Any) -> Any:
        raise Unreachable("Kafka", "no answer", "start it")

    monkeypatch.setattr(topics, "check", unreachable)
    found = list(doctor.examine(lambda: settings))
    assert statuses(found)["kafka"] == "fail"
    assert "clock" not in statuses(found)
    assert found[-1].row() == {
        "check": "kafka",
        "status": "fail",
        "found": "expected Kafka, but found no answer",
        "todo": "start it",
    }

    def wrong() -> Any:
        raise UsageError("a number", "x", "mend it")

    assert [finding.check for finding in doctor.examine(wrong)] == ["versions", "platform", "settings"]


def test_the_doctor_checks_topics_clock_schedulers_and_workers(settings, monkeypatch):
    listed = [
        TopicDifference("error", "ftjm.events", "retention.ms", "-1", "1000", "run `ftjm topics create --repair`"),
        TopicDifference("warning", "(brokers)", "broker.session.timeout.ms", "at most 2 s", "9 s", "lower it"),
    ]
    monkeypatch.setattr(topics, "check", lambda _: listed)
    monkeypatch.setattr(doctor, "_clock", lambda _: doctor.Finding("clock", "ok", "right"))
    monkeypatch.setattr(presence, "read_presence", lambda _: (present((beat(), 0), (scheduler("a", 1), 0)), 1))
    found = statuses(doctor.examine(lambda: settings))
    assert (found["topics"], found["brokers"], found["clock"]) == ("fail", "warn", "ok")
    assert (found["schedulers"], found["workers"]) == ("warn", "ok"), "one partition of 16 is owned"
    monkeypatch.setattr(presence, "read_presence", lambda _: (Presence(), 1))
    found = statuses(doctor.examine(lambda: settings))
    assert (found["schedulers"], found["workers"]) == ("warn", "warn")


class Appending:
    """A log whose clock is `ahead_ms` ahead of the local one. With None it never answers."""

    def __init__(self, ahead_ms: int | None, error: LogError | None = None) -> None:
        self.ahead_ms = ahead_ms
        self.error = error

    def warm(self, topic: str) -> int:
        return 1

    def send_for_receipt(self, topic: str, value: bytes, *, partition: int, key: bytes, received: Any) -> None:
        assert (topic, key) == ("ftjm.replies", b"doctor")
        if self.ahead_ms is not None:
            taken_at = time.time_ns() // 1_000_000 + self.ahead_ms
            received(self.error or Receipt(0, 0, taken_at, 0.0))

    def flush(self, timeout_seconds: float) -> int:
        return 0

    def close(self, timeout_seconds: float) -> int:
        return 0


@pytest.mark.parametrize(
    ("ahead_ms", "status"),
    [(0, "ok"), (-500, "ok"), (2_000, "warn"), (-2_000, "warn"), (9_000, "fail"), (None, "fail")],
)
def test_the_doctor_compares_clocks(settings, monkeypatch, ahead_ms, status):
    monkeypatch.setattr(doctor, "ConfirmingProducer", lambda _: Appending(ahead_ms))
    assert doctor._clock(settings).status == status


def test_the_doctor_reports_a_record_that_kafka_refuses(settings, monkeypatch):
    monkeypatch.setattr(doctor, "ConfirmingProducer", lambda _: Appending(0, LogRefused("not authorized")))
    finding = doctor._clock(settings)
    assert (finding.status, "not authorized" in finding.found) == ("fail", True)


def test_the_doctor_reports_a_full_disk_and_missing_java(settings, monkeypatch):
    import importlib.metadata
    import shutil

    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    assert doctor._java().status == "ok"
    for free, status in ((10, "fail"), (10**9, "warn"), (10**11, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        assert statuses(doctor._data_dir(settings.data_dir))["disk"] == status
    monkeypatch.setattr(importlib.metadata, "version", none)
    assert doctor._java().status == "warn"

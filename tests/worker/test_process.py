"""A worker whose heartbeats schedulers would pass over does not start, and says why: it would never get work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ftjm.cli import app
from ftjm.core.bounds import confine
from ftjm.core.limits import LEASE_MS_MAX, LIST_MAX, WORKER_NAME_CHARACTERS_MAX
from ftjm.core.records.messages import SessionState
from ftjm.runtime import config
from ftjm.runtime.errors import UsageError
from ftjm.worker import process
from ftjm.worker.process import _require_heartbeats_within_bounds, _session_name
from ftjm.worker.rules.session import WorkerIdentity, WorkerSession

IDENTITY = WorkerIdentity(
    worker="w", host="h", pid=1, slots=4, queues=("default",), partitions=16, lanes=8, lease_ms=15_000
)


def test_the_longest_name_leads_to_sessions_whose_names_are_names():
    name = "w" * WORKER_NAME_CHARACTERS_MAX
    identity = msgspec.structs.replace(IDENTITY, worker=name)
    _require_heartbeats_within_bounds(identity)
    session = WorkerSession(_session_name(name), identity)
    _, heartbeat = session.heartbeat(0, SessionState.OPEN)
    assert (len(heartbeat.session), confine(heartbeat)) == (128, "")


@pytest.mark.parametrize("name", ["w" * (WORKER_NAME_CHARACTERS_MAX + 1), "w" * 128, "a b", "-w"])
def test_a_name_that_is_too_long_or_none_is_refused_at_the_start(name: str):
    settings = config.load(bootstrap="127.0.0.1:1")
    with pytest.raises(UsageError, match=f"at most {WORKER_NAME_CHARACTERS_MAX} characters") as raised:
        process.run(settings, queues=["default"], slots=1, name=name, apps=[])
    assert str(len(name)) in str(raised.value)


def test_the_bounds_of_task_processes_are_settings_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[config.Settings] = []

    def run(settings: config.Settings, **_: Any) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(process, "run", run)
    flags = ["--max-tasks-per-process", "7", "--max-memory-per-process-mb", "64", "--bootstrap", "127.0.0.1:1"]
    for arguments in (flags, flags[-2:]):
        assert CliRunner().invoke(app, ["worker", *arguments]).exit_code == 0
    found = [(settings.max_tasks_per_process, settings.max_memory_per_process_mb) for settings in seen]
    assert found == [(7, 64), (1_000, 512)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"worker": "w" * 100}, "session: expected a name"),
        ({"queues": ("q",) * (LIST_MAX + 1)}, "queues: expected at most"),
        ({"lease_ms": LEASE_MS_MAX + 1}, f"lease_ms: expected 1000 to {LEASE_MS_MAX}"),
        ({"lease_ms": 999}, "lease_ms"),
        ({"slots": 2**31}, "slots"),
        ({"host": "h" * 301}, "host"),
    ],
)
def test_a_worker_with_a_value_out_of_its_bounds_does_not_start(fields: dict[str, Any], reason: str):
    with pytest.raises(UsageError, match=reason):
        _require_heartbeats_within_bounds(msgspec.structs.replace(IDENTITY, **fields))

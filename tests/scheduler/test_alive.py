"""What the watchdog is told of a partition's runner: only who is to decide can be stuck."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ftjm.runtime import config
from ftjm.scheduler import partition_runner as runners
from ftjm.scheduler.context import Context
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.partition_runner import Runner
from ftjm.scheduler.status import SchedulerStatus

WAIT_SECONDS = 60.0


class Restore:
    """A restore that goes on as long as it is wanted, and says that it gets on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.went_on = threading.Event(), threading.Event(), threading.Event()
        self.over = False

    def open_store(self, _context: object, _number: int, _path: Path, _log: object, progress: Any) -> Any:
        self.begun.set()
        while not self.over:
            if self.go_on.wait(0.001):
                self.go_on.clear()
                progress(1, 2)
                self.went_on.set()
        raise RuntimeError("ends")


@pytest.fixture
def restore(monkeypatch: pytest.MonkeyPatch) -> Restore:
    made = Restore()
    monkeypatch.setattr(runners, "open_store", made.open_store)
    return made


@pytest.fixture
def context(tmp_path: Path) -> Any:
    class Nothing:
        def __getattr__(self, _name: str) -> Any:
            return lambda *_: None

    made = Context.__new__(Context)
    made.settings, made.stores, made.partitions = config.load(), tmp_path, 1
    made.reader = made.liveness = Nothing()  # type: ignore[assignment]
    made.stopping, made.heartbeat_due = threading.Event(), threading.Event()
    made.metrics = SchedulerMetrics(CollectorRegistry(), SchedulerStatus())
    return made


def test_a_restore_is_a_standstill_only_of_one_that_is_nominated_and_does_not_get_on(
    context: Context, restore: Restore
):
    runner = Runner(context, 0)
    runner.follow(True)
    runner.start()
    try:
        assert restore.begun.wait(WAIT_SECONDS)
        before = time.monotonic()
        assert runner.alive_at >= before
        runner.nominate()
        nominated = runner.alive_at
        assert nominated >= before, "what was before the nomination does not count"
        assert runner.alive_at == nominated
        restore.go_on.set()
        assert restore.went_on.wait(WAIT_SECONDS)
        got_on = runner.alive_at
        assert got_on > nominated
        assert runner.alive_at == got_on
        runner.revoke()
        assert runner.alive_at > got_on
    finally:
        restore.over = True
        context.stopping.set()
        assert runner.join(WAIT_SECONDS)

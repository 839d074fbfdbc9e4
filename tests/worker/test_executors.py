"""Every executor keeps the contract: commands, Python tasks, and isolated ones."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.worker.attempts.protocol import Disconnected
from tests.worker import executor_scenarios
from tests.worker.executor_contract import ExecutorContract, Subject
from tests.worker.guarding import alive


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.setenv("FTJM_KAFKA_SASL_PASSWORD", "secret")


@contextlib.contextmanager
def serving(directory: Path, executor: str, *command: str) -> Iterator[Subject]:
    """Start a guard, and kill all its processes afterwards."""
    subject = Subject(directory / "attempts", executor, command)
    try:
        yield subject
    finally:
        with contextlib.suppress(Disconnected, OSError):
            subject.link.leave()
        assert not alive(subject.link.pid)


class TestCommands(ExecutorContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        with serving(tmp_path, "command", sys.executable, executor_scenarios.__file__) as subject:
            yield subject


class TestTasks(ExecutorContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        with serving(tmp_path, "python", "scenario") as subject:
            yield subject


class TestIsolatedTasks(ExecutorContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        with serving(tmp_path, "python", "scenario_alone") as subject:
            yield subject

"""The contract between an executor and the guard. `test_executors.py` runs each executor under a real guard."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.protocol import Ended, Started
from tests.worker.guarding import LIMIT, Tasks, alive, pid_in, until

SCENARIOS = "tests.worker.executor_scenarios"


class Subject(Tasks):
    """A guard and one executor that runs the scenarios."""

    def __init__(self, directory: Path, executor: str, command: tuple[str, ...]) -> None:
        super().__init__(directory, (SCENARIOS,))
        self._executor, self._command = executor, command

    def begin(self, scenario: str, *arguments: object, **fields: object) -> str:
        """Start an attempt. Return its key."""
        payload = msgspec.json.encode({"args": [scenario, *arguments], "kwargs": {}})
        return self.start(*self._command, **{"executor": self._executor, "payload": payload, **fields})

    def perform(self, scenario: str, *arguments: object, **fields: object) -> Ended:
        """Run an attempt to its end."""
        return self.ended(self.begin(scenario, *arguments, **fields))

    def result(self, scenario: str, *arguments: object, **fields: object) -> Any:
        """The result of an attempt that succeeds."""
        end = self.perform(scenario, *arguments, **fields)
        assert end.reason is None, end
        return msgspec.json.decode(end.result)


class ExecutorContract:
    """Each test has its own guard, the fixture `subject`."""

    @pytest.fixture(autouse=True)
    def _every_attempt_ends_once(self, subject: Subject) -> Any:
        yield
        ended = [frame.key for frame in subject.frames if isinstance(frame, Ended)]
        assert len(ended) == len(set(ended))

    def test_an_attempt_starts_and_ends(self, subject: Subject, tmp_path: Path) -> None:
        key = subject.begin("echo", "hello")
        end = subject.ended(key)
        started = subject.started(key)
        assert (end.reason, end.error, end.exit_code, end.signal, end.result) == (None, "", 0, 0, b"5")
        assert 0 < end.started_at <= end.ended_at
        assert started.started_at == end.started_at
        assert end.scratch == ""
        assert not [path for path in (tmp_path / "attempts").glob("*/**/*") if path.name != "work"]

    def test_a_large_input_arrives(self, subject: Subject) -> None:
        assert subject.result("echo", "x" * 500_000) == 500_000

    def test_the_tail_of_a_long_output_is_kept_and_the_rest_counted(self, subject: Subject) -> None:
        end = subject.perform("prints", 300_000)
        assert (end.reason, len(end.stdout), end.stdout_cut) == (None, LIMIT, 300_008 - LIMIT)
        assert end.stdout.endswith(b"xxthe end\n")
        assert (end.stderr, end.stderr_cut) == (b"an error\n", 0)

    def test_an_exit_status_is_a_failure(self, subject: Subject) -> None:
        end = subject.perform("exits", 7)
        assert (end.reason, end.exit_code, end.signal) == (FailureReason.EXIT_CODE, 7, 0)
        assert end.error == "exit status 7"
        assert subject.perform("exits", 0).reason is None

    def test_a_death_by_a_signal_is_a_failure(self, subject: Subject) -> None:
        end = subject.perform("kills_itself")
        assert (end.reason, end.signal, end.exit_code) == (FailureReason.SIGNAL, signal.SIGKILL, 0)
        assert end.error == "killed by SIGKILL"
        assert subject.result("echo", "a") == 1, "the next attempt is not affected"

    def test_a_timeout_ends_an_attempt_after_its_grace(self, subject: Subject, tmp_path: Path) -> None:
        key = subject.begin("cleans_up", str(tmp_path / "mark"), timeout_ms=1_500)
        end = subject.ended(key)
        assert end.reason is FailureReason.TIMEOUT
        # On a busy machine the timeout may come before the attempt's code runs.
        assert not (tmp_path / "mark").exists() or (tmp_path / "mark").read_text() == "cleaned up"
        assert end.ended_at - end.started_at >= 1_400

    def test_an_attempt_obeys_a_stop_within_its_grace(self, subject: Subject, tmp_path: Path) -> None:
        key = subject.begin("cleans_up", str(tmp_path / "mark"))
        pid_in(tmp_path / "mark")
        subject.stop(key, 30_000)
        end = subject.ended(key)
        assert (end.reason, end.error) == (FailureReason.STOPPED, "stopped on request")
        assert (tmp_path / "mark").read_text() == "cleaned up"

    @pytest.mark.parametrize("graces_ms", [(0,), (200,), (200, 600_000), (600_000, 200)])
    def test_an_attempt_that_ignores_a_stop_is_killed(
        self, subject: Subject, tmp_path: Path, graces_ms: tuple[int, ...]
    ) -> None:
        """Of several stops, as of a window and of a cancellation behind it, the one with the earliest end counts."""
        key = subject.begin("waits", str(tmp_path / "mark"))
        pid = pid_in(tmp_path / "mark")
        for grace_ms in graces_ms:
            subject.stop(key, grace_ms)
        end = subject.ended(key)
        assert (end.reason, end.signal) == (FailureReason.STOPPED, signal.SIGKILL)
        assert not alive(pid)

    def test_an_immediate_stop_ends_an_attempt(self, subject: Subject, tmp_path: Path) -> None:
        key = subject.begin("waits", str(tmp_path / "mark"))
        subject.stop(key, 0)
        assert subject.ended(key).reason is FailureReason.STOPPED
        if (tmp_path / "mark").exists():
            pid = pid_in(tmp_path / "mark")
            until(lambda: not alive(pid), "the attempt to end")

    def test_the_end_of_the_lease_kills_an_attempt(self, subject: Subject, tmp_path: Path) -> None:
        key = subject.begin("waits", str(tmp_path / "mark"))
        pid = pid_in(tmp_path / "mark")
        subject.renew(100)
        end = subject.ended(key)
        assert (end.reason, end.signal) == (FailureReason.LEASE_EXPIRED, signal.SIGKILL)
        assert not alive(pid)

    def test_without_a_lease_nothing_starts(self, subject: Subject, tmp_path: Path) -> None:
        subject.renew(-1, "late")
        key = subject.begin("waits", str(tmp_path / "mark"), session="late")
        end = subject.ended(key)
        assert (end.reason, end.started_at) == (FailureReason.LEASE_EXPIRED, 0)
        assert not [frame for frame in subject.frames if isinstance(frame, Started) and frame.key == key]
        assert not (tmp_path / "mark").exists()

    def test_an_attempt_may_outlive_the_lease_by_its_continue_for(self, subject: Subject, tmp_path: Path) -> None:
        key = subject.begin("waits", str(tmp_path / "mark"), continue_for_ms=700)
        pid_in(tmp_path / "mark")
        subject.renew(0)
        before = subject.ended(key).ended_at
        assert before - subject.started(key).started_at >= 600

    def test_checkpoints_and_progress_are_reported(self, subject: Subject) -> None:
        key = subject.begin("reports_and_fails", checkpoint=b'{"at":2}')
        end = subject.ended(key)
        assert end.reason in (FailureReason.EXCEPTION, FailureReason.EXIT_CODE)
        assert b"after its checkpoint" in end.stderr
        data = [frame.data for frame in subject.checkpoints(key) if frame.data]
        assert msgspec.json.decode(data[-1]) == {"after": {"at": 2}}
        assert [(frame.progress, frame.text) for frame in subject.checkpoints(key)][-1] == (0.5, "half")

    def test_a_start_that_fails_says_why(self, subject: Subject) -> None:
        end = subject.perform("echo", "a", working_directory="/no/such/place")
        assert end.reason is FailureReason.START_FAILED
        assert "'/no/such/place'" in end.error

    def test_a_result_that_is_too_large_is_refused(self, subject: Subject) -> None:
        end = subject.perform("returns_text", LIMIT)
        assert (end.reason, end.result) == (FailureReason.RESULT_REFUSED, b"")
        assert f"at most {LIMIT} bytes, but found {LIMIT + 2}" in end.error
        assert subject.result("returns_text", LIMIT - 2) == "x" * (LIMIT - 2)

    def test_processes_that_an_attempt_leaves_behind_are_killed(self, subject: Subject, tmp_path: Path) -> None:
        assert subject.perform("leaves_a_process", str(tmp_path / "mark")).reason is None
        pid = pid_in(tmp_path / "mark")
        until(lambda: not alive(pid), "the process that was left behind to end")

    def test_an_attempt_gets_its_identity(self, subject: Subject) -> None:
        found = subject.result("about", attempt=4, run=2, checkpoint=b"[1]")
        assert (found["job"], found["run_key"], found["attempt"]) == ("q/j1", "q/j1/2", 4)
        assert found["checkpoint"] == [1]

    def test_an_attempt_has_its_environment_and_working_directory(self, subject: Subject, tmp_path: Path) -> None:
        found = subject.result(
            "about", environment={"MINE": "a\nb", "INHERITED": "no"}, working_directory=str(tmp_path)
        )
        assert (found["mine"], found["inherited"], found["cwd"]) == ("a\nb", "no", str(tmp_path))
        found = subject.result("about")
        assert (found["mine"], found["inherited"]) == (None, "yes")
        assert found["secret"] is None, "settings of the worker may hold credentials"

    def test_all_attempts_end_with_the_guard(self, subject: Subject, tmp_path: Path) -> None:
        subject.begin("waits", str(tmp_path / "mark"), continue_for_ms=600_000)
        pid = pid_in(tmp_path / "mark")
        os.kill(subject.link.pid, signal.SIGTERM)
        assert subject.result("echo", "a") == 1, "a signal to the guard is not reported as a stop by its supervisor"
        subject.link.channel.close()
        until(lambda: not alive(pid), "the attempt to end")

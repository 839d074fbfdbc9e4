"""`ftjm up` as a user runs it: it keeps its children alive, and none of them outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ftjm import endpoint
from ftjm.embedded.ports import free_base_port
from integration.waiting import until


@dataclass
class Running:
    """An `up` with a scheduler and a worker."""

    process: subprocess.Popen[bytes]
    data_dir: Path

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process | None:
        """Its direct child that has this word in its command line."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if word in child.cmdline():
                    return child
            except psutil.NoSuchProcess:
                continue
        return None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """An `up` that has started, without what the environment says; killed at the end."""
    data_dir = folder / "data"
    options = ["--schedulers", "1", "--workers", "1", "--slots", "1", "--partitions", "2"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FTJM_")}
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ftjm", "up", "--data-dir", data_dir, "--port", str(free_base_port()), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=kept,
        )
        found = Running(process, data_dir)

        def complete() -> bool:
            assert process.poll() is None, Path(log.name).read_text()
            # The worker's guard is the last to come: Kafka, scheduler, worker, guard.
            return len(found.tree()) >= 4 and endpoint.read(data_dir) is not None

        try:
            until(complete, f"up to start; see {log.name}")
            yield found
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Running]:
    """One that the test may end."""
    with running(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests that leave it running. Those that kill its children are the file's last."""
    with running(tmp_path_factory.mktemp("lasting")) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order(up: Running, number: signal.Signals) -> None:
    tree = up.tree()
    assert endpoint.read(up.data_dir) is not None
    up.process.send_signal(number)
    assert up.process.wait(40) == 0
    _assert_gone(tree)
    assert not (up.data_dir / endpoint.FILE_NAME).exists()


def test_nothing_outlives_a_killed_up(up: Running) -> None:
    tree = up.tree()
    up.process.kill()
    up.process.wait()
    _assert_gone(tree)
    assert endpoint.read(up.data_dir) is None  # the file is there, and its writer is not


def test_a_second_up_on_the_same_directory_names_the_first(lasting: Running) -> None:
    command = [sys.executable, "-m", "ftjm", "up", "--data-dir", str(lasting.data_dir), "--port", str(free_base_port())]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"in use by process {lasting.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert lasting.process.poll() is None


def test_apps_that_cannot_be_imported_are_told_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ftjm", "up", "--data-dir", str(tmp_path / "data"), "--app", "no_such_app"]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert tried.returncode == 2
    assert "cannot import no_such_app: no module named 'no_such_app'" in tried.stderr
    assert "Traceback" not in tried.stderr
    assert not (tmp_path / "data").exists()


def test_clients_find_it_by_its_directory(lasting: Running) -> None:
    command = [sys.executable, "-m", "ftjm", "topics", "check", "--data-dir", str(lasting.data_dir)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_it_serves_the_api_that_its_endpoint_names(lasting: Running) -> None:
    found = endpoint.read(lasting.data_dir)
    assert found is not None

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{found.api}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until(ready, "the API to be ready")
    command = [sys.executable, "-m", "ftjm", "list", "--data-dir", str(lasting.data_dir), "-o", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert (listed.returncode, listed.stdout.strip(), listed.stderr) == (0, "[]", "")


@pytest.mark.parametrize("role", ["scheduler", "kafka.Kafka"])
def test_a_child_that_dies_is_started_again(lasting: Running, role: str) -> None:
    first = lasting.child(role)
    assert first is not None
    first.kill()

    def next_life() -> bool:
        child = lasting.child(role)
        return child is not None and child.pid != first.pid

    until(next_life, f"a new {role}")


def _assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=15)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []

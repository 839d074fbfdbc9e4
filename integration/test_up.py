"""`ftjm up` as a user runs it: it restarts its children, and none of them outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ftjm.lab.chaos.process_trees import tree
from ftjm.local.ports import free_base_port
from ftjm.runtime import endpoint
from integration.counting import wakes
from integration.waiting import until

WAKES_MAX = 1_400
"""Wake-ups a second of an idle `ftjm up`: 980 were counted."""
WAKES_OF_SCHEDULERS_MAX = 550
"""The part of its two schedulers: 370 were counted."""


@dataclass
class Running:
    """A running `ftjm up` with a scheduler and a worker."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    environment: dict[str, str]
    log: Path

    @property
    def endpoint(self) -> endpoint.Endpoint:
        found = endpoint.read(self.data_dir)
        assert found is not None
        return found

    def ftjm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a user who knows nothing of the data directory."""
        command = [sys.executable, "-m", "ftjm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=self.environment)

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process | None:
        """The direct child with this word in its command line, other than a broker in training for the start cache."""
        for child in psutil.Process(self.process.pid).children():
            try:
                if word in (command := child.cmdline()) and not any("AOTMode" in option for option in command):
                    return child
            except psutil.NoSuchProcess:
                continue
        return None


SMALL = ("--schedulers", "1", "--workers", "1", "--slots", "1", "--partitions", "2")


@contextlib.contextmanager
def running(folder: Path, options: Sequence[str] = SMALL) -> Iterator[Running]:
    """Start an `ftjm up` without the settings of the environment. Kill it at the end."""
    data_dir = folder / "data"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FTJM_")}
    kept["XDG_DATA_HOME"] = str(folder / "xdg")
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ftjm", "up", "--data-dir", data_dir, "--port", str(free_base_port()), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=kept,
            umask=0o002,
        )
        found = Running(process, data_dir, kept, Path(log.name))

        def complete() -> bool:
            assert process.poll() is None, Path(log.name).read_text()
            # The worker's guard is the last process to start: Kafka, scheduler, worker, guard.
            return len(found.tree()) >= 4 and endpoint.read(data_dir) is not None

        try:
            until(complete, f"up to start; see {log.name}")
            yield found
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Running]:
    """An `ftjm up` that the test may end."""
    with running(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One `ftjm up` for all tests that leave it running. Tests that kill its children come last in the file."""
    with running(tmp_path_factory.mktemp("lasting")) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order(up: Running, number: signal.Signals) -> None:
    tree = up.tree()
    assert endpoint.read(up.data_dir) is not None
    up.process.send_signal(number)
    assert up.process.wait(150) == 0
    _assert_gone(tree)
    assert not (up.data_dir / endpoint.FILE_NAME).exists()


def test_nothing_outlives_a_killed_up(up: Running) -> None:
    tree = up.tree()
    up.process.kill()
    up.process.wait()
    _assert_gone(tree)
    assert endpoint.read(up.data_dir) is None  # the endpoint file is there, but its writer is not


def test_a_second_up_on_the_same_directory_names_the_first(lasting: Running) -> None:
    command = [sys.executable, "-m", "ftjm", "up", "--data-dir", str(lasting.data_dir), "--port", str(free_base_port())]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    assert f"in use by process {lasting.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert lasting.process.poll() is None


def test_apps_that_cannot_be_imported_are_reported_before_anything_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ftjm", "up", "--data-dir", str(tmp_path / "data"), "--app", "no_such_app"]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert tried.returncode == 2
    assert "cannot import no_such_app: no module named 'no_such_app'" in tried.stderr
    assert "Traceback" not in tried.stderr
    assert not (tmp_path / "data").exists()


def test_clients_find_an_up_by_its_directory(lasting: Running) -> None:
    command = [sys.executable, "-m", "ftjm", "topics", "check", "--data-dir", str(lasting.data_dir)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_up_serves_the_api_that_its_endpoint_names(lasting: Running) -> None:
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


def test_an_address_alone_is_enough_for_the_same_user(lasting: Running) -> None:
    found = lasting.endpoint
    done = lasting.ftjm("submit", "--bootstrap", found.bootstrap, "--job-id", "by-address", "--wait", "--", "true")
    assert (done.returncode, done.stderr) == (0, "waiting for default/by-address\n"), done.stdout
    by_bootstrap = lasting.ftjm("list", "--bootstrap", found.bootstrap, "-o", "json")
    by_api = lasting.ftjm("list", "--api", found.api, "-o", "json")
    for listed in (by_bootstrap, by_api):
        assert [job["job_id"] for job in json.loads(listed.stdout)] == ["by-address"], listed.stderr


def test_others_are_refused_by_the_api(lasting: Running) -> None:
    found = lasting.endpoint
    for headers in ({}, {"Authorization": f"Bearer {found.token[:-1]}x"}):
        request = urllib.request.Request(f"{found.api}/api/v1/jobs", b'{"command":["true"]}', headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        refused.value.close()
        assert refused.value.code == 401
    request = urllib.request.Request(f"{found.api}/api/v1/queues", headers={"Authorization": f"Bearer {found.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_others_are_refused_by_kafka(lasting: Running) -> None:
    found = lasting.endpoint
    settings: dict[str, Any] = {"bootstrap.servers": found.bootstrap, "log_level": 0}
    wrong = found.kafka | {"sasl.password": "0" * 64}
    # Clients with the password are answered; then those without it are refused, not only late.
    assert AdminClient(settings | found.kafka).list_topics(timeout=30).topics
    for others in ({}, wrong):
        with pytest.raises(KafkaException):
            AdminClient(settings | others).list_topics(timeout=5)
    host, _, port = found.bootstrap.partition(":")
    quorum: dict[str, Any] = {"bootstrap.servers": f"{host}:{int(port) + 10}", "log_level": 0}
    with pytest.raises(KafkaException):
        AdminClient(quorum).list_topics(timeout=5)


def test_files_are_private_and_jobs_have_the_umask_of_the_user(lasting: Running) -> None:
    found = lasting.endpoint
    options = ["--bootstrap", found.bootstrap, "--job-id", "umask", "--wait"]
    assert lasting.ftjm("submit", *options, "--", "sh", "-c", "umask").returncode == 0
    assert int(lasting.ftjm("logs", "--bootstrap", found.bootstrap, "umask").stdout, 8) == 0o002
    open_to_others = []
    for path in (lasting.data_dir, *lasting.data_dir.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # stores and logs come and go
            if path.lstat().st_mode & 0o077:
                open_to_others.append(str(path))
    assert open_to_others == []


def test_secrets_are_in_no_argument_no_log_and_no_job(lasting: Running) -> None:
    found = lasting.endpoint
    options = ["--bootstrap", found.bootstrap, "--job-id", "env", "--wait"]
    assert lasting.ftjm("submit", *options, "--", "env").returncode == 0
    secrets = [found.token, found.kafka["sasl.password"]]
    assert all(len(secret) >= 32 for secret in secrets)
    shown = [
        lasting.log.read_text(errors="replace"),
        lasting.ftjm("logs", "--bootstrap", found.bootstrap, "env").stdout,
    ]
    for process in tree(lasting.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # a child of a moment
            shown.append(" ".join(process.cmdline()))
    shown += [path.read_text(errors="replace") for path in lasting.data_dir.rglob("*.log*") if path.is_file()]
    shown.append(lasting.ftjm("inspect", "events", "--bootstrap", found.bootstrap, "-o", "json").stdout)
    assert len("".join(shown)) > 1_000
    assert not [text for text in shown for secret in secrets if secret in text]


@pytest.mark.parametrize("role", ["scheduler", "kafka.Kafka"])
def test_a_child_that_dies_is_started_again(lasting: Running, role: str) -> None:
    first = lasting.child(role)
    assert first is not None
    first.kill()

    def next_life() -> bool:
        child = lasting.child(role)
        return child is not None and child.pid != first.pid

    until(next_life, f"a new {role}")


def test_an_idle_up_wakes_seldom(tmp_path: Path) -> None:
    """The test counts voluntary context switches of all threads: their number does not depend on the machine."""
    with running(tmp_path, []) as up:
        assert up.ftjm("submit", "--wait", "--data-dir", str(up.data_dir), "--", "true").returncode == 0
        counts: dict[str, float] = {}

        def is_quiet() -> bool:
            counts.update(_wakes_a_second(up.tree(), 3.0))
            return counts["scheduler"] <= WAKES_OF_SCHEDULERS_MAX and sum(counts.values()) <= WAKES_MAX

        assert until(is_quiet, "a quiet machine"), counts


def _wakes_a_second(processes: list[psutil.Process], seconds: float) -> dict[str, float]:
    """Voluntary context switches a second of these processes, by their role, over a while."""
    roles = {process.pid: _role(process) for process in processes}
    before = {pid: wakes(pid) for pid in roles}
    time.sleep(seconds)
    found: dict[str, float] = dict.fromkeys(roles.values(), 0.0)
    for pid, role in roles.items():
        found[role] += max(0, wakes(pid) - before[pid]) / seconds
    return found


def _role(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        return next((role for role in ("kafka.Kafka", "scheduler", "worker", "api") if role in command), "other")
    return "other"


def _assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []

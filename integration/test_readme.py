"""Each command of the README's first jobs is run as it is written there: command line, Python, HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjm.local.ports import free_base_port
from ftjm.specs.resources import KINDS
from integration.waiting import until

ROOT = Path(__file__).parents[1]
ADDRESS = "http://127.0.0.1:8484"
ENDLESS = ("--follow", "--watch", "curl -sN")
"""Commands with these go on until they are stopped."""


def blocks(section: str) -> list[tuple[str, str]]:
    """The language and the text of each fenced block of a section."""
    found = re.search(rf"^## {section}\n(.*?)(?=^## )", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, f"no section {section} in the README"
    return re.findall(r"```(\w+)\n(.*?)```", found[1], re.DOTALL)


def lines(section: str) -> list[list[str]]:
    """The commands of the section's shell blocks."""
    texts = [text for language, text in blocks(section) if language == "sh"]
    return [re.split(r"(?<!\\)\n", text.strip()) for text in texts]


@dataclass(frozen=True)
class Up:
    """The README's `ftjm up`, and a user's terminal beside it."""

    folder: Path
    environment: dict[str, str]
    api: str

    def run(self, line: str) -> str:
        """Run a command that ends, and return its output. It must succeed."""
        done = subprocess.run(
            ["sh", "-c", line.replace(ADDRESS, self.api)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def listening(self, line: str) -> Iterator[Path]:
        """Run a command that does not end until the block ends. Yields the file with its output."""
        output_file = self.folder / "output_file.txt"
        with output_file.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {line.replace(ADDRESS, self.api)}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            until(lambda: output_file.read_bytes() or process.poll() is not None, f"{line} to print something")
            assert process.poll() is None, f"{line}\n{output_file.read_text()}"
            yield output_file
        finally:
            process.kill()
            process.wait()

    def carry_out(self, line: str) -> None:
        """Run a command of either kind."""
        if any(word in line for word in ENDLESS):
            with self.listening(line):
                return
        self.run(line)


@contextlib.contextmanager
def running(line: str, folder: Path, *options: str) -> Iterator[Up]:
    """Run the README's `ftjm up` in a folder, with options that avoid conflicts with other tests."""
    port = free_base_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FTJM_")}
    programs = f"{Path(sys.executable).parent}:{kept['PATH']}"
    environment = {**kept, "PATH": programs, "XDG_DATA_HOME": str(folder / "xdg")}
    command = [*shlex.split(line, comments=True), "--port", str(port), "--partitions", "2", *options]
    log = folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: "ftjm is up" in log.read_text() or process.poll() is not None, f"up to start; see {log}", 400)
        assert process.poll() is None, log.read_text()
        yield Up(folder, environment, f"http://127.0.0.1:{port + 5}")
    finally:
        try:
            process.send_signal(signal.SIGINT)
            process.wait(180)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The `ftjm up` of the README's beginning."""
    [_, line], *_ = lines("A first job of your own")
    with running(line, tmp_path_factory.mktemp("first")) as up:
        yield up


# ---- the command line


def test_the_installed_program_is_this_one(first: Up) -> None:
    [install, up], *_ = lines("A first job of your own")
    _, _, wanted = shlex.split(install, comments=True)
    name, extra = re.fullmatch(r"(\w+)\[(\w+)\]", wanted).groups()  # type: ignore[union-attr]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (name, up.split()[:2]) == (project["name"], ["ftjm", "up"])
    assert extra in project["optional-dependencies"]


def test_the_first_job_on_the_command_line(first: Up) -> None:
    _, [hello, nightly, *about], [many], looking, bulk, _, _ = lines("A first job of your own")
    jobs, _ = [text for language, text in blocks("A first job of your own") if language == "yaml"]
    assert first.run(hello).endswith(" SUCCEEDED\n")
    assert first.run(nightly) == "default/nightly\n"
    for line in about:
        first.run(line)
    assert "JobSubmitted" in first.run("ftjm history nightly")
    (first.folder / "jobs.yaml").write_text(jobs)
    output_file = first.run(many).splitlines()
    assert output_file[:2] == ["default/resize-a", "default/report"]
    assert [line.partition("/")[0] for line in output_file[2:]] == ["thumbnails"]
    for line in (*looking, *bulk):
        first.carry_out(line)


def test_the_first_queues_and_schedules_in_files(first: Up) -> None:
    *_, queues, schedules = lines("A first job of your own")
    *_, schedule = [text for language, text in blocks("A first job of your own") if language == "yaml"]
    (first.folder / "queues").mkdir()
    (first.folder / "queues" / "thumbnails.yaml").write_text(yaml.safe_dump(KINDS["Queue"].examples[0]))
    (first.folder / "nightly.yaml").write_text(schedule)
    for line in queues:
        command = line.partition(" #")[0]
        first.run(f"{command} || [ $? = 2 ]" if "plan" in command else command)
    instants, applied, listed = (first.run(line) for line in schedules)
    assert instants.count("etl/nightly") == 5
    assert applied == "Schedule etl/nightly created\n"
    assert "30 2 * * *" in listed


# ---- Python


def test_the_first_task_in_python(tmp_path: Path) -> None:
    for language, text in blocks("In Python"):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name is not None, text
            (tmp_path / name[1]).write_text(text)
    [[line, submit, by_name]] = lines("In Python")
    with running(line, tmp_path, "--schedulers", "1", "--workers", "1", "--no-api") as up:
        assert up.run(submit) == "{'path': 'a.png', 'width': 200}\n"
        assert up.run(by_name).endswith(" SUCCEEDED\n")
        up.run("python -m pytest -q -p no:cacheprovider test_thumbnails.py")


# ---- HTTP


def by_curl(up: Up, line: str) -> Any:
    return json.loads(up.run(line))


def by_python(up: Up, line: str) -> Any:
    """Send the request of a curl command on a machine without curl."""
    words = iter(shlex.split(line.replace(ADDRESS, up.api).replace("\\\n", ""), comments=True))
    assert next(words) == "curl"
    method, address, body, headers = "GET", "", None, {}
    for word in words:
        match word:
            case "-s":
                pass
            case "-sX":
                method = next(words)
            case "-H":
                header = next(words)
                header = (up.folder / header[1:]).read_text().strip() if header.startswith("@") else header
                name, _, value = header.partition(": ")
                headers[name] = value
            case "-d":
                body = next(words).encode()
            case _:
                assert word.startswith("http"), f"an option of curl that is not known here: {word}"
                address = word
    request = urllib.request.Request(address, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        return json.load(refusal)


WITHOUT_CURL = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: Python sends the same requests"
)


@pytest.mark.parametrize("ask", [pytest.param(by_curl, marks=WITHOUT_CURL), by_python])
def test_the_first_job_over_http(first: Up, ask: Any) -> None:
    [[token, submit, task, search, logs, _]] = lines("Over HTTP")
    first.run(token)

    def answered(line: str, field: str) -> Any:
        """Ask again until the answer has this field: on a busy machine, the API may refuse or not wait long enough."""
        return until(lambda: found if field in (found := ask(first, line)) else None, f"{field} of {line}")

    hello = answered(submit, "outcome")
    assert (hello["job"], hello["outcome"]["state"]) == ("default/over-http", "SUCCEEDED")
    assert answered(task, "queue")["queue"] == "thumbnails"
    found = [hello["job"]]
    until(lambda: [job["job"] for job in answered(search, "jobs")["jobs"]] == found, "the projection to have it")
    assert answered(logs, "stdout")["stdout"] == "hello\n"


@WITHOUT_CURL
def test_the_feed_goes_on_after_the_last_event_that_was_seen(first: Up) -> None:
    [[token, *_, feed]] = lines("Over HTTP")
    first.run(token)

    def event_id(output_file: Path, job: str) -> str | None:
        """The id of the job's first event in the output."""
        found = re.search(
            rf'^id: (\S+)\nevent: JobSubmitted\ndata: .*"job":"{job}"', output_file.read_text(), re.MULTILINE
        )
        return found and found[1]

    with first.listening(feed) as output_file:
        seen = first.run("ftjm submit -- echo hello").strip()
        last = until(lambda: event_id(output_file, seen), f"the feed to tell of {seen}")
    missed = first.run("ftjm submit -- echo hello").strip()
    with first.listening(f"{feed.partition('#')[0]} -H 'Last-Event-ID: {last}'") as output_file:
        until(lambda: event_id(output_file, missed), f"the feed to tell of {missed}")
        assert event_id(output_file, seen) is None

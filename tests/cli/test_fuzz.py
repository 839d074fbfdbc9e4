"""Whatever is typed, and whatever the terminal is: an answer or an error in words, no traceback, no signal, no hang."""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import typer
from hypothesis import strategies as st

from ftjm import cli
from ftjm.adapters.kafka import lane_reader
from ftjm.cli import app, watch
from ftjm.client.command_client import Client
from ftjm.ops import transfer
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from tests.cli.cluster import Cluster
from tests.cli.test_operations import verbs
from tests.fuzzing import fuzz

pytestmark = pytest.mark.timeout(3_600)  # with --long

NUMBERS = [
    "-1",
    "0",
    "1",
    "65535",
    "65536",
    "99999",
    "1e400",
    "nan",
    "inf",
    "1.5",
    "²",
    "٣",
    "10s",
    "2030-01-31T18:00:00Z",
    "0001-01-01T00:00:00+23:59",
]
SETTINGS = ["a=b", "=", "a==", "error_cb=x", "logger=x", "foo=bar", "message.timeout.ms=x", "kafka.x="]
NAMES = [
    "a",
    "q/a",
    "a/b/c",
    "-",
    "--",
    "@none",
    "@.",
    "@jobs",
    "jobs",
    "none",
    ".",
    "~",
    "~nobody-of-this-name",
    "RUNNING",
    "file",
    "table",
    "json",
    "yaml",
    "é",
    "🎉",
]
DATA = ["{", "{}", '{"a":1}', "[1]", '"a"', "null", "%s", "{}", "[bold]", "[/]"]
ADDRESSES = ["http://127.0.0.1:1", "http://127.0.0.1:99999", "http://[", "ftp://x", "127.0.0.1:99999", "host:port,"]
LONG = ("9" * 30, "9" * 4_400, "9" * 5_000, "9" * 400 + "s", "[" * 3_000, "x" * 3_000)
BYTES = ("", " ", "caf\udce9", "\udcff", "\x1b[31m", "\x7f", "a\nb", "a\tb")
WORDS = (*NUMBERS, *SETTINGS, *NAMES, *DATA, *ADDRESSES, *LONG, *BYTES)
"""What people type by mistake, and what nobody types."""
FILES = {
    "jobs": b'{"command": ["true"]}\n',
    "odd.yaml": b"- command: a\n- {command: a, payload: !!float x}\n",
    "latin.yaml": b"command: caf\xe9\n",
    "deep.json": b"[" * 100_000,
}


class Line(NamedTuple):
    """A command line, and what is on its standard input."""

    arguments: list[str]
    stdin: bytes


VERBS: dict[str, click.Command] = verbs(typer.main.get_command(app))
TEXT = st.text(st.characters(exclude_characters="\0/:", codec="utf-8"), max_size=12)
VALUE = st.sampled_from([*WORDS, *FILES]) | TEXT


@st.composite
def lines(draw: st.DrawFn) -> Line:
    verb = draw(st.sampled_from(sorted(VERBS)))
    flags = [flag for parameter in VERBS[verb].params for flag in parameter.opts if flag.startswith("-")]
    arguments = verb.split()
    for _ in range(draw(st.integers(0, 5))):
        arguments += draw(
            st.tuples(st.sampled_from(flags), VALUE)
            | st.tuples(st.sampled_from(flags))
            | st.tuples(VALUE)
            | st.builds(lambda flag, value: (f"{flag}={value}",), st.sampled_from(flags), VALUE)
        )
    return Line(arguments, draw(st.binary(max_size=30) | st.sampled_from(list(FILES.values()))))


@pytest.fixture
def offline(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Verbs stop where they would start processes, wait, or connect to anything but the cluster in memory."""

    def stop(*_: Any, **__: Any) -> Any:
        raise FtjmError("a fuzz test", "all options understood", "end here")

    def settings(self: Settings, role: str, known: Any = Settings.kafka_settings) -> dict[str, Any]:
        if role not in {"client", "reader"}:
            stop()
        found: dict[str, Any] = known(self, role)
        return found

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    for name in (
        "local.up.run",
        "worker.process.tasks_of",
        "api.server.run",
        "lab.bench.suites.run",
        "lab.chaos.run.run",
    ):
        monkeypatch.setattr(f"ftjm.{name}", stop)
    monkeypatch.setattr("ftjm.scheduler.process.Scheduler.run", stop)
    monkeypatch.setattr("ftjm.runtime.stop_signals.call_in_a_thread", lambda _: None)
    monkeypatch.setattr(transfer, "export", stop)
    monkeypatch.setattr(transfer, "import_", stop)
    monkeypatch.setattr("ftjm.history.trimmed.Archive", stop)
    monkeypatch.setattr(Settings, "kafka_settings", settings)
    monkeypatch.setattr(lane_reader, "LaneReader", stop)
    monkeypatch.setattr(watch, "_pause", interrupt)
    monkeypatch.setattr(Client, "ended", lambda *_: True)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr(typer, "launch", stop)
    monkeypatch.setattr(cli, "_keep_traceback", _raise)
    for name, content in FILES.items():
        Path(tmp_path, name).write_bytes(content)


def _raise(error: Exception) -> str:
    raise AssertionError("an error that no verb describes") from error


@contextlib.contextmanager
def terminal(stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """Standard streams in memory, as `streams.prepare` leaves them."""
    out, err = io.BytesIO(), io.BytesIO()
    before = sys.stdin, sys.stdout, sys.stderr
    made = [io.TextIOWrapper(io.BytesIO(stdin))]
    made += [io.TextIOWrapper(stream, "utf-8", errors="backslashreplace", write_through=True) for stream in (out, err)]
    sys.stdin, sys.stdout, sys.stderr = made
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for stream in made:
            stream.detach()


def test_any_arguments_of_any_verb(request: pytest.FixtureRequest, offline: None) -> None:
    def check(line: Line) -> None:
        with terminal(line.stdin) as (out, err):
            status = cli.run(list(line.arguments))
        assert 0 <= status < 256
        shown = err.getvalue()
        assert b"Traceback" not in shown + out.getvalue()
        assert status == 0 or shown or b"-o" in str(line.arguments).encode() or out.getvalue(), "a failure says why"

    fuzz(request, check, lines(), short=100, long=3_000)


# ---- whole processes

SETTINGS_FILES = (
    b'cluster = "\xe9"',
    'cluster = "a"'.encode("utf-16"),
    b"[" * 5_000,
    b"kafka = 5",
    b"cluster = 5",
)
ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX"},
    {"LC_ALL": "none.none"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
    {"TERM": "dumb"},
    {"COLUMNS": "1"},
    {"COLUMNS": "x"},
    {"HOME": "/nonexistent", "XDG_DATA_HOME": ""},
    {"FTJM_KAFKA": "{"},
    {"FTJM_LEASE_SECONDS": "inf"},
    {"FTJM_PARTITIONS": "9" * 5_000},
    {"FTJM_CLUSTER": "caf\udce9"},
    {"FTJM_DATA_DIR": "~nobody-of-this-name/x"},
    {"FTJM_CONFIG": "/dev/null"},
    {"FTJM_CONFIG": "/"},
    {"LOGNAME": "caf\udce9"},
)
STREAMS = ("", ">&-", "2>&-", "<&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "</tmp", "| true")
PLAIN: tuple[list[str], ...] = (
    ["--version"],
    ["--help"],
    ["submit", "--help"],
    ["inspect", "state", "-o", "json"],
    ["doctor"],
    ["doctor", "-o", "json"],
    ["topics", "check"],
    ["submit", "-f", "-"],
    ["submit", "-f", "jobs"],
    ["submit", "--", "caf\udce9"],
    ["get", "é"],
    ["up", "--port", "0"],
    ["up", "--port", "99999"],
    ["api", "--port", "-1"],
    ["--show-completion"],
    ["nonsense\udcff"],
    [],
)


def test_whole_processes_with_odd_streams_locales_and_settings(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every stream and every environment occurs; which with which is drawn."""
    count = 500 if request.config.getoption("--long") else 8
    source = random.Random(1)
    for name, content in FILES.items():
        Path(tmp_path, name).write_bytes(content)
    for number in range(count):
        arguments = PLAIN[number % len(PLAIN)] if number % 2 else _typed(source)
        stream = STREAMS[number % len(STREAMS)]
        environment = ENVIRONMENTS[number % len(ENVIRONMENTS)] if source.random() < 0.6 else {}
        Path(tmp_path, "ftjm.toml").write_bytes(source.choice(SETTINGS_FILES) if source.random() < 0.3 else b"")
        _check_process(arguments, stream, environment, tmp_path)


def _typed(source: random.Random) -> list[str]:
    """A command line of a verb that starts nothing."""
    verb = source.choice([name for name in sorted(VERBS) if name not in {"up", "chaos", "bench"}])
    flags = [flag for parameter in VERBS[verb].params for flag in parameter.opts if flag.startswith("-")]
    words = [word for word in (*WORDS, *FILES) if word]
    typed = [source.choice((flags, words)[number % 2]) for number in range(source.randrange(6))]
    return [*verb.split(), *typed]


def _check_process(arguments: list[str], stream: str, environment: dict[str, str], directory: Path) -> None:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "XDG_DATA_HOME": str(directory)}
    command = ["sh", "-c", f'exec "$@" {stream}', "sh", sys.executable, "-m", "ftjm", *arguments]
    if "|" in stream:
        command = ["sh", "-c", f'"$@" {stream}', *command[3:]]
    case = (arguments, stream, environment)
    with Path(directory, "out").open("w+b") as out:
        process = subprocess.Popen(
            [os.fsencode(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**known, **environment},
        )
        _, status, usage = _wait(process)
        printed = Path(directory, "out").read_bytes()
    assert os.waitstatus_to_exitcode(status) in {0, 1, 2, 130, 141}, (case, printed)
    assert usage.ru_utime + usage.ru_stime < 20.0, case
    assert b"Traceback" not in printed, (case, printed)
    assert b"no fault in ftjm" not in printed, (case, printed)
    assert b"Exception ignored" not in printed, (case, printed)


def _wait(process: subprocess.Popen[bytes]) -> Any:
    """Wait for the process, at most a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = os.wait4(process.pid, os.WNOHANG)
        if found[0]:
            process.returncode = 0
            return found
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no end of {process.args!r}")

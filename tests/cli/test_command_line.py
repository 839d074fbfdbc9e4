"""The command line as a whole: errors, version, and how quickly it answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjm import __version__
from ftjm.cli import options, output
from ftjm.cli.output import Output
from ftjm.runtime.errors import FtjmError, UsageError


def _ftjm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"XDG_DATA_HOME": str(cwd), "PATH": "/usr/bin:/bin", "TERM": "dumb"}
    command = [sys.executable, "-m", "ftjm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60, check=False)


def test_the_version(tmp_path: Path) -> None:
    assert _ftjm("--version", cwd=tmp_path).stdout == f"ftjm {__version__}\n"


def test_an_error_says_what_to_do_without_a_traceback(tmp_path: Path) -> None:
    done = _ftjm("topics", "check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: expected the address of a Kafka cluster\n       found none")
    assert "to do: start one with `ftjm up`" in done.stderr


def test_a_wrong_setting_exits_2(tmp_path: Path) -> None:
    done = _ftjm("topics", "create", "--partitions", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "partitions" in done.stderr


def test_help_loads_neither_kafka_nor_the_store(tmp_path: Path) -> None:
    script = (
        "import sys; import ftjm.cli; "
        "print([m for m in ('confluent_kafka', 'rocksdict', 'pydantic', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_an_error_is_one_sentence() -> None:
    assert str(FtjmError("a cat", "a dog", "get a cat")) == "expected a cat, but found a dog; get a cat"


def test_client_settings_are_given_as_flags() -> None:
    assert options.kafka_settings(["a.b=c=d", "kafka.e=f"]) == {"a.b": "c=d", "e": "f"}
    with pytest.raises(UsageError, match="-X a"):
        options.kafka_settings(["a"])


ROWS: list[dict[str, Any]] = [{"name": "a[b]", "n": 1, "labels": {"k": "v"}}, {"name": "é", "n": None, "labels": {}}]


def test_rows_are_printed_as_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(ROWS, Output.json)
    assert json.loads(capsys.readouterr().out) == ROWS
    output.emit(ROWS, Output.yaml)
    assert yaml.safe_load(capsys.readouterr().out) == ROWS
    output.emit(ROWS, Output.table, columns=["name", "labels"])
    table = capsys.readouterr().out
    assert "NAME" in table
    assert "a[b]" in table
    assert '{"k": "v"}' in table
    assert "\n1" not in table


def test_a_stream_is_printed_as_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    for row in ROWS:
        output.emit_line(row, Output.json, str(row["name"]))
        output.emit_line(row, Output.table, str(row["name"]))
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[0]) == ROWS[0]
    assert lines[1] == "a[b]"

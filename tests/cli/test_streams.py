"""Closed and full streams, and what a process says when it cannot say it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ftjm import cli
from ftjm.cli import streams
from ftjm.runtime.errors import FtjmError
from tests.cli.test_fuzz import terminal


def ftjm(tmp_path: Path, arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "XDG_DATA_HOME": str(tmp_path)}
    command = f"exec {sys.executable} -m ftjm {arguments}"
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, cwd=tmp_path, env={**known, **environment}, timeout=60, check=False
    )


def test_a_full_standard_output_is_an_error_in_words(tmp_path):
    done = ftjm(tmp_path, "--version >/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: expected files and devices to work\n       found [Errno 28] No space left")
    assert done.stderr.count(b"\n") == 3


@pytest.mark.parametrize("stream", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_closed_streams_do_not_matter(tmp_path, stream):
    done = ftjm(tmp_path, f"--version {stream}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_ends_with_its_status_where_nobody_can_read_it(tmp_path):
    assert ftjm(tmp_path, "submit 2>/dev/full").returncode == 2


def test_letters_that_the_terminal_lacks_are_escaped(tmp_path):
    done = ftjm(tmp_path, "get 🎉", PYTHONIOENCODING="latin-1")
    assert done.returncode == 2
    assert b"the job id is '\\U0001f389'" in done.stderr


def test_an_error_that_no_verb_describes_keeps_its_traceback_in_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail() -> None:
        raise KeyError("x")

    monkeypatch.setattr(cli, "app", lambda _: fail())
    with terminal(b"") as (_, err):
        assert cli.run([]) == 1
    [file] = tmp_path.glob("ftjm-fault-*.txt")
    assert "KeyError: 'x'" in file.read_text()
    assert err.getvalue().decode().splitlines() == [
        "error: expected no fault in ftjm",
        "       found KeyError: 'x'",
        f"       to do: report it, with what you typed and the file {file}",
    ]


def test_an_error_is_described_by_its_kind(monkeypatch):
    from ftjm.adapters.kafka.errors import LogRefused

    for error, status, text in (
        (LogRefused("no such setting"), 1, b"expected Kafka to do what was asked"),
        (PermissionError(13, "Permission denied"), 1, b"found [Errno 13] Permission denied"),
        (FtjmError("a", "b", "c"), 1, b"error: expected a\n       found b\n       to do: c\n"),
        (KeyboardInterrupt(), 130, b""),
    ):

        def fail(_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(cli, "app", fail)
        with terminal(b"") as (_, err):
            assert cli.run([]) == status
        assert text in err.getvalue()


def test_what_cannot_be_flushed_is_dropped(tmp_path):
    with Path("/dev/full").open("w") as full:
        full.write("x")
        assert isinstance(streams.flush(full), OSError)
        assert streams.flush(full) is None


def test_ctrl_c_ends_a_process_that_waits_in_a_library(tmp_path):
    """As librdkafka does: a call that does not return when a signal arrives. Here, a mutex is locked twice."""
    program = (
        "import ctypes\n"
        "from ftjm.cli import interrupts\n"
        "interrupts.end_soon()\n"
        "libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)\n"
        "libc.pthread_mutex_lock(mutex)\n"
        "while True:\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        libc.pthread_mutex_lock(mutex)\n"
        "    except KeyboardInterrupt: pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


def test_ctrl_c_while_the_command_line_is_imported_shows_no_traceback():
    program = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'ftjm.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "import ftjm.__main__\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (-signal.SIGINT, b"")


def test_records_are_known_in_a_locale_without_utf_8(tmp_path):
    """A locale of ASCII, as the variables ask for it. The schemas have other letters in their docs."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **locale}
    program = "from ftjm.adapters.avro import codec; from ftjm.core.records.commands import CancelJob; "
    program += "codec.encode(CancelJob(queue='q', job_id='a'))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=tmp_path, env=known, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")

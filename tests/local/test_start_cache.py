"""The start cache: when it is used, deleted and made. `integration/test_embedded.py` has real Java make it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ftjm.local import broker_settings
from ftjm.local.start_cache import REFUSED, StartCache


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A directory that looks like one of Java. Its program fails."""
    (tmp_path / "java" / "lib").mkdir(parents=True)
    (tmp_path / "java" / "lib" / "modules").write_text("modules")
    (tmp_path / "java" / "release").write_text('JAVA_VERSION="25"')
    (tmp_path / "java" / "bin").mkdir()
    program = tmp_path / "java" / "bin" / "java"
    program.write_text("#!/bin/sh\necho no Java here\nexit 1\n")
    program.chmod(0o755)
    (tmp_path / "one.jar").write_text("one")
    return tmp_path


def cache(runtime: Path) -> StartCache:
    return StartCache(runtime / "java" / "bin" / "java", [runtime / "one.jar"], runtime / "start")


def until_made(one: StartCache, seconds: float) -> None:
    """Begin to make the file, and wait until its thread has ended."""
    one.begin_making()
    thread = one.thread
    assert thread is not None
    thread.join(seconds)
    assert not thread.is_alive()


def test_java_gets_the_file_only_if_it_is_there(runtime: Path) -> None:
    one = cache(runtime)
    without = one.java().arguments
    assert not [option for option in without if "AOT" in str(option)]
    one.path.parent.mkdir()
    one.path.write_text("cache")
    options = [option for option in one.java().arguments if option not in without]
    assert options == [f"-XX:AOTCache={one.path}", "-XX:+VerifySharedSpaces"]


def test_another_java_other_options_and_other_jars_have_another_file(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [cache(runtime).path]
    (runtime / "java" / "release").write_text('JAVA_VERSION="26"')
    names.append(cache(runtime).path)
    (runtime / "one.jar").write_text("another")
    names.append(cache(runtime).path)
    os.utime(runtime / "one.jar", (1, 1))
    names.append(cache(runtime).path)
    monkeypatch.setattr(broker_settings, "JAVA_OPTIONS", ("-Xmx1g",))
    names.append(cache(runtime).path)
    assert len(set(names)) == 5
    assert cache(runtime).path == names[-1]


@pytest.mark.parametrize("output", [f"[error][aot] {REFUSED}", "# A fatal error has been detected by the Java Runtime"])
def test_a_file_that_java_refused_is_deleted(runtime: Path, output: str) -> None:
    one = cache(runtime)
    one.path.parent.mkdir()
    one.path.write_text("cache")
    one.note_output("WARNING: something else")
    assert one.path.exists()
    one.note_output(output)
    assert not one.path.exists()


def test_while_another_process_makes_the_file_nothing_is_done(runtime: Path) -> None:
    (runtime / "start").mkdir()
    with (runtime / "start" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = cache(runtime)
        until_made(one, 10)
        one.stop()
    assert [path.name for path in (runtime / "start").iterdir()] == [".lock"]


def test_a_java_that_fails_leaves_no_file(runtime: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (runtime / "start" / ".making-killed").mkdir(parents=True)
    one = cache(runtime)
    until_made(one, 20)
    assert [path.name for path in (runtime / "start").iterdir()] == [".lock"]
    logged = "".join(capfd.readouterr())
    assert "start_cache_failed" in logged
    assert "no Java here" in logged

"""What jobs leave in their files is read within bounds, and never raises: it is content, or a fault in words."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftjm.core.json_values import DEPTH_MAX
from ftjm.core.limits import CHECKPOINT_BYTES_MAX
from ftjm.worker.attempts.attempt_files import (
    CHECKPOINT,
    PROGRESS,
    PROGRESS_BYTES_MAX,
    RESULT,
    Found,
    Look,
    check_json,
    look,
    make,
)

LIMIT = 4096
LIMITS = {RESULT: LIMIT, CHECKPOINT: CHECKPOINT_BYTES_MAX, PROGRESS: PROGRESS_BYTES_MAX}
VARIABLES = {RESULT: "FTJM_RESULT_FILE", CHECKPOINT: "FTJM_CHECKPOINT_FILE", PROGRESS: "FTJM_PROGRESS_FILE"}
NAMES = pytest.mark.parametrize("name", list(LIMITS))


def found_in(directory: Path, *, ended: bool = True) -> Found:
    return look(Look(directory=str(directory), ended=ended, result_limit=LIMIT if ended else -1))


def fault(found: Found, name: str) -> str:
    """The one thing that is wrong with this file; the others have nothing wrong."""
    [text] = [*found.faults, *([found.refusal] if found.refusal else [])]
    assert text.startswith(f"{VARIABLES[name]}: expected ")
    assert (found.result, found.checkpoint, found.text, found.progress) == (b"", b"", "", -1)
    return text


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@NAMES
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'"\xff"', "it is not UTF-8: byte 0xff at 1"),
        (b'{"text": "caf\xe9"}', "it is not UTF-8: byte 0xe9"),
        (b"\xff\xfe[\x00]\x00", "it is not UTF-8"),
        (nested(DEPTH_MAX + 1), f"deeper than {DEPTH_MAX} levels"),
        (nested(2_000), f"deeper than {DEPTH_MAX} levels"),
        (b"[" * 4_000, f"deeper than {DEPTH_MAX} levels"),
        (b"9" * 4_000 + b"x", "it is not JSON"),
        (b"1e99999", "it is not JSON"),
        (b'"\\ud800"', "it is not JSON"),
        (b"NaN", "it is not JSON"),
        (b'{"half":', "it is not JSON"),
    ],
)
def test_content_that_is_no_json_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert what in fault(found_in(tmp_path), name)


@NAMES
def test_content_that_is_too_large_is_named_with_its_size(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b" " * (LIMITS[name] + 1))
    text = fault(found_in(tmp_path), name)
    assert f"at most {LIMITS[name]} bytes" in text
    assert f"but found {LIMITS[name] + 1}" in text


def _symlink(path: Path) -> None:
    path.with_suffix(".target").write_text("7")
    path.symlink_to(path.with_suffix(".target"))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(path.parent, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


@NAMES
@pytest.mark.parametrize(
    ("put", "what"),
    [
        (os.mkfifo, "a named pipe"),
        (Path.mkdir, "a directory"),
        (_symlink, "a symbolic link"),
        (lambda path: path.symlink_to("/dev/zero"), "a symbolic link"),
        (_socket, "a socket"),
    ],
)
def test_what_is_no_regular_file_is_named(tmp_path: Path, name: str, put: Callable[[Path], object], what: str) -> None:
    put(tmp_path / name)
    assert f"it is {what}, not a regular file" in fault(found_in(tmp_path), name)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"progress": 2}', "its progress is 2"),
        (b'{"progress": -5e300}', "its progress is -5e+300"),
        (b'{"progress": "half"}', "it is something else"),
        (b'{"progress": ' + b"9" * 5_000 + b"}", "it is"),
        (b"[]", "it is something else"),
        (b"7", "it is something else"),
    ],
)
def test_what_is_no_progress_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / PROGRESS).write_bytes(content)
    assert what in fault(found_in(tmp_path), PROGRESS)


def test_good_content_is_found(tmp_path: Path) -> None:
    (tmp_path / RESULT).write_bytes(nested(DEPTH_MAX))
    (tmp_path / CHECKPOINT).write_bytes(b"[1]")
    (tmp_path / PROGRESS).write_bytes(msgspec.json.encode({"progress": 0.5, "text": "é" * 2_000, "note": 1}))
    found = found_in(tmp_path)
    assert (found.result, found.checkpoint, found.progress) == (nested(DEPTH_MAX), b"[1]", 0.5)
    assert (found.text, found.faults, found.refusal) == ("é" * 1_000, [], "")
    assert found_in(tmp_path / "none") == Found(0)


def test_empty_files_are_no_content(tmp_path: Path) -> None:
    for name in LIMITS:
        (tmp_path / name).write_bytes(b" \n")
    found = found_in(tmp_path)
    assert (found.result, found.checkpoint, found.progress, found.faults, found.refusal) == (b"", b"", -1, [], "")


def test_what_has_not_changed_is_not_found_again(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"1")
    first = found_in(tmp_path, ended=False)
    again = look(Look(directory=str(tmp_path), seen=first.seen))
    assert (first.checkpoint, again.checkpoint, again.seen) == (b"1", b"", first.seen)
    (tmp_path / CHECKPOINT).write_bytes(b"22")
    assert look(Look(directory=str(tmp_path), seen=first.seen)).checkpoint == b"22"


def test_a_file_that_may_be_half_written_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b'{"half":')
    young = found_in(tmp_path, ended=False)
    assert (young.faults, young.seen) == ([], {})
    os.utime(tmp_path / CHECKPOINT, (1, 1))
    old = found_in(tmp_path, ended=False)
    assert ("it is not JSON" in fault(old, CHECKPOINT), list(old.seen)) == (True, [CHECKPOINT])


def test_an_attempts_directory_is_made_and_cleaned_or_removed(tmp_path: Path) -> None:
    directory = tmp_path / "guard-1" / "1"
    make(directory, work=True, checkpoint=b"1")
    assert (directory / "last-checkpoint.json").read_bytes() == b"1"
    found = found_in(directory)
    assert (found.clean, found.scratch) == (True, "")
    assert [path.name for path in directory.rglob("*")] == ["work"]
    (directory / "work").rmdir()
    found = found_in(directory)
    assert (found.clean, found.scratch, directory.exists()) == (False, "", False)
    make(directory, work=True, checkpoint=b"")
    (directory / "work" / "left").touch()
    assert found_in(directory).scratch == str(directory)
    (tmp_path / "link").symlink_to(directory)
    assert "its own directory" not in found_in(directory).faults
    [text] = found_in(tmp_path / "link").faults
    assert "expected the attempt's own directory" in text


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.sampled_from(sorted(LIMITS)), content=st.data())
def test_any_bytes_are_content_or_a_fault(tmp_path: Path, name: str, content: st.DataObject) -> None:
    data = content.draw(
        st.one_of(
            st.binary(max_size=200),
            st.text(alphabet='[]{}",:0123456789.eE+-\\u truefalsn', max_size=80).map(str.encode),
            st.recursive(
                st.one_of(st.none(), st.integers(), st.text()),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=8,
            )
            .map(msgspec.json.encode)
            .flatmap(lambda encoded: st.tuples(st.just(encoded), st.integers(0, len(encoded)), st.binary(max_size=3)))
            .map(lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] :]),
            st.integers(1, 3_000).map(nested),
            st.integers(1, LIMIT * 3).map(lambda size: b"1" * size),
        )
    )
    directory = tmp_path / "attempt"
    directory.mkdir()
    (directory / name).write_bytes(data)
    found = found_in(directory)
    msgspec.msgpack.encode(found)
    if found.faults or found.refusal:
        fault(found, name)
    else:
        kept = found.result or found.checkpoint
        assert kept in (b"", data)
        assert name == PROGRESS or kept or not data.strip()
        if kept:
            check_json(kept)

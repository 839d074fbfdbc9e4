"""Tasks, requests, and what may travel."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys

import msgspec
import pytest

import ftjm
from ftjm.sdk import plain
from ftjm.sdk.tasks import TASKS
from tests.sdk.app import resize


def test_a_call_is_a_request_and_nothing_happens():
    request = resize("a.png", width=200)
    job = request.job({"priority": 7, "job_id": "a"})
    assert (job.queue, job.job_id, job.spec.priority) == ("thumbnails", "a", 7)
    assert (job.spec.executor, job.spec.command) == ("python", ["tests.sdk.app.resize"])
    assert msgspec.json.decode(job.spec.payload) == {"args": ["a.png"], "kwargs": {"width": 200}}
    assert (job.spec.max_attempts, job.spec.timeout_ms) == (3, 120_000)


def test_run_calls_it_here_and_now():
    assert resize.run("a.png", width=2) == {"path": "a.png", "width": 2}
    assert resize.__name__ == "resize"
    assert repr(resize) == "<task tests.sdk.app.resize>"


def test_a_wrong_call_is_told_where_it_is_made():
    with pytest.raises(TypeError, match=r"width: int = 100.*'widht'"):
        resize("a", widht=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"tests\.sdk\.app\.resize\['args'\]\[0\]: .* found date; pass its .isoformat"):
        resize(dt.date(2030, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(ftjm.InvalidJobError, match="put the data elsewhere"):
        resize("x" * 300_000)


@pytest.mark.parametrize(
    "value", [None, True, 0, -(1 << 63), (1 << 64) - 1, 0.5, "ü", [], {}, [{"a": [1, [None]]}], {"": 1}]
)
def test_what_json_holds_comes_back_as_it_was(value):
    assert plain.decode(plain.encode(value, "it")) == value


def test_a_tuple_arrives_as_a_list():
    assert plain.decode(plain.encode({"a": (1, (2,))}, "it")) == {"a": [1, [2]]}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "finite"),
        (math.inf, "finite"),
        (1 << 64, "64 bits"),
        (b"x", "found bytes; pass text"),
        ({1}, "found set; pass a sorted list"),
        ({1: 2}, "text as keys"),
        ({"a": [0, {"b": object()}]}, r"it\['a'\]\[1\]\['b'\]: .* found object"),
        ("\ud800", "UTF-8"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_its_place(value, says):
    with pytest.raises(TypeError, match=says):
        plain.encode(value, "it")


def test_what_has_no_end_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="levels"):
        plain.encode(endless, "it")


def test_wrong_options_are_told_where_they_are_written():
    with pytest.raises(ftjm.InvalidJobError, match="timeout"):
        ftjm.task(timeout="soon", name="wrong")(print)
    with pytest.raises(ftjm.InvalidJobError, match="did you mean priority"):
        ftjm.command(["true"], prioriti=3)  # type: ignore[call-arg]
    with pytest.raises(ftjm.InvalidJobError):
        ftjm.command([])


def test_commands():
    request = ftjm.command("convert 'a b.png' out.png", payload={"x": 1}, queue="q", labels={"team": "web"})
    job = request.job()
    assert (job.queue, job.spec.executor, job.spec.command) == ("q", "command", ["convert", "a b.png", "out.png"])
    assert (job.spec.payload, job.spec.labels, job.spec.max_attempts) == (b'{"x":1}', {"team": "web"}, 1)
    assert ftjm.command(["true"]).job().spec.payload == b""


def test_what_cannot_be_a_task():
    async def later() -> None: ...

    with pytest.raises(TypeError, match=r"asyncio\.run"):
        ftjm.task(later)

    def one() -> None: ...

    def two() -> None: ...

    ftjm.task(name="the same")(one)
    ftjm.task(name="the same")(one)
    with pytest.raises(ValueError, match="give one of them another"):
        ftjm.task(name="the same")(two)
    with pytest.raises(ValueError, match="name"):
        ftjm.task(name="a\nb")(one)
    del TASKS["the same"]


def test_a_program_that_is_run_names_its_tasks_as_others_import_it(tmp_path):
    (tmp_path / "shop.py").write_text("import ftjm\n@ftjm.task\ndef add() -> None: ...\nprint(add.name)\n")
    for arguments in (["shop.py"], ["-m", "shop"]):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "shop.add\n"


def test_importing_is_cheap():
    heavy = ("confluent_kafka", "pydantic", "rocksdict")
    code = f"import sys, ftjm; ftjm.attempt; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "task" in dir(ftjm)
    assert all(getattr(ftjm, name) is not None for name in ftjm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ftjm.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_outside_of_an_attempt_nothing_is_said(monkeypatch):
    here = ftjm.attempt()
    assert (here.is_local, here.attempt, here.checkpoint) == (True, 1, None)
    ftjm.checkpoint([1])
    ftjm.progress(0.5)
    with pytest.raises(ValueError, match="0 to 1"):
        ftjm.progress(50)
    with pytest.raises(ValueError, match="65536"):
        ftjm.checkpoint("x" * 70_000)
    with pytest.raises(TypeError):
        ftjm.checkpoint({1})

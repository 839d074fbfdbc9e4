"""Tasks, and requests that are made of calls."""

from __future__ import annotations

import datetime as dt
import functools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ftjm
import ftjm.testing
from ftjm.sdk.tasks import TASKS
from tests.sdk.app import resize


def test_a_call_of_a_task_only_returns_a_request():
    request = resize("a.png", width=200)
    job = request.job({"priority": 7, "job_id": "a", "concurrency_key": "k"})
    assert (job.queue, job.job_id, job.spec.priority, job.spec.concurrency_key) == ("thumbnails", "a", 7, "k")
    assert (job.spec.executor, job.spec.command) == ("python", ["tests.sdk.app.resize"])
    assert msgspec.json.decode(job.spec.payload) == {"args": ["a.png"], "kwargs": {"width": 200}}
    assert (job.spec.max_attempts, job.spec.timeout_ms) == (3, 120_000)


def test_run_calls_the_function_in_this_process():
    assert resize.run("a.png", width=2) == {"path": "a.png", "width": 2}
    assert resize.__name__ == "resize"
    assert repr(resize) == "<task tests.sdk.app.resize>"


def test_a_call_with_wrong_arguments_raises_at_once():
    with pytest.raises(TypeError, match=r"width: int = 100.*'widht'"):
        resize("a", widht=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"tests\.sdk\.app\.resize\['args'\]\[0\]: .* found date; pass its .isoformat"):
        resize(dt.date(2030, 1, 1))  # type: ignore[arg-type]
    with pytest.raises(ftjm.InvalidJobError, match="put the data elsewhere"):
        resize("x" * 300_000)


def test_wrong_options_raise_where_the_task_is_defined():
    with pytest.raises(ftjm.InvalidJobError, match="timeout"):
        ftjm.task(timeout="soon", name="wrong")(print)
    with pytest.raises(ftjm.InvalidJobError, match="did you mean priority"):
        ftjm.command(["true"], prioriti=3)  # type: ignore[call-arg]
    with pytest.raises(ftjm.InvalidJobError):
        ftjm.command([])


def test_requests_for_commands_are_checked():
    request = ftjm.command("convert 'a b.png' out.png", payload={"x": 1}, queue="q", labels={"team": "web"})
    job = request.job()
    assert (job.queue, job.spec.executor, job.spec.command) == ("q", "command", ["convert", "a b.png", "out.png"])
    assert (job.spec.payload, job.spec.labels, job.spec.max_attempts) == (b'{"x":1}', {"team": "web"}, 1)
    assert ftjm.command(["true"]).job().spec.payload == b""


class Callable:
    def __call__(self) -> None: ...


class AsyncCallable:
    async def __call__(self) -> None: ...


async def later() -> None: ...


async def later_ones() -> AsyncIterator[int]:
    yield 1


def ones() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (later, "found function: <function later .*; write a function that calls it with asyncio.run"),
        (later_ones, "found function: <function later_ones .*; write a function that returns a list"),
        (ones, "write a function that returns a list"),
        (functools.partial(print), "found partial: .*; write `def` of a function that calls it"),
        (functools.partial(later), "asyncio.run"),
        (Callable(), "found Callable: .*; write `def`"),
        (AsyncCallable(), "found AsyncCallable: .*; write `def`"),
        (Callable, "found type: .*; write `def`"),
        ("name", "found str: 'name'; write `def`"),
        (max, "its parameters are not known"),
    ],
)
def test_what_cannot_be_a_task_is_refused_where_it_is_written(function, words):
    with pytest.raises(TypeError, match=f"expected a plain function as a task, but .*{words}"):
        ftjm.task(function)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (b"echo x", "a text or a list of texts as the command, but found bytes: b'echo x'"),
        (bytearray(b"x"), "but found bytearray"),
        (None, "but found NoneType: None"),
        (5, "but found int: 5"),
        ({"echo": 1}, "but found dict"),
        ({"echo"}, "but found set"),
        (resize, "but found Task: <task tests.sdk.app.resize>"),
        (["echo", b"x"], "text as word 1 of the command, but found bytes: b'x'"),
        (["echo", None], "text as word 1 of the command, but found NoneType"),
        (["echo", True], "text as word 1 of the command, but found bool"),
        (["echo", ["x"]], "text as word 1 of the command, but found list"),
        ([Path("a"), os.fsencode("b")], "text as word 1"),
    ],
)
def test_what_is_no_command_is_refused_where_it_is_written(command, words):
    with pytest.raises(TypeError, match=f"expected .*{words}"):
        ftjm.command(command)


def test_a_command_may_hold_numbers_and_paths():
    assert ftjm.command(["sleep", 1, 0.5, Path("a")]).command == ("sleep", "1", "0.5", "a")  # type: ignore[list-item]
    with pytest.raises(ftjm.InvalidJobError, match="No closing quotation"):
        ftjm.command("echo 'x")


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no words")


def test_what_is_no_request_is_refused_where_it_is_submitted():
    with ftjm.testing.Cluster(app=["tests.sdk.app"]) as cluster:
        submit: Any = cluster.client.submit
        with pytest.raises(
            TypeError, match=r"<task tests.sdk.app.resize>, which is not called; submit .*resize\(...\)"
        ):
            submit(resize)
        for value, words in (
            (print, "builtin_function"),
            (Unprintable(), "found Unprintable$"),
            ("echo", "str: 'echo'"),
        ):
            with pytest.raises(TypeError, match=rf"expected a call of a task, or ftjm.command\(...\), but .*{words}"):
                submit(value)
        many: Any = cluster.client.submit_many
        for wrong in ([resize], [("a", resize)], [("a", "b", "c")]):
            with pytest.raises(TypeError, match="expected a"):
                many(wrong)
        with pytest.raises(TypeError, match="expected requests, or pairs"):
            many(resize("a"))
        job: Any = cluster.client.job
        with pytest.raises(TypeError, match="expected a job's name as text, but found bytes"):
            job(b"a")


def test_numbers_of_any_length_are_refused_in_words():
    for value in (10**400, 10**5_000):
        with pytest.raises(TypeError, match=r"\['args'\]\[0\]: expected a whole number of 64 bits"):
            resize(value)  # type: ignore[arg-type]


def test_tasks_of_one_name_are_refused():

    def one() -> None: ...

    def two() -> None: ...

    ftjm.task(name="the same")(one)
    ftjm.task(name="the same")(one)
    with pytest.raises(ValueError, match="give one of them another"):
        ftjm.task(name="the same")(two)
    with pytest.raises(ValueError, match="name"):
        ftjm.task(name="a\nb")(one)
    del TASKS["the same"]


def test_tasks_of_a_main_program_have_their_import_name(tmp_path):
    (tmp_path / "shop.py").write_text("import ftjm\n@ftjm.task\ndef add() -> None: ...\nprint(add.name)\n")
    for arguments in (["shop.py"], ["-m", "shop"]):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout == "shop.add\n"


def test_importing_ftjm_loads_no_heavy_modules():
    heavy = ("confluent_kafka", "pydantic", "rocksdict")
    code = f"import sys, ftjm; ftjm.attempt; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "task" in dir(ftjm)
    assert all(getattr(ftjm, name) is not None for name in ftjm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ftjm.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_outside_of_an_attempt_checkpoints_have_no_effect(monkeypatch):
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


def test_options_that_were_right_once_make_no_others_right():
    assert ftjm.command(["true"], priority=1).job().spec.priority == 1
    with pytest.raises(ftjm.InvalidJobError, match="priority"):
        ftjm.command(["true"], priority=True)
    assert ftjm.command(["true"], hold=True).job().spec.held
    with pytest.raises(ftjm.InvalidJobError, match="hold"):
        ftjm.command(["true"], hold=1)  # type: ignore[arg-type]


def test_each_job_has_its_own_id_and_payload():
    first, second = (ftjm.command(["cat"], payload=text) for text in "ab")
    jobs = [first.job({"job_id": "one"}), first.job(), second.job({"job_id": "two"}), second.job({"job_id": None})]
    assert [job.job_id for job in jobs] == ["one", "", "two", ""]
    assert [job.spec.payload for job in jobs] == [b'"a"', b'"a"', b'"b"', b'"b"']
    assert jobs[0].spec.command == jobs[3].spec.command == ["cat"]
    for bad in ("no name", 7):
        with pytest.raises(ftjm.InvalidJobError, match="job_id"):
            first.job({"job_id": bad})

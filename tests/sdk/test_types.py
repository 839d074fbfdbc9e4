"""A user's type checker sees a task's parameters and its result, through the decorator and the handle."""

from __future__ import annotations

import re
import sys

from mypy import api

from tests.tidy.source import ROOT

PROGRAM = """
from typing import Any
import ftjm

@ftjm.task(queue="thumbnails", max_attempts=3, timeout="2m")
def resize(path: str, width: int) -> dict[str, int]:
    return {path: width}

@ftjm.task
def double(number: int) -> int:
    return 2 * number

with ftjm.Client() as client:
    handle = client.submit(resize("a.png", width=200), priority=7, job_id="a")
    reveal_type(handle)  # R: Handle[dict[str, int]]
    reveal_type(handle.result(timeout=30))  # R: dict[str, int]
    reveal_type(double(2))  # R: Request[int]
    reveal_type(double.run(2))  # R: int
    reveal_type(client.submit_many([double(1), double(2)])[0].result())  # R: int
    reveal_type(client.submit(ftjm.command(["true"])).result())  # R: Any
    reveal_type(handle.state())  # R: str
    resize("a.png")  # E: call-arg
    resize("a.png", width="wide")  # E: arg-type
    resize.run(1, 2)  # E: arg-type
    double(number=1, other=2)  # E: call-arg
    client.submit(double(1), priority="high")  # E: arg-type
    client.submit(double(1), prioriti=7)  # E: call-arg
    client.submit(double)  # E: arg-type
    text: str = client.submit(double(1)).result()  # E: assignment

@ftjm.task(timeout=2)  # E: call-overload
def wrong() -> None: ...
"""


def test_the_type_checker_sees_tasks(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    options = ["--strict", "--no-error-summary", "--follow-imports=silent", f"--python-executable={sys.executable}"]
    out, errors, _ = api.run([*options, "--cache-dir", str(tmp_path / "cache"), "--config-file=", str(program)])
    assert not errors, errors
    messages: dict[int, str] = {}
    for line in out.splitlines():
        if found := re.match(r"[^:]+:(\d+): (?:error|note): (.*)", line):
            messages[int(found[1])] = messages.get(int(found[1]), "") + found[2] + "\n"
    for number, line in enumerate(PROGRAM.splitlines(), 1):
        message = messages.pop(number, "")
        expected = re.search(r"# ([RE]): (.*)", line)
        if expected is None:
            assert not message, f"{line}: {message}"
        elif expected[1] == "R":
            shown = re.sub(r"(?:builtins|ftjm\.[a-z.]+)\.", "", message)
            assert f'Revealed type is "{expected[2]}"' in shown, f"{line}: {message}"
        else:
            assert f"[{expected[2]}]" in message, f"{line}: {message!r}"
    assert not messages

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ftjm.adapters.kafka import patience
from ftjm.cli import answers, app
from ftjm.client import answers as client_answers
from ftjm.client import command_client
from ftjm.history.trimmed import WholeLog
from tests.cli.cluster import Cluster, FakeOutlet, FakeReader, FakeScan

RAW = {"record", "value", "payload", "args", "kwargs", "result", "checkpoint", "env", "log", "found"}
"""Fields with values of users, and with records and rows as they are."""
ALWAYS_THERE = {"stdout", "stderr"}


def printed(text: str) -> list[Any]:
    """The documents that a verb printed as JSON: one, or one a line; none if it printed something else."""
    for texts in ([text], text.splitlines()):
        try:
            return [json.loads(each) for each in texts]
        except ValueError:
            continue
    return []


def without_value(document: Any, path: str = "") -> Iterator[str]:
    """The paths of all fields that hold no value."""
    if document is None or document == "":
        yield path
    elif isinstance(document, list):
        for each in document:
            yield from without_value(each, path)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name not in ALWAYS_THERE and (name not in RAW or value in (None, "")):
                yield from without_value(value, f"{path}.{name}")


@pytest.fixture
def cluster(monkeypatch, tmp_path) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(command_client, "ConfirmingProducer", lambda *_, **__: FakeOutlet(made))
    monkeypatch.setattr(client_answers, "LaneReader", lambda *_: FakeReader(made))
    monkeypatch.setattr(patience, "Scan", lambda _settings, topic, **_: FakeScan(made, topic))
    monkeypatch.setattr(WholeLog, "restore", lambda _log, number, path, _usable: made.restore(number, path) or None)
    monkeypatch.setattr(answers, "DECISION_SECONDS", 0.3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTJM_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("FTJM_DATA_DIR", str(tmp_path / "data"))
    return made


@pytest.fixture
def ftjm(cluster) -> Callable[..., Result]:
    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, input=stdin)
        for document in printed(result.stdout):
            assert not list(without_value(document)), f"fields without a value are left out: {document}"
        return result

    return run


@pytest.fixture
def ftjm_json(ftjm) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        result = ftjm(*arguments, "-o", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ftjm import client, jobhistory
from ftjm.cli import app, asking
from tests.cli.cluster import Cluster, FakeOutlet, FakeReader, FakeScan


@pytest.fixture
def cluster(monkeypatch, tmp_path) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(client, "Outlet", lambda *_, **__: FakeOutlet(made))
    monkeypatch.setattr(client, "LaneReader", lambda *_: FakeReader(made))
    monkeypatch.setattr(jobhistory, "Scan", lambda _settings, topic, **_: FakeScan(made, topic))
    monkeypatch.setattr(asking, "DECISION_SECONDS", 0.3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTJM_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("FTJM_DATA_DIR", str(tmp_path / "data"))
    return made


@pytest.fixture
def ftjm(cluster) -> Callable[..., Result]:
    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, arguments, input=stdin)

    return run


@pytest.fixture
def ftjm_json(ftjm) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        result = ftjm(*arguments, "-o", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run

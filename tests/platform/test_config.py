"""Settings: flags, then variables, then the file, then the endpoint of a running `up`, then defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftjm import config, endpoint
from ftjm.errors import FtjmError, UsageError


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FTJM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)


def _endpoint(**changed: object) -> endpoint.Endpoint:
    fields: dict[str, object] = {
        "bootstrap": "own:1",
        "cluster": "mine",
        "own_brokers": True,
        "partitions": 3,
        "lanes": 2,
        "lease_seconds": 5.0,
        "session_timeout_ms": 1500,
        "heartbeat_interval_ms": 100,
        "up_pid": os.getpid(),
    }
    return endpoint.Endpoint(**{**fields, **changed})  # type: ignore[arg-type]


def test_each_source_gives_way_to_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.write(config.default_data_dir(), _endpoint())
    assert config.load().bootstrap == "own:1"
    Path("ftjm.toml").write_text('bootstrap = "file:1"')
    assert config.load().bootstrap == "file:1"
    monkeypatch.setenv("FTJM_BOOTSTRAP", "variable:1")
    assert config.load().bootstrap == "variable:1"
    assert config.load(bootstrap="flag:1").bootstrap == "flag:1"
    assert config.load(bootstrap=None).bootstrap == "variable:1"


def test_the_endpoint_gives_what_belongs_to_its_cluster() -> None:
    endpoint.write(config.default_data_dir(), _endpoint())
    settings = config.load()
    assert (settings.cluster, settings.partitions, settings.lease_seconds) == ("mine", 3, 5.0)
    assert settings.own_brokers
    other = config.load(bootstrap="elsewhere:1")
    assert (other.cluster, other.partitions, other.lease_seconds, other.own_brokers) == ("ftjm", 16, 15.0, False)


def test_the_endpoint_is_that_of_the_chosen_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint.write(tmp_path / "there", _endpoint())
    assert config.load().bootstrap == ""
    assert config.load(data_dir=str(tmp_path / "there")).bootstrap == "own:1"
    monkeypatch.setenv("FTJM_DATA_DIR", str(tmp_path / "there"))
    assert config.load().bootstrap == "own:1"


def test_an_endpoint_whose_writer_is_gone_or_that_is_damaged_is_none(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = endpoint.write(tmp_path, _endpoint(up_pid=ended.pid))
    assert endpoint.read(tmp_path) is None
    path.write_text("{")
    assert endpoint.read(tmp_path) is None
    endpoint.remove(tmp_path)
    endpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_kafka_client_are_merged_name_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ftjm.toml").write_text('[kafka]\nsecurity.protocol = "PLAINTEXT"\n"sasl.username" = "file"\nlinger.ms = 5')
    monkeypatch.setenv("FTJM_KAFKA_SECURITY_PROTOCOL", "SSL")
    settings = config.load(bootstrap="b:1", kafka={"sasl.username": "flag"})
    assert settings.kafka == {"security.protocol": "SSL", "sasl.username": "flag", "linger.ms": 5}
    client = settings.kafka_settings("worker")
    assert client["bootstrap.servers"] == "b:1"
    assert client["client.id"] == "ftjm-worker"
    assert client["security.protocol"] == "SSL"


def test_the_environment_gives_a_child_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.load(bootstrap="b:1", partitions=3, replication_factor=2, kafka={"security.protocol": "SSL"})
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert config.load() == settings


def test_without_a_kafka_it_says_where_it_looked() -> None:
    with pytest.raises(FtjmError, match="ftjm up"):
        config.load().kafka_settings("client")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"partitions": 0}, "partitions"),
        ({"cluster": "a/b"}, "cluster"),
        ({"lease_seconds": 0.5}, "lease_seconds"),
        ({"log_format": "xml"}, "log_format"),
        ({"no_such_setting": 1}, "no_such_setting"),
        ({"session_timeout_ms": 500, "heartbeat_interval_ms": 400}, "heartbeat_interval_ms"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(flags: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as raised:
        config.load(**flags)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("content", ["partitions = ", "partitions = 'many'", "partition = 3"])
def test_a_file_that_cannot_be_used_is_refused(content: str) -> None:
    Path("ftjm.toml").write_text(content)
    with pytest.raises(UsageError, match=r"ftjm\.toml"):
        config.load()


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTJM_CONFIG", "absent.toml")
    with pytest.raises(UsageError, match=r"absent\.toml"):
        config.load()

"""Settings: flags, then variables, then the file, then the endpoint of a running `up`, then defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftjm.runtime import config, endpoint
from ftjm.runtime.errors import FtjmError, UsageError
from tests.runtime.endpoints import ENDPOINT


@pytest.fixture(autouse=True)
def without_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FTJM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)


def _endpoint(**changed: object) -> endpoint.Endpoint:
    return msgspec.structs.replace(ENDPOINT, **changed)


def test_a_source_of_settings_wins_over_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.write(endpoint.default_data_dir(), _endpoint())
    assert config.load().bootstrap == "own:1"
    Path("ftjm.toml").write_text('bootstrap = "file:1"')
    assert config.load().bootstrap == "file:1"
    monkeypatch.setenv("FTJM_BOOTSTRAP", "variable:1")
    assert config.load().bootstrap == "variable:1"
    assert config.load(bootstrap="flag:1").bootstrap == "flag:1"
    assert config.load(bootstrap=None).bootstrap == "variable:1"


def test_the_endpoint_file_gives_the_settings_of_its_cluster() -> None:
    endpoint.write(endpoint.default_data_dir(), _endpoint())
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


def test_an_endpoint_file_that_is_damaged_or_left_by_a_dead_process_is_ignored(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = endpoint.write(tmp_path, _endpoint(up_pid=ended.pid))
    assert endpoint.read(tmp_path) is None
    path.write_text("{")
    assert endpoint.read(tmp_path) is None
    endpoint.remove(tmp_path)
    endpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


SIGN_ON = {"security.protocol": "SASL_PLAINTEXT", "sasl.password": "secret"}
API = "http://127.0.0.1:8484"


@pytest.fixture(params=["default", "other"])
def up(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A running `up`, in the default data directory or in another one."""
    data_dir = endpoint.default_data_dir() if request.param == "default" else tmp_path / "other"
    found = _endpoint(bootstrap="127.0.0.1:1,127.0.0.1:2", api=API, token="t" * 40, kafka=SIGN_ON)
    endpoint.write(data_dir, found)
    endpoint.register(endpoint.default_data_dir(), data_dir)


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    "given",
    [
        {"bootstrap": "127.0.0.1:1,127.0.0.1:2"},
        {"bootstrap": "127.0.0.1:2"},
        {"bootstrap": "localhost:1"},
        {"api": API},
        {"api": "http://LOCALHOST:8484/"},
    ],
)
def test_an_address_of_a_running_up_is_enough_to_sign_in(given: dict[str, str]) -> None:
    settings = config.load(**given)
    assert (settings.kafka, settings.cluster, settings.partitions) == (SIGN_ON, "mine", 3)
    assert settings.api_token == "t" * 40


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("bootstrap", ["kafka-1:9092", "127.0.0.1:3", "127.0.0.1:1,elsewhere:1", "127.0.0.2:1", ""])
def test_other_brokers_do_not_get_the_password(bootstrap: str) -> None:
    settings = config.load(bootstrap=bootstrap)
    assert (settings.kafka, settings.api_token) == ({}, "")


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    "api",
    ["http://127.0.0.1:8485", "http://127.0.0.2:8484", "https://127.0.0.1:8484", "http://a.b:8484", "http://[", ""],
)
def test_another_api_does_not_get_the_token(api: str) -> None:
    assert config.load(api=api).api_token == ""


@pytest.mark.usefixtures("up")
def test_the_users_own_token_wins_and_no_child_inherits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTJM_API_TOKEN", "mine" * 9)
    settings = config.load(api=API)
    assert settings.api_token == "mine" * 9
    assert "mine" * 9 not in settings.environment().values()
    for shown in (repr(settings), str(settings), repr(_endpoint(token="mine" * 9, kafka={"sasl.password": "x" * 9}))):
        assert "mine" * 9 not in shown
        assert "secret" not in shown
        assert "x" * 9 not in shown


@pytest.mark.parametrize(
    "given",
    [
        {"kafka": {"Wrong.Name": "x", "sasl.password": "geheim"}},
        {"api_token": ["geheim"]},
        {"kafka": {"a": ["geheim"]}},
    ],
)
def test_a_refused_setting_shows_no_secret(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        config.load(**given)
    assert "geheim" not in str(refused.value) + refused.value.found


def test_an_up_that_has_ended_is_registered_no_more(tmp_path: Path) -> None:
    endpoint.write(tmp_path / "other", _endpoint())
    endpoint.register(endpoint.default_data_dir(), tmp_path / "other")
    assert config.load(bootstrap="own:1").cluster == "mine"
    endpoint.unregister(endpoint.default_data_dir(), tmp_path / "other")
    assert config.load(bootstrap="own:1").cluster == "ftjm"


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


def test_without_a_kafka_the_error_names_the_sources_of_settings() -> None:
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


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTJM_CONFIG", "absent.toml")
    with pytest.raises(UsageError, match=r"absent\.toml"):
        config.load()


@pytest.mark.parametrize(
    "content",
    [
        b'cluster = "caf\xe9"',
        'cluster = "a"'.encode("utf-16"),
        b"[" * 5_000,
        b"partitions = " + b"9" * 5_000,
        b"partitions",
        b"\0",
    ],
    ids=["latin-1", "utf-16", "deep", "long", "cut", "null"],
)
def test_a_settings_file_that_cannot_be_read_is_named(content: bytes) -> None:
    Path("ftjm.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"settings as TOML in ftjm\.toml") as caught:
        config.load()
    assert len(caught.value.found) <= 300


def test_a_byte_order_mark_before_settings_is_ignored() -> None:
    Path("ftjm.toml").write_bytes(b'\xef\xbb\xbfcluster = "mine"')
    assert config.load().cluster == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA", "{"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "nan"),
        ("RETENTION_SECONDS", "1e300"),
        ("PARTITIONS", "9" * 5_000),
        ("SESSION_TIMEOUT_MS", "9" * 30),
        ("METRICS_PORT", "65536"),
        ("CLUSTER", "caf\udce9"),
        ("DATA_DIR", "~nobody-of-this-name/x"),
    ],
)
def test_a_variable_that_cannot_be_used_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"FTJM_{name}", value)
    with pytest.raises(UsageError) as caught:
        config.load()
    assert len(caught.value.found) <= 500


@pytest.mark.parametrize(
    "name", ["error_cb", "stats_cb", "logger", "on_delivery", "default.topic.config", "a b", "A", ""]
)
def test_what_is_no_setting_of_the_kafka_client_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no setting of the Kafka client"):
        config.load(kafka={name: "x"})


def test_a_working_directory_that_was_deleted_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert config.load().cluster == "ftjm"
    with pytest.raises(UsageError, match="give an absolute path"):
        config.load(data_dir="data")

"""A real Kafka for the whole run, and a cluster of its own for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.config import Settings
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.ports import free_base_port
from integration.clusters import cluster_on
from integration.harness import Cluster

LONGEST = {f"test_{name}.py" for name in ("bench", "chaos", "demo", "openapi", "scheduler_outage")}
"""Files that take minutes. They are begun first, for several files run at a time: the last ones should be short."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what takes minutes")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with SIGINT ignored, and so would be all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "long: takes minutes; runs with --long only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: pytest integration --long"))


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables, nor `ftjm.toml`, nor a running `up` of whoever runs the tests is seen by them."""
    for name in list(os.environ):
        if name.startswith("FTJM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One broker, shared by all tests: do not stop it."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), 1, free_base_port()) as started:
        yield started


@pytest.fixture(scope="module")
def kafka3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Three brokers, shared by the tests of one file: whoever kills one starts it again."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka3"), 3, free_base_port()) as started:
        yield started


@pytest.fixture
def cluster(kafka: EmbeddedKafka, tmp_path: Path) -> Settings:
    """A cluster that no other test has: settings to connect with, topics created (4 partitions, 2 lanes)."""
    return cluster_on(kafka, tmp_path / "data")


@pytest.fixture
def cluster3(kafka3: EmbeddedKafka, tmp_path: Path) -> Settings:
    """The same, on three brokers."""
    return cluster_on(kafka3, tmp_path / "data")


@pytest.fixture
def running(cluster: Settings, tmp_path: Path) -> Iterator[Cluster]:
    """The same, with processes, of which none has been started yet."""
    with Cluster(cluster, tmp_path) as processes:
        yield processes

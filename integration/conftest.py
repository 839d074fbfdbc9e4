"""Fixtures: a real Kafka for the whole run, and a new cluster for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.local import kafka as embedded
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from ftjm.runtime.config import Settings
from integration.clusters import cluster_on
from integration.harness import Cluster

COMPUTING = ("openapi", "chaos", "bench", "scheduler_outage", "upgrade", "demo", "scheduler_failover", "power_loss")
WAITING = ("worker_deaths", "worker_cuts")
LONGEST = [f"test_{name}.py" for name in (*COMPUTING[:4], *WAITING, *COMPUTING[4:])]
"""Files that take minutes, the longest first. They are begun first, in this order: several files run at a time, and no
process should be left alone with a long one at the end. Those that mostly wait run beside those that compute."""


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with SIGINT ignored, and the processes of the tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    embedded.START_SECONDS_MAX = 400.0  # one start was seen to take 100 s, with several files at a time
    config.addinivalue_line("markers", "long: takes minutes; runs with --long only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: pytest integration --long"))


@pytest.fixture(autouse=True)
def hide_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the environment variables, the `ftjm.toml` and the running `ftjm up` of the user who runs the tests."""
    for name in list(os.environ):
        if name.startswith("FTJM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One broker for all tests. A test must not stop it."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), 1, free_base_port()) as started:
        yield started


@pytest.fixture(scope="module")
def kafka3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Three brokers for the tests of one file. A test that kills a broker must start it again."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka3"), 3, free_base_port()) as started:
        yield started


@pytest.fixture
def cluster(kafka: EmbeddedKafka, tmp_path: Path) -> Settings:
    """Settings of a new cluster whose topics exist (4 partitions, 2 lanes)."""
    return cluster_on(kafka, tmp_path / "data")


@pytest.fixture
def cluster3(kafka3: EmbeddedKafka, tmp_path: Path) -> Settings:
    """Settings of a new cluster on three brokers."""
    return cluster_on(kafka3, tmp_path / "data")


@pytest.fixture
def running(cluster: Settings, tmp_path: Path) -> Iterator[Cluster]:
    """A new cluster without any process yet."""
    with Cluster(cluster, tmp_path) as processes:
        yield processes

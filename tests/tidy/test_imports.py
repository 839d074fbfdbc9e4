"""Imports point inward: core, engine, adapters, roles, command line; and each technology lives in its own files."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from tests.tidy.source import PACKAGE, files, imports, name, top, within

STANDARD = sys.stdlib_module_names

TECHNOLOGIES = {
    "confluent_kafka": ("ftjm/adapters/kafka*.py", "ftjm/adapters/topics.py", "ftjm/embedded/kafka.py"),
    "rocksdict": ("ftjm/adapters/rocks.py",),
    "fastavro": ("ftjm/adapters/codec.py", "ftjm/adapters/archive.py"),
    "fsspec": ("ftjm/adapters/folder.py",),
    "prometheus_client": ("ftjm/metrics/*.py",),
}
"""Which files may make clients of a technology."""

BARE = {PACKAGE / "bench" / "bare.py", PACKAGE / "bench" / "report.py"}
"""The measure that the benchmark compares us with uses each technology without us, and the report tells versions."""

NO_CLIENTS = {f"confluent_kafka{name}" for name in ("", ".KafkaError", ".KafkaException", ".Message")}
MEETS_KAFKA = {
    "ftjm/api/service.py": "a read of the log that Kafka does not answer is a problem document",
    "ftjm/api/following.py": "a projection that Kafka does not answer is tried again",
    "ftjm/bench/soak.py": "a broker that a busy machine keeps from answering is waited for",
    "ftjm/chaos/run.py": "a broker that is just back is waited for",
    "ftjm/client.py": "delivery reports carry errors and offsets",
    "ftjm/scheduler/context.py": "delivery reports carry errors",
    "ftjm/scheduler/opening.py": "a log that Kafka does not give is not a log that lacks its beginning",
    "ftjm/patience.py": "tells what passes from what does not",
    "ftjm/scheduler/heartbeats.py": "what the lanes deliver, and when they do not",
    "ftjm/scheduler/process.py": "the composition root: a Kafka that does not answer yet is waited for",
    "ftjm/scheduler/runner.py": "a takeover that Kafka does not answer is tried again",
    "ftjm/transfer.py": "delivery reports carry errors: an import is whole or has failed",
    "ftjm/worker/kafka_wire.py": "the worker's side of the wire: delivery reports and dispatches",
}
"""Files that meet Kafka's messages and errors, and why; they make no client of their own."""


def outside(modules: Iterable[str], *allowed: str) -> set[str]:
    """Of imported modules, those that are neither the standard library's nor under one of `allowed`."""
    return {m for m in modules if top(m) not in STANDARD and not any(within(m, package) for package in allowed)}


@pytest.mark.parametrize("path", files("core"), ids=name)
def test_the_core_knows_the_standard_library_and_structs(path):
    assert not outside(imports(path), "ftjm.core", "msgspec")


@pytest.mark.parametrize("path", files("engine"), ids=name)
def test_the_engine_knows_the_core(path):
    assert not outside(imports(path), "ftjm.core", "ftjm.engine", "msgspec")


@pytest.mark.parametrize("path", files("checker"), ids=name)
def test_the_checker_knows_records_and_the_table_only(path):
    """What judges histories must not share code with what makes them."""
    found = outside(imports(path), "ftjm.checker", "msgspec")
    records = ("commands", "events", "messages", "model", "lifecycle")
    assert not {m for m in found if not any(within(m, f"ftjm.core.{part}") for part in records) and m != "ftjm.core"}


@pytest.mark.parametrize("path", files("adapters"), ids=name)
def test_adapters_know_nobody_who_uses_them(path):
    users = ("cli", "scheduler", "worker", "client", "up", "embedded")
    assert not {m for m in imports(path) for user in users if within(m, f"ftjm.{user}")}


@pytest.mark.parametrize("role", ["core", "engine", "adapters", "metrics", "scheduler", "worker", "embedded"])
def test_nothing_but_the_command_line_knows_the_command_line(role):
    assert not {(name(path), m) for path in files(role) for m in imports(path) if within(m, "ftjm.cli")}


@pytest.mark.parametrize("technology", TECHNOLOGIES)
def test_each_technology_lives_in_its_own_files(technology):
    homes = {path for pattern in TECHNOLOGIES[technology] for path in PACKAGE.parent.glob(pattern)}
    assert homes
    for path in set(files()) - homes - BARE:
        used = {m for m in imports(path) if within(m, technology)}
        assert used <= (NO_CLIENTS if name(path) in MEETS_KAFKA else set()), name(path)


def test_the_exceptions_are_needed():
    for stem in MEETS_KAFKA:
        assert any(within(m, "confluent_kafka") for m in imports(PACKAGE.parent / stem)), f"{stem} needs no exception"


def test_one_adapter_knows_one_technology():
    for path in files("adapters"):
        assert len({top(m) for m in imports(path)} & set(TECHNOLOGIES)) <= 1, name(path)


def test_what_folds_the_log_cannot_send():
    """Replay is silent: what folds gets its records handed in, and knows nobody who could send."""
    silent = [*files("core"), *(PACKAGE / stem for stem in ("engine/partition.py", "replay.py", "jobhistory.py"))]
    senders = ("ftjm.engine.outbox", "ftjm.adapters.kafka_outlet.Outlet", "confluent_kafka.Producer", "ftjm.client")
    for path in silent:
        assert not {m for m in imports(path) for sender in senders if within(m, sender)}, name(path)


def test_records_and_rows_are_made_in_the_core():
    """`evolve` alone makes state, and nobody outside of the core imports it but who folds; one place decides."""
    users = {name(path) for path in files() for m in imports(path) if within(m, "ftjm.core.evolve")}
    assert users == {"ftjm/engine/partition.py", "ftjm/jobhistory.py"}
    deciders = {name(path) for path in files() for m in imports(path) if m == "ftjm.core.decide.decide"}
    assert deciders == {"ftjm/engine/partition.py"}

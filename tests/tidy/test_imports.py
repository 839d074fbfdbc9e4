"""Imports follow the table of rooms and point down; each technology is imported in its own files only.

Each rule is a function of a syntax tree that returns the offences. It is tried on all files, which must have none, and
on a planted source, in which it must find them.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from graphlib import TopologicalSorter

import pytest

from ftjm.core.state.tables import TABLES
from tests.tidy.rooms import ROOMS
from tests.tidy.source import (
    PACKAGE,
    files,
    imported_modules,
    imported_names,
    imports,
    is_module,
    module_of,
    name,
    top,
    tree,
    within,
)

STANDARD = sys.stdlib_module_names

TECHNOLOGIES = {
    "confluent_kafka": ("ftjm/adapters/kafka/*.py",),
    "rocksdict": ("ftjm/adapters/rocksdb.py",),
    "fastavro": ("ftjm/adapters/avro/codec.py", "ftjm/adapters/files/archive.py"),
    "fsspec": ("ftjm/adapters/files/folder.py",),
    "cronsim": ("ftjm/adapters/calendar/cron.py",),
    "tzdata": ("ftjm/adapters/calendar/time_zone.py",),
    "zoneinfo": ("ftjm/adapters/calendar/time_zone.py",),  # elsewhere it would read the host's time zones
    "prometheus_client": ("ftjm/telemetry/*.py", "ftjm/*/metrics.py"),
}
"""The files that may import a technology. No other file knows it."""

DYNAMIC_IMPORTS = {
    "ftjm/__init__.py": "the public names are imported on first use, so that a program of tasks loads no Kafka client",
    "ftjm/cli/verbs.py": "the files of verbs are imported on demand, so that the command line starts fast",
    "ftjm/sdk/apps.py": "imports the users' modules of tasks, by the names that the user gives",
    "ftjm/lab/chaos/skewed_clock.py": "runs `python -m ftjm` in its own process, under a wrong clock",
}
"""The files that may import a module whose name is a value, and the reason."""

NAMES = (ast.Attribute, ast.Name)

BASELINE = {PACKAGE / "lab" / "bench" / "baseline.py"}
"""What the benchmark compares ftjm with uses the same technologies without ftjm."""

REPLAY = PACKAGE / "history" / "replay.py"


def outside(modules: Iterable[str], *allowed: str) -> set[str]:
    """The imported modules that are neither in the standard library nor below one of `allowed`."""
    return {m for m in modules if top(m) not in STANDARD and not any(within(m, package) for package in allowed)}


def room(module: str) -> str:
    """The room of a module of ftjm, as named in `ROOMS`."""
    path = PACKAGE.parent / module.replace(".", "/")
    if module == "ftjm":
        return "__init__"
    parts = module.split(".")[1:]
    return ".".join(parts if path.is_dir() else parts[:-1]) or parts[-1]


def ours(module: ast.Module) -> set[str]:
    """The modules of ftjm that the source imports."""
    return {found for found in imported_modules(module) if within(found, "ftjm")}


def forbidden_modules(here: str, module: ast.Module) -> set[str]:
    """The modules that a file in the room `here` imports and may not import."""
    return {found for found in ours(module) if room(found) not in (here, *ROOMS.get(here, ()))}


def dynamic_imports(module: ast.Module) -> set[str]:
    """The means by which the source imports modules that no import statement names."""
    loaders = {found for found in imported_names(module) if top(found) in {"importlib", "pkgutil", "runpy"}}
    harmless = ("importlib.metadata", "importlib.resources")
    used = {n.attr if isinstance(n, ast.Attribute) else n.id for n in ast.walk(module) if isinstance(n, NAMES)}
    return {m for m in loaders if not any(within(m, h) for h in harmless)} | used & {"import_module", "__import__"}


def test_every_room_is_in_the_table():
    assert {room(module_of(path)) for path in files()} - set(ROOMS) <= {"adapters", "lab"}


@pytest.mark.parametrize("path", files(), ids=name)
def test_a_room_imports_what_the_table_allows(path):
    here = room(module_of(path))
    wrong = forbidden_modules(here, tree(path))
    assert not wrong, f"{name(path)} is in the room {here}, which may not import {sorted(wrong)}"


@pytest.mark.parametrize(
    ("here", "planted", "found"),
    [
        ("core.decide", "import ftjm", "ftjm"),
        ("core.decide", "from ftjm import Client", "ftjm"),
        ("core.decide", "from ftjm.core.state import model\nimport ftjm", "ftjm"),
        ("core.decide", "import ftjm.core.state.model", "ftjm"),
        ("core.decide", "from ftjm.adapters import kafka", "ftjm.adapters.kafka"),
        ("core.decide", "def later():\n    import ftjm.engine.owner as owner", "ftjm.engine.owner"),
        ("core.state", "from ftjm.core.records import events", "ftjm.core.records.events"),
    ],
)
def test_an_import_that_the_table_lacks_is_found(here, planted, found):
    assert forbidden_modules(here, ast.parse(planted)) == {found}


@pytest.mark.parametrize("path", files(), ids=name)
def test_modules_are_imported_by_import_statements(path):
    """The table of rooms judges import statements; it does not see other imports."""
    assert name(path) in DYNAMIC_IMPORTS or not dynamic_imports(tree(path))


def test_each_exception_for_a_dynamic_import_is_needed():
    assert not [path for path in DYNAMIC_IMPORTS if not dynamic_imports(tree(PACKAGE.parent / path))]


@pytest.mark.parametrize(
    "planted",
    [
        "import importlib\nimportlib.import_module('ftjm.adapters.kafka')",
        "from importlib import import_module",
        "import importlib.metadata\nimportlib.import_module('ftjm.adapters.kafka')",
        "import importlib.util",
        "__import__('ftjm.adapters.kafka')",
        "from runpy import run_module",
    ],
)
def test_a_dynamic_import_is_found(planted):
    assert dynamic_imports(ast.parse(planted))


def test_metadata_and_resources_of_packages_are_no_dynamic_import():
    assert not dynamic_imports(ast.parse("import importlib.metadata\nfrom importlib.resources import files"))


def test_the_table_allows_nothing_that_no_module_needs():
    used: dict[str, set[str]] = {}
    for path in files():
        used.setdefault(room(module_of(path)), set()).update(room(m) for m in ours(tree(path)))
    used["__init__"] |= {"testing"}  # its names are imported on first use
    unused = {(here, there) for here, allowed in ROOMS.items() for there in allowed if there not in used.get(here, ())}
    assert not unused


def test_imports_point_down():
    floors = list(ROOMS)
    up = {(a, b) for a, allowed in ROOMS.items() for b in allowed if floors.index(b) >= floors.index(a)}
    assert not up


def test_no_circle_of_files():
    graph = {module_of(path): ours(tree(path)) - {module_of(path)} for path in files()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("path", [*files("core"), *files("engine")], ids=name)
def test_core_and_engine_import_only_the_standard_library_and_structs(path):
    assert not outside(imports(path), "ftjm", "msgspec")


@pytest.mark.parametrize("path", files("lab/checker"), ids=name)
def test_the_checker_imports_only_records_and_the_table_of_states(path):
    """The judge of histories must not share code with the program that writes them. Time zones are data."""
    found = outside(imports(path), "ftjm.lab.checker", "msgspec", "ftjm.adapters.calendar.time_zone")
    records = (
        "records",
        "state.model",
        "state.queues",
        "state.processes",
        "state.schedules",
        "state.backfills",
        "state.calendars",
        "state.resources",
        "state.windows",
        "lifecycle",
    )
    packages = ("ftjm.core", "ftjm.core.state")
    assert not {m for m in found if not any(within(m, f"ftjm.core.{part}") for part in records) and m not in packages}


@pytest.mark.parametrize("technology", TECHNOLOGIES)
def test_each_technology_lives_in_its_own_files(technology):
    homes = {path for pattern in TECHNOLOGIES[technology] for path in PACKAGE.parent.glob(pattern)}
    assert homes
    for path in set(files()) - homes - BASELINE:
        assert not {m for m in imports(path) if within(m, technology)}, name(path)


def test_an_adapter_imports_only_one_technology():
    """Besides it, it may import the module of the standard library that goes with it: `zoneinfo` reads `tzdata`."""
    for path in files("adapters"):
        assert len({top(m) for m in imports(path)} & set(TECHNOLOGIES) - STANDARD) <= 1, name(path)


FOLDING = {"ftjm/engine/partition.py", "ftjm/engine/batch.py", "ftjm/history/jobs.py"}
"""The files outside of `core/evolve` that apply events to a state."""
SENDERS = (
    "ftjm.engine.outbox",
    "ftjm.adapters.kafka.producer",
    "ftjm.adapters.kafka.partition_log",
    "ftjm.client.command_client",
    "confluent_kafka",
)
"""The modules that can send or write a record."""


def users(module: str) -> set[str]:
    """The files that import the module, or a name of it."""
    return {name(path) for path in files() if within_any(imported_names(tree(path)), module)}


def within_any(found: Iterable[str], *modules: str) -> set[str]:
    """Those of the names that are one of the modules, or below one."""
    return {each for each in found for module in modules if within(each, module)}


@pytest.mark.parametrize("path", [*files("core"), *(PACKAGE.parent / one for one in sorted(FOLDING)), REPLAY], ids=name)
def test_modules_that_fold_the_log_cannot_send(path):
    """Replay sends nothing: modules that fold get their records as arguments, and import no module that can send."""
    assert not within_any(imported_names(tree(path)), *SENDERS)


@pytest.mark.parametrize(
    "planted",
    [
        "from ftjm.adapters.kafka import producer",
        "from ftjm.adapters.kafka.producer import ConfirmingProducer",
        "from ftjm.adapters.kafka.partition_log import KafkaWriter",
        "import ftjm.engine.outbox as outbox",
    ],
)
def test_an_import_of_a_sender_is_found(planted):
    assert within_any(imported_names(ast.parse(planted)), *SENDERS)


def test_every_sender_is_a_module():
    """A sender that was renamed would forbid nothing."""
    assert all(is_module(sender) for sender in SENDERS if within(sender, "ftjm"))


def test_only_modules_that_fold_change_state():
    """Only `evolve` changes state, and outside of the core only modules that fold import it."""
    assert {user for user in users("ftjm.core.evolve") if not user.startswith("ftjm/core/evolve/")} == FOLDING


def test_only_a_batch_decides():
    """Events are decided in one place: no other file imports the table of the handlers of commands."""
    assert users("ftjm.core.decide.handlers") == {"ftjm/engine/batch.py"}


def test_only_modules_that_fold_get_the_writable_state():
    """`decide` and placement take a `StateView`, which has no writers; mypy holds them to it."""
    assert {user for user in users("ftjm.core.state.state") if not user.startswith("ftjm/core/evolve/")} == FOLDING


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("ftjm.core.decide.handlers", "from ftjm.core.decide import handlers\nhandlers.decide()"),
        ("ftjm.core.decide.handlers", "from ftjm.core.decide.handlers import decide"),
        ("ftjm.core.evolve", "from ftjm.core import evolve"),
        ("ftjm.core.state.state", "from ftjm.core.state import state\nstate.State(rows)"),
    ],
)
def test_each_way_to_import_a_module_is_found(module, planted):
    assert within_any(imported_names(ast.parse(planted)), module)


def test_only_the_table_of_tables_knows_the_prefixes_of_keys():
    """All readers of rows use `core/state/tables.py`, so that a new kind of row is declared in one place."""
    prefixes = {table.prefix for table in TABLES}
    for folder in ("core", "engine", "history", "readmodel", "snapshots"):
        for path in files(folder):
            if name(path) != "ftjm/core/state/tables.py":
                literals = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
                assert not literals & prefixes, name(path)

"""Some things may be done in one file only. Each rule finds its offences in a syntax tree, also in a planted one."""

from __future__ import annotations

import ast

import pytest

from ftjm.core.state.executors import EXECUTORS
from ftjm.scheduler.ownership import Action
from tests.tidy.source import PACKAGE, files, name, tree

EXECUTOR_NAMES = PACKAGE / "core" / "state" / "executors.py"
OWNERSHIP = PACKAGE / "scheduler" / "ownership.py"
RUNNER = PACKAGE / "scheduler" / "partition_runner.py"
OWNER = PACKAGE / "engine" / "owner.py"


def driven(module: ast.Module) -> set[int]:
    """The lines that drive a leading partition: that use a method of `Partition` which decides or commits."""
    called = {id(node.func) for node in ast.walk(module) if isinstance(node, ast.Call)}
    return {
        node.lineno
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute)
        and node.attr in {"lead", "work", "settle"}
        and (id(node) in called or ast.unparse(node.value).endswith("partition"))
    }


@pytest.mark.parametrize("path", files(), ids=name)
def test_only_the_owner_drives_a_leading_partition(path):
    """The simulation runs `engine/owner.py`. What it proves holds for every program that leads by that file alone."""
    assert path == OWNER or not driven(tree(path)), f"{name(path)}: expected an Owner to lead the partition"


@pytest.mark.parametrize(
    "planted",
    [
        "partition.work(now, commands)",
        "partition.lead(writer, 'import')",
        "self._partition.settle(now, sent)",
        "step = partition.work",
    ],
)
def test_another_driver_is_found(planted):
    assert driven(ast.parse(planted))


def test_the_owner_is_found_as_a_driver():
    """The rule looks for the names that the methods have today."""
    assert driven(tree(OWNER))


def named_executors(module: ast.Module) -> set[int]:
    """The lines that write the name of an executor as a literal, to compare with it, to request it or to list it."""
    lines: set[int] = set()
    for node in ast.walk(module):
        match node:
            case ast.Compare() | ast.MatchValue():
                written: ast.AST = node
            case ast.keyword(arg="executor", value=written):
                pass
            case ast.Assign(targets=[ast.Name(id=target)], value=written) if "executor" in target.lower():
                pass
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as written) if "executor" in target.lower():
                pass
            case _:
                continue
        constants = (each for each in ast.walk(written) if isinstance(each, ast.Constant))
        lines |= {each.lineno for each in constants if each.value in EXECUTORS}
    return lines


@pytest.mark.parametrize("path", files(), ids=name)
def test_only_one_file_writes_the_names_of_executors(path):
    """A new executor is found by the places that import the list, and by the tests that compare them with it."""
    assert path == EXECUTOR_NAMES or not named_executors(tree(path)), f"{name(path)}: import it from {EXECUTOR_NAMES}"


@pytest.mark.parametrize(
    "planted",
    [
        "if spec.executor == 'command': run()",
        "run = spec.executor in ('command', 'container')",
        "match executor:\n  case 'python': run()",
        "JobSpec(executor='python')",
        "EXECUTORS = ('command', 'python')",
        "class JobSpec:\n  executor: str = 'command'",
        "EXECUTORS: Mapping[str, Executor] = {'command': CommandExecutor}",
    ],
)
def test_a_written_name_of_an_executor_is_found(planted):
    assert named_executors(ast.parse(planted))


def test_a_field_of_a_job_is_no_name_of_an_executor():
    assert not named_executors(ast.parse("job = {'command': ['true']}"))


def written_ownership(module: ast.Module) -> set[int]:
    """The lines that assign to an attribute of an `Ownership`."""
    stores = (n for n in ast.walk(module) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store | ast.Del))
    return {node.lineno for node in stores if ast.unparse(node.value).split(".")[-1] in {"ownership", "_ownership"}}


@pytest.mark.parametrize("path", files("scheduler"), ids=name)
def test_only_the_ownership_changes_its_state(path):
    """It has a method for each thing that happens, so its rules stand in one file, and its tests see all of them."""
    assert path == OWNERSHIP or not written_ownership(tree(path)), f"{name(path)}: expected a method of Ownership"


@pytest.mark.parametrize(
    "planted",
    [
        "self.ownership.failed = False",
        "alive, self.ownership.failed = now, False",
        "ownership.role = Role.OWNER",
        "runner.ownership.led += 1",
    ],
)
def test_another_writer_of_the_ownership_is_found(planted):
    assert written_ownership(ast.parse(planted))


def named_actions(module: ast.Module) -> set[str]:
    """The members of `Action` that the source names."""
    return {
        node.attr
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Action"
    }


def test_the_runner_carries_out_each_action_by_its_name():
    assert named_actions(tree(RUNNER)) == set(Action.__members__)


def test_an_action_that_is_not_named_is_missed():
    assert named_actions(ast.parse("if ownership.action() is Action.LEAD: lead()")) == {"LEAD"}

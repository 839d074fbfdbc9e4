"""Signals to trees of processes that start and end all the time."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from ftjm.lab.chaos.process_trees import kill_tree, send, stop_tree, tree
from integration.waiting import until


@pytest.fixture
def starter() -> Iterator[subprocess.Popen[str]]:
    """A process whose children end after a millisecond, again and again."""
    command = ["sh", "-c", "sleep 100 & echo ready; while true; do sleep 0.001; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        kill_tree(process.pid)


def test_a_tree_that_starts_and_ends_processes_is_stopped_and_goes_on(starter: subprocess.Popen[str]) -> None:
    for _ in range(50):
        stopped = stop_tree(starter.pid)
        assert starter.pid in [process.pid for process in stopped]
        until(lambda: _none_runs(starter.pid), "all of the tree to be stopped")
        send(stopped, signal.SIGCONT)
    first = {process.pid for process in tree(starter.pid)}
    until(lambda: {process.pid for process in tree(starter.pid)} - first, "a new child")


def test_a_killed_tree_has_nobody_left(starter: subprocess.Popen[str]) -> None:
    killed = kill_tree(starter.pid)
    starter.wait(10)
    _, alive = psutil.wait_procs(killed, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert list(tree(starter.pid)) == []
    assert send(killed, signal.SIGCONT) == []


def _none_runs(pid: int) -> bool:
    """Whether all are stopped, or wait in the kernel for a child that was stopped between vfork and exec."""
    stopped = {psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP, psutil.STATUS_ZOMBIE}
    with contextlib.suppress(psutil.NoSuchProcess):
        return {process.status() for process in tree(pid)} <= stopped
    return False

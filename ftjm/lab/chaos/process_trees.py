"""Signals to a process and to all below it, while any of them may start others, or end, at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence

import psutil

FORK_SECONDS = 0.01
"""How long a start of a process may be under way after its parent was stopped."""


def tree(pid: int) -> Iterator[psutil.Process]:
    """Yield a process and all its descendants as they are now, parents first; nothing if it has ended."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        yield top
        yield from top.children(recursive=True)


def running(pid: int, module: str) -> list[psutil.Process]:
    """Return those of a tree that have this module in their command line, parents first."""
    found = []
    for process in tree(pid):
        with contextlib.suppress(psutil.Error):  # it ends at this moment
            if module in process.cmdline():
                found.append(process)
    return found


def send(processes: Sequence[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
    """Send a signal, and return the processes that got it: no zombies, and none that have ended."""
    reached = []
    for process in processes:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.status() != psutil.STATUS_ZOMBIE:
                os.kill(process.pid, number)
                reached.append(process)
    return reached


def stop_tree(pid: int) -> list[psutil.Process]:
    """Stop a process and all below it (SIGSTOP), and return those that were stopped.

    Processes may start others until the signal has reached them, and a start that is under way is finished after it. So
    the tree is read again until nothing new is found twice, with a pause in between.
    """
    stopped: list[psutil.Process] = []
    for _ in range(2):
        while newer := [process for process in tree(pid) if process not in stopped and _is_alive(process)]:
            stopped += send(newer, signal.SIGSTOP)
        time.sleep(FORK_SECONDS)
    return stopped


def kill_tree(pid: int) -> list[psutil.Process]:
    """Kill a process and all below it, and return those that were killed. They are stopped first, so none escapes."""
    return send(stop_tree(pid), signal.SIGKILL)


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False

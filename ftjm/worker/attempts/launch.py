"""Forks a process without waiting for it: it prepares and executes its program by itself.

Between fork and `execve` a process may wait for a long time, since a program may lie on a server that does not answer.
`subprocess` and `posix_spawn` let the parent wait with it. Here only the new process waits. A fork copies the tables of
the parent's memory, so what is started often is started by `spawner.py`.
"""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from ftjm.worker.attempts.linux_processes import HANDLED_SIGNALS, OWN_MARK, mark


def launch(execute: Callable[[], None], descriptors: Sequence[int]) -> int:
    """Fork a process, which leads a session of its own.

    Args:
        execute: Called in the process. It ends by an `exec` function.
        descriptors: The process gets these three as standard input, output and errors, and no others.

    Returns:
        Its pid.

    Raises:
        OSError: There are too many processes.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _become(execute, descriptors)
        finally:
            os._exit(127)
    return pid


def _become(execute: Callable[[], None], descriptors: Sequence[int]) -> None:
    signal.set_wakeup_fd(-1)
    for which in HANDLED_SIGNALS:
        signal.signal(which, signal.SIG_DFL)
    os.setsid()
    # The parent has the mark of the program that it started last: see `spawner.py`.
    mark(0, OWN_MARK)
    # A process that hangs here must not keep the pipes of others open.
    for number, fd in enumerate(descriptors):
        os.dup2(fd, number)
    close_all_but(0, 1, 2)
    execute()


def close_all_but(*kept: int) -> None:
    """Close all descriptors of this process but these."""
    with os.scandir("/proc/self/fd") as entries:
        found = {int(entry.name) for entry in entries}
    for fd in found.difference(kept):
        # One of them was open only to read the list.
        with suppress(OSError):
            os.close(fd)

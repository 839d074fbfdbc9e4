"""The zygote: a process that has imported the apps, and forks the processes in which Python tasks run.

Importing an app may take seconds; a fork of a process that has done so takes about a millisecond. The guard starts
`python -m ftjm.worker.executors.python.zygote APP…` as its child, and sends it the packets of `packets.py` over a
socket, which is its standard input. The zygote runs no task itself and has a single thread, so that it may fork safely.

It forks twice, and the process between ends at once. So the new process is orphaned, and becomes a child of the guard,
which is the subreaper: the guard waits for it and stops it as it does a command. The new process waits for calls
(`task_process.py`), which the guard sends once it knows the pid.
"""

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import msgspec

from ftjm.worker.executors.python.packets import (
    BROKEN,
    DESCRIPTORS,
    FORKED,
    FRAME_BYTES_MAX,
    READY,
    REQUEST,
    Apps,
    take_standard_input,
)


def main(apps: Sequence[str]) -> int:
    """Import the apps, and fork on request until the guard closes the connection.

    Args:
        apps: The modules that define the tasks.

    Returns:
        The exit status.
    """
    connection = take_standard_input()
    # These modules are imported here, with the apps: once, before the first fork.
    from ftjm.sdk.apps import AppError, load
    from ftjm.sdk.tasks import CHECKS, TASKS
    from ftjm.worker.executors.python import process_end, task_process

    unchecked = CHECKS.set(False)
    try:
        names = load(apps)
    except AppError as error:
        with suppress(OSError):  # the guard may have gone meanwhile, here and below
            connection.send(BROKEN + str(error).encode(errors="replace")[: FRAME_BYTES_MAX - 1])
        return 1
    if (threads := threading.active_count()) > 1:
        todo = "start threads in tasks, not at import: a forked process has none of them, and may hang on their locks"
        sys.stderr.write(f"warning: the apps have started {threads - 1} threads; {todo}\n")
    CHECKS.reset(unchecked)
    try:
        connection.send(READY + _encoded(Apps(names, [name for name in names if TASKS[name].isolated])))
    except OSError:
        return 0
    process_end.note_open_files()
    # All forks share the memory of this moment. It stays shared as long as the collector does not write to it.
    gc.collect()
    gc.freeze()
    pids, pids_writing = os.pipe()
    while True:
        try:
            frame, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return 0
        if not frame:
            return 0
        (token,) = REQUEST.unpack(frame)
        zygote_descriptors = (connection.fileno(), pids, pids_writing)
        pid = _fork(descriptors, zygote_descriptors, pids_writing, pids, task_process.become_task_process)
        for fd in descriptors:
            os.close(fd)
        try:
            connection.send(FORKED.pack(token, pid))
        except OSError:
            return 0


def _fork(
    descriptors: list[int],
    zygote_descriptors: Sequence[int],
    pids_writing: int,
    pids: int,
    become: Callable[[Sequence[int]], NoReturn],
) -> int:
    """The pid of a new process that is a child of our parent's; 0 if there could be none."""
    try:
        between = os.fork()
    except OSError:
        return 0
    if between == 0:
        status = 1
        with suppress(OSError):
            pid = os.fork()
            if pid == 0:
                for fd in zygote_descriptors:
                    os.close(fd)
                become(descriptors)
            os.write(pids_writing, pid.to_bytes(4))
            status = 0
        os._exit(status)
    # Once the intermediate process is dead, the process that it forked is a child of the guard.
    _, status = os.waitpid(between, 0)
    return int.from_bytes(os.read(pids, 4)) if status == 0 else 0


def _encoded(apps: Apps) -> bytes:
    """As many names, encoded, as a packet holds."""
    while len(encoded := msgspec.json.encode(apps)) >= FRAME_BYTES_MAX and apps.tasks:
        apps = Apps(apps.tasks[: len(apps.tasks) // 2], apps.isolated)
    return encoded


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

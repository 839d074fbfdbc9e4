"""The zygote: a process that has imported the apps, and forks one process for each attempt of a Python task.

`python -m ftjm.worker.zygote FD APP…`, a child of the guard. It runs no task itself and has one thread, so that it may
fork. What it forks is orphaned at once, and becomes a child of the guard, which is the subreaper: so tasks are stopped,
waited for and judged as commands are. A new process waits for its orders on its standard input, which the guard gives
once it knows the process.

It forks the pool, too, in which attempts are threads. Its packets are those of `taskwire`.
"""

import gc
import os
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from ftjm.worker import outputs
from ftjm.worker.taskwire import ASK, BROKEN, FORK, FORKED, FRAME_BYTES_MAX, GIVEN, READY, Apps


def main(arguments: Sequence[str]) -> int:
    """Serve until the guard has gone."""
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    # Imported with the apps: what it costs is paid once, before the first fork.
    from ftjm.sdk.apps import AppError, load
    from ftjm.sdk.tasks import CHECKS, TASKS
    from ftjm.worker import taskrun

    outputs.route()
    unchecked = CHECKS.set(False)
    try:
        names = load(arguments[1:])
    except AppError as error:
        control.send(BROKEN + str(error).encode(errors="replace")[: FRAME_BYTES_MAX - 1])
        return 1
    if (threads := threading.active_count()) > 1:
        todo = "start threads in tasks, not at import: a forked process has none of them, and may hang on their locks"
        sys.stderr.write(f"warning: the apps have started {threads - 1} threads; {todo}\n")
    CHECKS.reset(unchecked)
    control.send(READY + _shown(Apps(names, [name for name in names if TASKS[name].idempotent])))
    _flush()
    # What is there now is shared with all forks, and stays so if the collector does not touch it.
    gc.collect()
    gc.freeze()
    pids, tell = os.pipe()
    while True:
        frame, given, _, _ = socket.recv_fds(control, ASK.size, GIVEN, socket.MSG_CMSG_CLOEXEC)
        if not frame:
            return 0
        kind, token = ASK.unpack(frame)
        become = taskrun.become if kind == FORK else _become_pool
        pid = _fork(given, (control.fileno(), pids, tell), tell, pids, become)
        for fd in given:
            os.close(fd)
        try:
            control.send(FORKED.pack(token, pid))
        except OSError:
            return 0


def _fork(given: list[int], ours: Sequence[int], tell: int, pids: int, become) -> int:  # type: ignore[no-untyped-def]
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
                for fd in ours:
                    os.close(fd)
                become(given)
            os.write(tell, pid.to_bytes(4))
            status = 0
        os._exit(status)
    # Once it is dead, what it forked has its new parent.
    _, status = os.waitpid(between, 0)
    return int.from_bytes(os.read(pids, 4)) if status == 0 else 0


def _become_pool(given: Sequence[int]) -> None:
    # Only there, since what it imports would make every other process larger.
    from ftjm.worker import pool

    pool.become(given)


def _shown(apps: Apps) -> bytes:
    """As many names as a packet holds. A task that is left out of the idempotent ones has processes of its own."""
    while len(encoded := msgspec.json.encode(apps)) >= FRAME_BYTES_MAX:
        apps = Apps(apps.tasks[: len(apps.tasks) // 2], apps.idempotent[: len(apps.idempotent) // 2])
    return encoded


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

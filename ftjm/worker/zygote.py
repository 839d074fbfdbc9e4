"""The zygote: a process that has imported the apps, and forks one process for each attempt of a Python task.

`python -m ftjm.worker.zygote FD APP…`, a child of the guard. It runs no task itself and has one thread, so that it may
fork. What it forks is orphaned at once, and becomes a child of the guard, which is the subreaper: so tasks are stopped,
waited for and judged as commands are. A new process waits for its orders on its standard input, which the guard gives
once it knows the process.

Frames, one a packet. From the guard: a token, with three descriptors. To the guard: `R` and the names of tasks, or `E`
and why the apps cannot be imported, once; then a token and a pid each, 0 if there could be none.
"""

import gc
import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

ASK = struct.Struct("!I")
ANSWER = struct.Struct("!II")
READY, BROKEN = b"R", b"E"
GIVEN = 3
FRAME_BYTES_MAX = 64 * 1024


def main(arguments: Sequence[str]) -> int:
    """Serve until the guard has gone."""
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    # Imported with the apps: what it costs is paid once, before the first fork.
    from ftjm.sdk.apps import AppError, load
    from ftjm.sdk.tasks import CHECKS
    from ftjm.worker import taskrun

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
    shown = names if sum(map(len, names)) < FRAME_BYTES_MAX // 2 else []
    control.send(READY + msgspec.json.encode(shown))
    _flush()
    # What is there now is shared with all forks, and stays so if the collector does not touch it.
    gc.collect()
    gc.freeze()
    pids, tell = os.pipe()
    while True:
        token, given, _, _ = socket.recv_fds(control, ASK.size, GIVEN)
        if not token:
            return 0
        pid = _fork(given, (control.fileno(), pids, tell), tell, pids, taskrun.become)
        for fd in given:
            os.close(fd)
        try:
            control.send(token + pid.to_bytes(4))
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


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

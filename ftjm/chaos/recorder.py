"""A job that writes down when it ran: `DIRECTORY SECONDS STATUS FAILURES`.

Its first FAILURES attempts end with status 1, the others with STATUS. It notes its time every few milliseconds, so that
the record is right however it ends. Each process has a file of its own, so that an attempt that is started twice has
two. Imports nothing of ours: the interpreter's start is most of its cost.
"""

import os
import struct
import sys
import time

HEAD = struct.Struct("=Q")
"""1 once it has come to its own end."""
SPAN = struct.Struct("=QQ")
"""From, to: CLOCK_BOOTTIME, ns."""
WORKER = "CHAOS_WORKER"
"""The variable of a worker's environment that names it."""
TICK_SECONDS = 0.01
GAP_NS = 200_000_000
"""Who was not seen for so long did not run: its host was frozen."""


def main() -> None:
    """Run once."""
    directory, seconds, status, failures = sys.argv[1:]
    job, attempt = os.environ["FTJM_JOB_ID"].replace("/", "+"), os.environ["FTJM_ATTEMPT"]
    name = "+".join((job, attempt, os.environ.get(WORKER, ""), str(os.getpid())))
    file = os.open(os.path.join(directory, name), os.O_CREAT | os.O_WRONLY)  # noqa: PTH118  (quick)
    began = since = now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    until, place = began + int(float(seconds) * 1e9), HEAD.size
    os.pwrite(file, HEAD.pack(0) + SPAN.pack(since, now), 0)
    while now < until:
        time.sleep(TICK_SECONDS)
        before, now = now, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if now - before > GAP_NS:
            since, place = now, place + SPAN.size
        os.pwrite(file, SPAN.pack(since, now), place)
    os.pwrite(file, HEAD.pack(1), 0)
    sys.exit(1 if int(os.environ["FTJM_ATTEMPT"]) <= int(failures) else int(status))


if __name__ == "__main__":
    main()

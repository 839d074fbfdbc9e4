"""Records when an attempt runs. As a program, it is the command of a job: `DIRECTORY SECONDS STATUS FAILURES`.

The time is written every few milliseconds, so that the record is right even if the process is killed. Each start of an
attempt writes a file of its own: an attempt that is started twice leaves two files, also if both run in one process.

The first FAILURES attempts of the program end with status 1, later ones with STATUS. The module imports nothing of
ftjm, since starting the interpreter is most of the program's cost. Python tasks use the same record: see `tasks.py`.
"""

import os
import struct
import sys
import time

HEAD = struct.Struct("=Q")
"""The head of a file: 1 once the attempt has come to its end, 0 before."""
SPAN = struct.Struct("=QQ")
"""Start and end of an interval in which the process ran: CLOCK_BOOTTIME, ns."""
WORKER = "CHAOS_WORKER"
"""Environment variable of a worker that holds its name."""
TICK_SECONDS = 0.01
GAP_NS = 200_000_000
"""A gap between two ticks that is longer means that the process did not run: its host was frozen."""


class RunRecord:
    """The record of one start of an attempt, which the environment variables name."""

    def __init__(self, directory: str) -> None:
        """Begin a file in the directory."""
        job = os.environ["FTJM_JOB_ID"].replace("/", "+")
        start = f"{os.getpid()}-{_now()}"
        name = "+".join((job, os.environ["FTJM_ATTEMPT"], os.environ.get(WORKER, ""), start))
        self._file = os.open(os.path.join(directory, name), os.O_CREAT | os.O_WRONLY)  # noqa: PTH118  (importing pathlib takes time)
        self._position = HEAD.size - SPAN.size
        os.pwrite(self._file, HEAD.pack(0), 0)

    def run(self, seconds: float) -> None:
        """Record that the attempt runs, for this long."""
        since = now = _now()
        until = now + int(seconds * 1e9)
        self._position += SPAN.size  # first: a task may be stopped here, and records then how it cleans up
        self._write(since, now)
        while now < until:
            time.sleep(TICK_SECONDS)
            before, now = now, _now()
            if now - before > GAP_NS:
                since = now
                self._position += SPAN.size
            self._write(since, now)

    def finish(self) -> None:
        """Record that the attempt has come to its end."""
        os.pwrite(self._file, HEAD.pack(1), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, since: int, now: int) -> None:
        os.pwrite(self._file, SPAN.pack(since, now), self._position)


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def main() -> None:
    """Run one attempt."""
    directory, seconds, status, failures = sys.argv[1:]
    record = RunRecord(directory)
    record.run(float(seconds))
    record.finish()
    sys.exit(1 if int(os.environ["FTJM_ATTEMPT"]) <= int(failures) else int(status))


if __name__ == "__main__":
    main()

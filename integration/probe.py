"""A job that records when it ran: `DIRECTORY FIRST SECONDS ENDING`, where ENDING is `exit:N` or `signal:N`.

Its first attempt that runs does so for FIRST seconds, each further one for SECONDS. (On a busy machine, an attempt may
be sent back or lost before it runs.)

It writes the time every few milliseconds, so that the record is right however the job ends. Each attempt has its own
file; an attempt that is started twice ends with status 97.
"""

import os
import signal
import struct
import sys
import time

RECORD = struct.Struct("=QQQ?")
"""Started and last seen (CLOCK_BOOTTIME, ns), last seen (wall clock, ns), whether it came to its end."""
TICK_SECONDS = 0.005


def main() -> None:
    directory, first, further, ending = sys.argv[1:]
    job = os.environ["FTJM_JOB_ID"].replace("/", "+")
    ran_before = any(file.rpartition("+")[0] == job for file in os.listdir(directory))  # noqa: PTH208  (quick)
    seconds = further if ran_before else first
    name = f"{job}+{os.environ['FTJM_ATTEMPT']}"
    try:
        file = os.open(os.path.join(directory, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # noqa: PTH118  (quick)
    except FileExistsError:
        sys.exit(97)
    started = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    until = started + int(float(seconds) * 1e9)
    while (now := time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < until:
        os.pwrite(file, RECORD.pack(started, now, time.time_ns(), False), 0)
        time.sleep(TICK_SECONDS)
    os.pwrite(file, RECORD.pack(started, now, time.time_ns(), True), 0)
    how, _, number = ending.partition(":")
    if how == "signal":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), int(number))
        time.sleep(10)
    sys.exit(int(number))


if __name__ == "__main__":
    main()

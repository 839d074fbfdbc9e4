"""The two clocks: the wall clock for times that people read, and the boot clock for measuring."""

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """Milliseconds since the host booted, time asleep included. Elsewhere than on Linux, the monotonic clock."""
    return time.clock_gettime_ns(_BOOT) // 1_000_000

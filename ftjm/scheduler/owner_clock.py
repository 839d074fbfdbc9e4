"""The time that an owner decides with: the wall clock, while it agrees with the brokers' clock.

The brokers stamp every record (`LogAppendTime`), so each heartbeat compares the two clocks. While the wall clock is
wrong, the owner continues from the last right time by the monotonic clock. The time of a log never goes back.
"""

from __future__ import annotations

from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms, wall_ms

log = logs.get(__name__)

CLOCK_ERROR_MAX_MS = 5_000
"""A wall clock that differs by more from the brokers' clock counts as wrong."""


class HostClock:
    """Compares this host's wall clock with the brokers' clock. One for each process; may be used by any thread."""

    def __init__(self) -> None:
        self._brokers_ahead: tuple[int, int] | None = None
        """Least and greatest difference of the brokers' clock and the monotonic clock, ms. No jump of the wall clock
        changes it."""

    def compare(self, appended_ms: int, latency_ms: int) -> None:
        """Compare the clocks by a record that the brokers have just appended.

        Args:
            appended_ms: when the brokers appended it, by their clock, ms since the Unix epoch.
            latency_ms: the append was at some time within the last `latency_ms`.
        """
        now = boot_ms()
        self._brokers_ahead = appended_ms - now, appended_ms - (now - latency_ms)

    @property
    def error_ms(self) -> int | None:
        """The wall clock minus the brokers' clock, ms; None before the first comparison."""
        return self.error_of(wall_ms() - boot_ms())

    def error_of(self, ahead: int) -> int | None:
        """Return `error_ms` of a wall clock that is so far ahead of the monotonic clock, ms."""
        if self._brokers_ahead is None:
            return None
        low, high = self._brokers_ahead
        return ahead - min(max(ahead, low), high)

    @property
    def right(self) -> bool:
        """Whether the wall clock is known to be right enough to decide with."""
        error = self.error_ms
        return error is not None and abs(error) <= CLOCK_ERROR_MAX_MS


class OwnerClock:
    """An owner's clock. It follows the wall clock while that is right, and else the monotonic clock.

    The time of a log never goes back. One batch that is decided by a clock that is a day ahead would fire all timers of
    that day at once, and no other timer would fire for a day.

    The host's clock is right when its instance is nominated, and may have jumped since. Only one thread may use it.
    """

    def __init__(self, host: HostClock) -> None:
        self._host = host
        ahead = wall_ms() - boot_ms()
        error = host.error_of(ahead) or 0
        self._ahead = ahead if abs(error) <= CLOCK_ERROR_MAX_MS else ahead - error
        """The last right time minus the monotonic clock, ms."""
        self._jump_logged = False

    def wall_ms(self) -> int:
        """Return the time to decide with, ms since the Unix epoch."""
        boot = boot_ms()
        ahead = wall_ms() - boot  # read once: it may jump at any moment
        error = self._host.error_of(ahead)
        if error is not None and abs(error) <= CLOCK_ERROR_MAX_MS:
            self._ahead, self._jump_logged = ahead, False
        elif not self._jump_logged:
            self._jump_logged = True
            log.error(
                "clock_jumped",
                found=f"{error:+} ms from the brokers'",
                todo="set the clock; until then, this instance decides by the monotonic clock",
            )
        return boot + self._ahead

    def boot_ms(self) -> int:
        """Return the milliseconds since the host booted."""
        return boot_ms()

"""The time that an owner decides with: the wall clock's, for as long as that agrees with the brokers'."""

from __future__ import annotations

from ftjm import logs
from ftjm.clock import boot_ms, wall_ms

log = logs.get(__name__)

CLOCK_ERROR_MAX_MS = 5_000


class HostClock:
    """This host's wall clock beside the brokers'. One for each process; for any thread."""

    def __init__(self) -> None:
        self._brokers_ahead: tuple[int, int] | None = None
        """Of the clock that measures, which no jump of the other one changes: at least, and at most."""

    def compare(self, appended_ms: int, latency_ms: int) -> None:
        """The brokers have appended a record at their time `appended_ms`, some time within the last `latency_ms`."""
        now = boot_ms()
        self._brokers_ahead = appended_ms - now, appended_ms - (now - latency_ms)

    @property
    def error_ms(self) -> int | None:
        """The wall clock less the brokers', as it is now; None before anything was compared."""
        if self._brokers_ahead is None:
            return None
        low, high = self._brokers_ahead
        ahead = wall_ms() - boot_ms()
        return ahead - min(max(ahead, low), high)

    @property
    def right(self) -> bool:
        """Whether it is known to be right enough to decide with."""
        error = self.error_ms
        return error is not None and abs(error) <= CLOCK_ERROR_MAX_MS


class SteadyClock:
    """Goes on by the clock that measures while the one that tells the time is wrong.

    A log's time never goes back. One batch with a clock that is a day ahead would make all that is due within a day
    happen at once, and nothing else for a day.

    To be made where the clock is known to be right enough. Used by one thread.
    """

    def __init__(self, host: HostClock) -> None:
        self._host = host
        self._ahead = wall_ms() - boot_ms()
        self._told = False

    def now(self) -> int:
        """ms since the Unix epoch."""
        boot = boot_ms()
        if self._host.right:
            self._ahead, self._told = wall_ms() - boot, False
        elif not self._told:
            self._told = True
            log.error(
                "clock_jumped",
                found=f"{self._host.error_ms:+} ms from the brokers'",
                todo="set the clock; until it agrees with the brokers', this instance goes on by the time before",
            )
        return boot + self._ahead

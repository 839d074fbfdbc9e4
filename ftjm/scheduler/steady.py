"""The time that an owner decides with: the wall clock's, for as long as that can be believed."""

from __future__ import annotations

from ftjm import logs
from ftjm.clock import boot_ms, wall_ms
from ftjm.scheduler.context import CLOCK_ERROR_MAX_MS, Context

log = logs.get(__name__)


class SteadyClock:
    """Goes on by the clock that measures while the one that tells the time has jumped, until the brokers confirm it.

    A log's time never goes back. One batch with a clock that is a day ahead would make all that is due within a day
    happen at once, and nothing else for a day.

    To be made where the clock is known to be right enough. Used by one thread.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ahead = wall_ms() - boot_ms()
        self._doubted = False

    def now(self) -> int:
        """ms since the Unix epoch."""
        boot = boot_ms()
        ahead = wall_ms() - boot
        if abs(ahead - self._ahead) <= CLOCK_ERROR_MAX_MS:
            self._ahead, self._doubted = ahead, False
        elif not self._doubted:
            # What was measured is the error of the clock before. The next heartbeat measures it anew.
            self._doubted = True
            self._context.clock_error_ms = None
            log.error(
                "clock_jumped",
                found=f"{ahead - self._ahead:+} ms at once",
                todo="set the clock; until the brokers' agrees, this instance goes on by the time before",
            )
        elif (error := self._context.clock_error_ms) is not None and abs(error) <= CLOCK_ERROR_MAX_MS:
            self._ahead, self._doubted = ahead, False
        return boot + self._ahead

"""The brokers' clock, as the acknowledgements of one session's heartbeats tell it. Pure.

The log stamps each heartbeat by the brokers' clock, and an acknowledgement carries the stamp. That tells two things
which the clock of this host cannot:

- **The time.** The wall clock of this host may be wrong. Deadlines of jobs are compared with the brokers' clock.
- **A pause.** The clock of a virtual machine stands still while its hypervisor pauses it, also CLOCK_BOOTTIME. The
  brokers' clock goes on, so the stamps of two heartbeats are further apart than their sending.
"""


class BrokersClock:
    """The stamp of the newest heartbeat that the log has, and the time by this host's clock at which it was sent."""

    def __init__(self) -> None:
        self._token = 0
        self._logged_ms = 0

    def acknowledged(self, token: int, logged_ms: int) -> int:
        """Take an acknowledgement.

        Args:
            token: When the heartbeat was sent, by CLOCK_BOOTTIME, ms.
            logged_ms: When the log took it, by the brokers' clock, ms since the epoch; 0 if that is unknown.

        Returns:
            How long the log had no heartbeat of the session, ms; 0 if unknown, or if a newer one is known.
        """
        before, known = self._logged_ms, token > self._token
        if known:
            self._token, self._logged_ms = token, logged_ms
        return max(0, logged_ms - before) if known and before and logged_ms else 0

    def time(self, now: int) -> int:
        """The brokers' time at `now`, ms since the epoch; 0 if it is unknown.

        It is ahead by at most the time that the newest heartbeat took to reach the log, beside what the two clocks have
        drifted since.
        """
        return self._logged_ms + now - self._token if self._logged_ms else 0

    def is_past(self, deadline_at: int, now: int) -> bool:
        """Whether a deadline (ms since the epoch; 0 if there is none) is known to have passed."""
        return 0 < deadline_at <= self.time(now)

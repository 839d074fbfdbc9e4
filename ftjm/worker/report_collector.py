"""Reports travel together: each request to the log costs the worker, the broker and the owner more than a report in it.

While the next attempts of its partition are at hand, no slot waits for the answer to a success, so its report waits for
others, for at most `COMPANY_MS`. The first report that does not wait (a start, a failure, a checkpoint, an attempt that
goes back) takes along all that do. The order stays. Each report is a record of its own: an owner judges each alone.
"""

from __future__ import annotations

from collections.abc import Callable

from ftjm.core.records.commands import AttemptReport, CompleteAttempt
from ftjm.runtime.clock import wall_ms

COMPANY_MS = 20


class ReportCollector:
    """The reports that were made and were not sent yet. For use by one thread."""

    def __init__(self, send: Callable[[str, AttemptReport], None]) -> None:
        """Begin with none. `send` takes a session and its report."""
        self._send = send
        self._reports: list[tuple[str, AttemptReport]] = []
        self.due: int | None = None
        """When the reports have to be sent, CLOCK_BOOTTIME ms; None if there are none."""

    def add(self, session: str, report: AttemptReport, now: int, *, may_wait: bool) -> None:
        """Add a report.

        Args:
            session: whose report it is.
            report: the report.
            now: CLOCK_BOOTTIME, ms.
            may_wait: whether an attempt of the same partition is at hand for the slot that has become free.
        """
        if not may_wait or not isinstance(report, CompleteAttempt):
            self.due = now
        elif self.due is None:
            self.due = now + COMPANY_MS
        self._reports.append((session, report))

    def send_due(self, now: int) -> None:
        """Send the reports if they are due."""
        if self.due is not None and now >= self.due:
            self.send()

    def send(self) -> None:
        """Send the reports, in their order."""
        reports, self._reports, self.due = self._reports, [], None
        sent_at = wall_ms()
        for session, report in reports:
            report.sent_at = sent_at
            self._send(session, report)

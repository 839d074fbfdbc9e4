"""Reading the commands of a partition on from where its log says that they were decided."""

from __future__ import annotations

from collections.abc import Callable

from structlog.stdlib import BoundLogger

from ftjm.adapters.kafka_channel import Channel
from ftjm.core.model import Place, Position
from ftjm.scheduler.context import Context


class Resuming:
    """Of one partition, on its thread."""

    def __init__(self, context: Context, number: int, wake: Callable[[], None], log: BoundLogger) -> None:
        self._context = context
        self._number = number
        self._wake = wake
        self._log = log
        self._search = False
        self._told: Place | None = None

    def lost(self) -> None:
        """The log has not, or not any more, what should come next: it is to be searched for where it goes on."""
        self._search = True

    def resume(self, position: Position) -> Channel:
        """All that was not decided, and perhaps some that was. Raises KafkaException, LostPosition."""
        read = position.commands
        at = self._context.log.goes_on_at(self._number, read) if self._search else read
        if at.offset < read.offset and read != self._told:
            self._told = read
            todo = "nothing for what was decided; submit again what was acknowledged just before the brokers failed"
            self._log.error("commands_lost", decided_to=read.offset, goes_on_at=at.offset, todo=todo)
        return self._context.feed.follow("commands", self._number, at.offset, self._wake, at.epoch)

    def begun(self) -> None:
        """What comes next is led by."""
        self._search = False

    def rest(self) -> None:
        """Read no more."""
        self._context.feed.drop("commands", self._number)

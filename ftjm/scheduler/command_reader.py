"""Reads a partition's commands from the first one that its events do not answer.

Normally that is `next_command` of the newest batch. If the brokers have lost the tail of `commands` (a power loss), new
commands lie in the place of decided ones, and reading has to go back to the offset where the newer leader began."""

from __future__ import annotations

from collections.abc import Callable

from structlog.stdlib import BoundLogger

from ftjm.adapters.kafka.partition_buffer import CommandBuffer
from ftjm.core.state.model import LogPosition, Position
from ftjm.scheduler.context import Context


class CommandReader:
    """Reads the commands of one partition. Only the partition's thread uses it."""

    def __init__(self, context: Context, number: int, wake: Callable[[], None], log: BoundLogger) -> None:
        """Start without reading.

        Args:
            context: what the partitions of the process share.
            number: the partition.
            wake: called, by another thread, when commands have arrived.
            log: receives the report of a loss.
        """
        self._context = context
        self._number = number
        self._wake = wake
        self._log = log
        self._must_search = False
        """Whether the log may have lost commands, so that `resume` has to search for the position to read from."""
        self._reported: LogPosition | None = None
        """The position whose loss was logged last."""

    def note_loss(self) -> None:
        """Note that the log does not hold the next command. `resume` then searches for the offset where it continues,
        until `position_confirmed`."""
        self._must_search = True

    def resume(self, position: Position) -> CommandBuffer:
        """Start to read the commands that the partition's events do not answer.

        Args:
            position: the partition's position, by the newest batch.

        Returns:
            A buffer that receives all commands that were not decided, and perhaps some that were.

        Raises:
            LogError: Kafka does not answer.
            LostPosition: the search fails, see `truncation.resume_position`.
        """
        decided = position.commands
        start = self._context.log.resume_position(self._number, decided) if self._must_search else decided
        if start.offset < decided.offset and decided != self._reported:
            self._reported = decided
            todo = "submit again what was acknowledged just before the brokers failed; what was decided needs nothing"
            self._log.error("commands_lost", decided_to=decided.offset, resumed_at=start.offset, todo=todo)
        return self._context.reader.follow("commands", self._number, start.offset, self._wake, start.epoch)

    def position_confirmed(self) -> None:
        """Note that a takeover from the last `resume` succeeded: later ones need no search."""
        self._must_search = False

    def stop(self) -> None:
        """Stop reading."""
        self._context.reader.drop("commands", self._number)

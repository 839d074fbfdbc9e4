"""Begins the log of a partition whose state came from another cluster: with two empty batches of an owner.

The first batch is deleted afterwards, so that the log begins with the second, and no reader takes it for a whole log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ftjm.core.placement import Offer
from ftjm.core.state.view import StateView
from ftjm.engine.batch import Lapse
from ftjm.engine.owner import Owner
from ftjm.engine.partition import Partition
from ftjm.engine.ports import Parcel, Writer

OWNER = "import"
"""The owner of the two batches, as the log names it."""


def begin_log(partition: Partition, writer: Writer) -> int:
    """Write the two batches, and return the offset of the second.

    Args:
        partition: Its state is the old cluster's. It becomes the new one's, whose log holds no event of it.
        writer: It has fenced the new partition.
    """
    # No event of the new log was applied yet, and its first command is the first that was not consumed.
    partition.position.applied_offset = -1
    partition.position.next_command, partition.position.command_epoch = 0, -1
    ports = _IsolatedPorts(partition.position.now)
    for _ in range(2):
        owner = Owner(partition, writer, OWNER, clock=ports, sessions=ports, send=ports.send)
        owner.step()
        owner.close()
    return partition.position.applied_offset


class _IsolatedPorts:
    """A clock that stands, no workers, and no connection: the batches decide nothing, and no message leaves."""

    def __init__(self, now: int) -> None:
        """`now` is the time of the newest batch."""
        self._now = now

    def wall_ms(self) -> int:
        """The time of the newest batch, so that no further timer is due."""
        return self._now

    def boot_ms(self) -> int:
        """The same: no time passes."""
        return self._now

    def lapses(self, _state: StateView, _since: int) -> Sequence[Lapse]:
        """No session lapses."""
        return ()

    def offers(self, _partition: int, _now: int, _declined: Mapping[str, int]) -> Sequence[Offer]:
        """No slots are free."""
        return ()

    def send(self, _parcel: Parcel, _delivered: Callable[[bool], None]) -> None:
        """Leave the message in the outbox. The first scheduler that leads the partition sends it."""

"""Which instance takes over the partitions of an owner that has died, before the consumer group nominates one.

Each instance answers the question for itself, from the heartbeats that it received, and all come to the same answer:

1. Only an instance with a warm store of the partition can be the heir.
2. Active instances come before passive standbys.
3. Among equals the partition's ranking decides (rendezvous hashing, `engine/standbys.py`).

Two instances that received different heartbeats may both believe that they are the heir. That is safe: the fence
decides. A death is noticed by a broken connection (`scheduler/lifelines.py`). If an owner only falls silent, the group
nominates another instance when the session of that owner has ended (`adapters/kafka/membership.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ftjm.core.records.messages import SchedulerHeartbeat
from ftjm.engine.standbys import ranked
from ftjm.scheduler.peers import has_warm_store, owned

_NONE: Mapping[int, int] = {}


class OrphanedPartition(NamedTuple):
    """A partition without an owner."""

    partition: int
    epoch: int
    """Owner epoch of its newest batch."""
    dead_owner: str
    """The instance that has died, or `epoch N` if it is not known which instance fenced this one.

    A partition falls to an heir once for each dead owner."""


def inherited(
    me: str,
    present: Mapping[str, SchedulerHeartbeat],
    dead: Mapping[str, SchedulerHeartbeat],
    newest_owners: Mapping[int, tuple[str, int]],
    orphaned: Mapping[int, int] = _NONE,
) -> Iterator[OrphanedPartition]:
    """The partitions of dead instances that fall to this one.

    Args:
        me: the name of this instance.
        present: the newest heartbeat of each instance that sent one lately, this one included, by instance.
        dead: the last heartbeat of each instance that has died lately, by instance.
        newest_owners: for each partition that was folded here, owner and epoch of its newest batch. An owner that died
            at once may never have reported that it was one.
        orphaned: for each partition that this instance led until another one fenced it and wrote nothing, the epoch of
            its newest batch. If no instance claims such a partition, the one that fenced it is among the dead.
    """
    claimed = {report.partition: report.owner_epoch for beat in present.values() for report in owned(beat)}
    of_others = {report.partition for name, beat in present.items() if name != me for report in owned(beat)}
    left = {p: OrphanedPartition(p, epoch, owner) for p, (owner, epoch) in newest_owners.items() if owner in dead}
    if dead:
        left |= {
            p: OrphanedPartition(p, epoch, f"epoch {epoch}") for p, epoch in orphaned.items() if p not in of_others
        }
    for name, beat in dead.items():
        for report in owned(beat):
            known = left.get(report.partition)
            if known is None or known.epoch < report.owner_epoch:
                left[report.partition] = OrphanedPartition(report.partition, report.owner_epoch, name)
    for orphan in left.values():
        if orphan.epoch >= claimed.get(orphan.partition, -1) and _heir(orphan.partition, present) == me:
            yield orphan


def _heir(partition: int, present: Mapping[str, SchedulerHeartbeat]) -> str:
    warm = [name for name, beat in present.items() if has_warm_store(beat, partition)]
    active: Iterable[str] = [name for name in warm if not present[name].passive]
    return next(iter(ranked(partition, active or warm)), "")

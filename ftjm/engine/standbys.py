"""Which instances stand by for a partition: rendezvous hashing over the instances that are present.

Each partition ranks all instances by a hash of both names. All instances that know the same members compute the same
ranking without communication, and an instance that joins or leaves moves only the partitions that rank it first (Thaler
and Ravishankar, "Using name-based mappings to increase hit rates", 1998).
"""

from collections.abc import Iterable
from hashlib import blake2b

EVERYWHERE_MAX = 4
"""With at most this many instances, each one follows every partition by default. The group's assignor does not know
which stores are up to date, so every instance that it may nominate has one."""
REPLICAS = 2
"""Standbys of a partition if there are more instances."""


def ranked(partition: int, instances: Iterable[str]) -> list[str]:
    """The instances, the partition's first choice first."""
    return sorted(instances, key=lambda name: _weight(partition, name), reverse=True)


def stands_by(partition: int, me: str, instances: Iterable[str], owner: str, replicas: int | None) -> bool:
    """Whether `me`, one of `instances`, follows a partition that another of them owns ("" if none is known).

    Args:
        replicas: how many standbys a partition has; None for the default.
    """
    others = [name for name in ranked(partition, instances) if name != owner]
    if replicas is None:
        replicas = REPLICAS if len(others) + (owner != "") > EVERYWHERE_MAX else EVERYWHERE_MAX
    return me in others[:replicas]


def _weight(partition: int, name: str) -> bytes:
    return blake2b(b"%d/%b" % (partition, name.encode()), digest_size=8).digest()

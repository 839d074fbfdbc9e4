"""Records of any log, as adapters hand them out and take them.

The records that an engine folds and decides are smaller; see `ftjm.engine.ports`.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record of any topic. An absent key or value is empty."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    time_ms: int
    """When the log took it, by the broker's clock."""
    headers: list[tuple[str, bytes]]


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The place in the log of a record that was sent."""

    partition: int
    offset: int
    time_ms: int
    """When the log took it, by the broker's clock."""
    latency_seconds: float
    """Time from sending the record to the broker's acknowledgement."""

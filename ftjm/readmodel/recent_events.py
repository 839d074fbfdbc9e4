"""The newest events of the log, in memory: histories and outputs of recent jobs are read without asking Kafka."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

BYTES_MAX = 64 * 1024 * 1024
ENTRY_BYTES = 200
"""Approximate memory of an entry, beside its value."""


class RecentEvents:
    """Records by their partition and offset. One thread adds them, any thread reads them."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def keep(self, partition: int, offset: int, value: bytes) -> None:
        """Add a record. The records that were added first are dropped where there is no room."""
        before = self._values.pop((partition, offset), None)  # if the log is read again
        self._values[partition, offset] = value
        self._bytes += len(value) + ENTRY_BYTES - (0 if before is None else len(before) + ENTRY_BYTES)
        while self._bytes > self._bytes_max:
            _, dropped = self._values.popitem(last=False)
            self._bytes -= len(dropped) + ENTRY_BYTES

    def clear(self) -> None:
        """Drop all records, because the log is another one."""
        self._values.clear()
        self._bytes = 0

    def find(self, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        """The values of those of the offsets that are kept."""
        found = {offset: self._values.get((partition, offset)) for offset in offsets}
        return {offset: value for offset, value in found.items() if value is not None}

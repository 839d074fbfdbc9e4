"""The newest events of the log, in memory: histories and outputs of what ran lately are told without asking Kafka."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

BYTES_MAX = 64 * 1024 * 1024
ENTRY_BYTES = 200
"""What an entry takes besides its value, about."""


class Recent:
    """Records by their place. One thread keeps them, any may look for them."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def keep(self, partition: int, offset: int, value: bytes) -> None:
        """Keep a record, and let go of the oldest where there is no room."""
        before = self._values.pop((partition, offset), None)  # a log that is read again
        self._values[partition, offset] = value
        self._bytes += len(value) + ENTRY_BYTES - (0 if before is None else len(before) + ENTRY_BYTES)
        while self._bytes > self._bytes_max:
            _, gone = self._values.popitem(last=False)
            self._bytes -= len(gone) + ENTRY_BYTES

    def clear(self) -> None:
        """Forget all: the log is another one."""
        self._values.clear()
        self._bytes = 0

    def find(self, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        """Those of the offsets that are kept."""
        found = {offset: self._values.get((partition, offset)) for offset in offsets}
        return {offset: value for offset, value in found.items() if value is not None}

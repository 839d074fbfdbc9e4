"""The reading side of a store: sorted keys, read one by one or in order."""

from collections.abc import Iterator
from typing import Protocol

Changes = list[tuple[bytes, bytes | None]]
"""Rows to write, in the order of their keys; None deletes the row."""


class Rows(Protocol):
    """Sorted keys and their values, as last written."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if there is no such row."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in order."""


def first_key_after(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix` (whose last byte is below 255)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])

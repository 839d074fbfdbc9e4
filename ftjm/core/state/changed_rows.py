"""Rows with the changes of the current batch on top."""

from collections.abc import Iterator

from ftjm.core.state.rows import Rows


class ChangedRows:
    """Reads through to `rows`, where the batch has not changed a row."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._changes: dict[bytes, bytes | None] = {}

    def _get(self, key: bytes) -> bytes | None:
        if key in self._changes:
            return self._changes[key]
        return self.rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in order, with the batch's changes. Write nothing while you iterate."""
        changed = sorted([key for key in self._changes if start <= key < end])
        return self._merged(self.rows.scan(start, end), changed) if changed else self.rows.scan(start, end)

    def _merged(self, rows: Iterator[tuple[bytes, bytes]], changed: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        at = 0
        for key, value in rows:
            while at < len(changed) and changed[at] < key:
                if (mine := self._changes[changed[at]]) is not None:
                    yield changed[at], mine
                at += 1
            if at < len(changed) and changed[at] == key:
                continue
            yield key, value
        for mine_key in changed[at:]:
            if (mine := self._changes[mine_key]) is not None:
                yield mine_key, mine

"""The ready queue as `decide` and placement read it: the lines of each queue, and the first job of each line.

A line is what shares queue, share and shape. Its jobs are neighbours in the store, in the order in which they are
served. In a queue with shares, the next job is the first of one of the lines, so placement needs the first of each.
They are found once, from line to line, and remembered from then on. A line is read again only if its first job was
taken.
"""

from collections.abc import Iterator, Mapping

from ftjm.core.state.changed_rows import ChangedRows
from ftjm.core.state.model import job_key
from ftjm.core.state.rows import Rows, first_key_after
from ftjm.core.state.tables import READY_JOBS, SCORE_ZERO, line_key, lines_key

ReadyJob = tuple[int, int, str]
"""Score, order and id of a READY job."""


class ReadyLines(ChangedRows):
    """Reads the ready queue of a partition."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._heads: dict[bytes, bytes] = {}
        """The key from which a line is read, by the line; that behind the line if no job of it is READY."""
        self._first: dict[str, dict[str, ReadyJob | None]] = {}
        """The first job of each line that has some, by queue and share; None if it must be looked up. Of the queues
        that were asked for."""

    def ready(self, queue: str, share: str = "") -> Iterator[ReadyJob]:
        """READY jobs of a line, in the order in which they are served."""
        line = line_key(queue, share)
        start, end = self._heads.get(line, line), first_key_after(line)
        if start == end:
            return
        first = True
        for key, job_id in self.scan(start, end):
            if first:
                # The next read begins here, so that it does not pass over the deleted keys again.
                self._heads[line], first = key, False
            yield int.from_bytes(key[-16:-8]) - SCORE_ZERO, int.from_bytes(key[-8:]), job_id.decode()
        if first:
            self._heads[line] = end

    def first_jobs(self, queue: str) -> Mapping[str, ReadyJob]:
        """The first job of each line of a queue, by the line's share. Write nothing while you use it."""
        known = self._first.get(queue)
        if known is None:
            known = self._first[queue] = dict.fromkeys(self._shares_of(queue))
        for share in [share for share, first in known.items() if first is None]:
            if (first := next(self.ready(queue, share), None)) is not None:
                known[share] = first
            else:
                del known[share]
                self._heads.pop(line_key(queue, share), None)
        return known  # type: ignore[return-value]  # none of them is None

    def _shares_of(self, queue: str) -> Iterator[str]:
        """The shares of a queue that have READY jobs: one look at the store for each."""
        start = lines = lines_key(queue)
        while (found := next(self.scan(start, first_key_after(lines)), None)) is not None:
            share = found[0][len(lines) :].partition(b"\0")[0].decode()
            yield share
            start = first_key_after(line_key(queue, share))

    def ready_rows(self, start: bytes, queue: str) -> Iterator[tuple[bytes, str]]:
        """READY jobs in the order of their rows, from the key `start` on: the row's key, and the job's key.

        Args:
            start: empty to begin with the first.
            queue: only jobs of this queue; of all queues if it is empty.
        """
        lines = lines_key(queue) if queue else READY_JOBS.prefix
        for key, job_id in self.scan(max(start, lines), first_key_after(lines)):
            name, _, _ = key[1:].partition(b"\0")
            yield key, job_key(name.decode(), job_id.decode())

    def _added_ready(self, queue: str, share: str, key: bytes, job: ReadyJob) -> None:
        """A job was put into its line under this key."""
        line = key[:-16]
        head = self._heads.get(line)
        if head is not None and key < head:
            self._heads[line] = key
        if (first := self._first.get(queue)) is not None and (
            share not in first or ((known := first[share]) is not None and job < known)
        ):
            first[share] = job

    def _removed_ready(self, queue: str, share: str, order: int) -> None:
        """The job of this order was taken out of its line."""
        if (first := self._first.get(queue)) is not None and (known := first.get(share)) and known[1] == order:
            first[share] = None

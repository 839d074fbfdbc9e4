"""What attempts wrote down of themselves, read back."""

from __future__ import annotations

from pathlib import Path

from ftjm.chaos.recorder import HEAD, SPAN
from ftjm.checker import Execution


def executions(directory: Path) -> list[Execution]:
    """One for each process that ran an attempt and came so far as to write."""
    return [found for path in sorted(directory.iterdir()) if (found := _read(path)) is not None]


def _read(path: Path) -> Execution | None:
    data = path.read_bytes()
    if len(data) < HEAD.size + SPAN.size:
        return None  # killed before it did anything
    queue, job_id, attempt, worker, _ = path.name.split("+")
    spans = [(start / 1e6, end / 1e6) for start, end in SPAN.iter_unpack(data[HEAD.size :])]
    return Execution(queue, job_id, int(attempt), spans, HEAD.unpack_from(data)[0] == 1, worker)

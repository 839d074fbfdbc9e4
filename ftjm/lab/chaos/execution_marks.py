"""Reads the files in which attempts recorded when they ran; see `recorder.py`."""

from __future__ import annotations

from pathlib import Path

from ftjm.lab.chaos.recorder import HEAD, SPAN
from ftjm.lab.checker import Execution


def executions(directory: Path) -> list[Execution]:
    """Return one execution for each start of an attempt that wrote at least once."""
    return [found for path in sorted(directory.iterdir()) if (found := _read(path)) is not None]


def _read(path: Path) -> Execution | None:
    data = path.read_bytes()
    if len(data) < HEAD.size + SPAN.size:
        return None  # the attempt was killed before it wrote
    queue, job_id, attempt, worker, _ = path.name.split("+")
    written = SPAN.iter_unpack(data[HEAD.size :])
    spans = [(start / 1e6, end / 1e6) for start, end in written if start]  # a task that is stopped may leave a hole
    return Execution(queue, job_id, int(attempt), spans, HEAD.unpack_from(data)[0] == 1, worker)

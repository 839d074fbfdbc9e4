"""The program with a planted fault: a partition of the scheduler gets stuck when a job with this name arrives."""

from __future__ import annotations

import threading
from typing import Any

from ftjm.cli import main
from ftjm.engine.batch import BatchResult
from ftjm.engine.partition import Partition

MARK = "stuck"


def plant() -> None:
    """Replace the function that decides a batch."""
    sound = Partition.work

    def work(self: Partition, now: int, commands: Any = (), *rest: Any, **named: Any) -> BatchResult:
        if any(MARK.encode() in record.value for record in commands):
            threading.Event().wait()
        return sound(self, now, commands, *rest, **named)

    setattr(Partition, "work", work)  # noqa: B010  (mypy does not allow an assignment to a method)


if __name__ == "__main__":
    plant()
    main()

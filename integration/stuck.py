"""The program with a fault planted: a scheduler whose partition gets stuck once a job of this name comes."""

from __future__ import annotations

import threading
from typing import Any

from ftjm.cli import main
from ftjm.engine.partition import Partition

MARK = "stuck"


def plant() -> None:
    """Replace the deciding of a batch."""
    sound = Partition.work

    def work(self: Partition, now: int, commands: Any = (), *rest: Any, **named: Any) -> int:
        if any(MARK.encode() in record.value for record in commands):
            threading.Event().wait()
        return sound(self, now, commands, *rest, **named)

    setattr(Partition, "work", work)  # noqa: B010  (a method, which mypy would not let be replaced)


if __name__ == "__main__":
    plant()
    main()

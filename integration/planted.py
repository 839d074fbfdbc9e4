"""The program with a planted bug: `python -m integration.planted scheduler …` cannot decide about some jobs."""

from __future__ import annotations

from typing import Any

from ftjm.cli import main
from ftjm.core.decide import handlers as decide
from ftjm.core.records.commands import SubmitJob

MARK = "poison"
"""Jobs whose id begins so make `decide` raise."""


def plant() -> None:
    """Replace the handler of submissions by one that fails for some jobs."""
    handlers: dict[type, Any] = decide._HANDLERS
    sound = handlers[SubmitJob]

    def submit(state: Any, command: SubmitJob, now: int, policy: Any) -> Any:
        if command.job_id.startswith(MARK):
            raise ZeroDivisionError("a planted fault")
        return sound(state, command, now, policy)

    handlers[SubmitJob] = submit


if __name__ == "__main__":
    plant()
    main()

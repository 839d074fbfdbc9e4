"""`ftjm chaos` with faults planted in its cluster: `python -m integration.planted_chaos chaos …`.

Its schedulers take attempts for lost that run on, and a row of one store is changed once all have stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

SCHEDULER = "as-scheduler"
"""The first argument of the planted schedulers, which `chaos` starts."""


def hasty() -> None:
    """A scheduler that takes the start of a long job's first attempt for its loss: it runs on, and again elsewhere."""
    from ftjm.chaos import skewed

    skewed.install(Path(sys.argv.pop(1)))  # before anything has asked for the time
    from ftjm.core import attempts, decide
    from ftjm.core.commands import StartAttempt
    from ftjm.core.model import Job, job_key

    handlers: dict[type, Any] = decide._HANDLERS
    sound = handlers[StartAttempt]

    def start(state: Any, command: StartAttempt, now: int, policy: Any) -> Any:
        job = attempts._reported(state, command)
        if command.job_id.startswith("long-") and command.attempt == 1 and isinstance(job, Job):
            return attempts.lost(state, job_key(command.queue, command.job_id), job, "LAPSED", now)
        return sound(state, command, now, policy)

    handlers[StartAttempt] = start


def plant() -> None:
    """Make `chaos` start such schedulers, and change a row behind them."""
    from ftjm.adapters.rocks import RocksStore
    from ftjm.chaos.cluster import Cluster
    from ftjm.chaos.members import Member

    stop, start = Cluster.stop_members, Member.start

    def stop_and_change(self: Cluster) -> None:
        stop(self)
        store = RocksStore(self.stores(0)[0])
        store.write([(b"cplanted", b"")])
        store.close()

    def start_planted(self: Member) -> None:
        command = self._command
        if "ftjm.chaos.skewed" in command:
            at = command.index("ftjm.chaos.skewed")
            self._command = [*command[:at], "integration.planted_chaos", SCHEDULER, *command[at + 1 :]]
        start(self)

    patch.object(Cluster, "stop_members", stop_and_change).start()
    patch.object(Member, "start", start_planted).start()


if __name__ == "__main__":
    if sys.argv[1] == SCHEDULER:
        del sys.argv[1]
        hasty()
    else:
        plant()
    from ftjm.cli import main

    main()

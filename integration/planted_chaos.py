"""`ftjm chaos` with faults planted in its cluster: `python -m integration.planted_chaos chaos …`.

Its schedulers declare running attempts lost, and a row of one store is changed after all schedulers have stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

SCHEDULER = "as-scheduler"
"""The first argument of the planted schedulers, which `chaos` starts."""


def declare_running_attempt_lost() -> None:
    """Plant a fault in the scheduler: it declares the first attempt of a long job lost as soon as it starts, so that
    two attempts run at once.
    """
    from ftjm.lab.chaos import skewed_clock

    skewed_clock.install(Path(sys.argv.pop(1)))  # before another module imports the clock's functions
    from ftjm.core.decide import attempts
    from ftjm.core.decide import handlers as decide
    from ftjm.core.records.commands import StartAttempt
    from ftjm.core.state.model import Job, job_key

    handlers: dict[type, Any] = decide._HANDLERS
    sound = handlers[StartAttempt]

    def start(state: Any, command: StartAttempt, now: int, policy: Any) -> Any:
        job = attempts._reported(state, command)
        if command.job_id.startswith("long-") and command.attempt == 1 and isinstance(job, Job):
            return attempts.lost(state, job_key(command.queue, command.job_id), job, "LAPSED", now)
        return sound(state, command, now, policy)

    handlers[StartAttempt] = start


def plant() -> None:
    """Make `chaos` start faulty schedulers, and change a row after they have stopped."""
    from ftjm.adapters.rocksdb import RocksStore
    from ftjm.lab.chaos.cluster import ChaosCluster
    from ftjm.lab.chaos.members import Member

    stop, start = ChaosCluster.stop_members, Member.start

    def stop_and_change(self: ChaosCluster) -> None:
        stop(self)
        store = RocksStore(self.stores(0)[0])
        store.write([(b"cplanted", b"")])
        store.close()

    def start_planted(self: Member) -> None:
        command = self._command
        if "ftjm.lab.chaos.skewed_clock" in command:
            at = command.index("ftjm.lab.chaos.skewed_clock")
            self._command = [*command[:at], "integration.planted_chaos", SCHEDULER, *command[at + 1 :]]
        start(self)

    patch.object(ChaosCluster, "stop_members", stop_and_change).start()
    patch.object(Member, "start", start_planted).start()


if __name__ == "__main__":
    if sys.argv[1] == SCHEDULER:
        del sys.argv[1]
        declare_running_attempt_lost()
    else:
        plant()
    from ftjm.cli import main

    main()

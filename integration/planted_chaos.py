"""`ftjm chaos` with faults planted in its cluster: `python -m integration.planted_chaos chaos …`.

Its schedulers give workers up at a third of their leases, and a row of one store is changed once all have stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

SCHEDULER = "as-scheduler"
"""The first argument of the planted schedulers, which `chaos` starts."""


def hasty() -> None:
    """A scheduler that hears of leases that are a third of what they are."""
    from ftjm.chaos import skewed

    skewed.install(Path(sys.argv.pop(1)))  # before anything has asked for the time
    from ftjm.engine.liveness import Liveness

    heard = Liveness.heard

    def misheard(self: Liveness, heartbeat: Any, at: int) -> None:
        heard(self, msgspec.structs.replace(heartbeat, lease_ms=heartbeat.lease_ms // 3), at)

    patch.object(Liveness, "heard", misheard).start()


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

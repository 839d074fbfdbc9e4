"""Running a suite by its name."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ftjm.bench import cold, failover, feed, latency, replay, soak, submit, throughput
from ftjm.bench.cluster import Cluster
from ftjm.bench.options import Options, Progress
from ftjm.bench.report import Figure, Report, machine
from ftjm.config import Settings

SUITES: dict[str, Callable[[Cluster], dict[str, Figure]]] = {
    "throughput": throughput.run,
    "latency": latency.run,
    "submit": submit.run,
    "events": feed.run,
    "replay": replay.run,
    "cold-takeover": cold.run,
    "soak": soak.run,
    "failover": failover.run,
}

SETTINGS = {"soak": soak.SETTINGS}
"""What a suite needs the cluster to be set to."""


def run(suite: str, options: Options, progress: Progress, given: Settings) -> Report:
    """Run it on a cluster of its own. Raises FtjmError where a part of that cannot start, or stops."""
    about = machine()
    with Cluster(options, progress, given, SETTINGS.get(suite, {})) as cluster:
        figures = SUITES[suite](cluster)
    settings = msgspec.structs.asdict(options)
    return Report(suite=suite, machine=about, settings=settings, figures=figures)

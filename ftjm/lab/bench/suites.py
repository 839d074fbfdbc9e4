"""The suites by name, and running one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ftjm.lab.bench import (
    backlog,
    bulk,
    cold_takeover,
    failover,
    latency,
    policies,
    read_events,
    replay,
    response,
    scale,
    soak,
    submit,
    throughput,
)
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import Options, Progress
from ftjm.lab.bench.report import BenchReport, Figure, machine
from ftjm.runtime.config import Settings

SUITES: dict[str, Callable[[BenchCluster], dict[str, Figure]]] = {
    "throughput": throughput.run,
    "policies": policies.run,
    "latency": latency.run,
    "response": response.run,
    "submit": submit.run,
    "events": read_events.run,
    "replay": replay.run,
    "cold-takeover": cold_takeover.run,
    "backlog": backlog.run,
    "bulk": bulk.run,
    "scale": scale.run,
    "soak": soak.run,
    "failover": failover.run,
}

SETTINGS = {
    "soak": soak.SETTINGS,
    "backlog": backlog.SETTINGS,
    "bulk": bulk.SETTINGS,
    "policies": policies.SETTINGS,
    "scale": scale.SETTINGS,
}
"""Settings of the cluster that a suite needs."""


def run(suite: str, options: Options, progress: Progress, given: Settings) -> BenchReport:
    """Run a suite on a cluster of its own, and return its report.

    Args:
        given: settings of the user.

    Raises:
        FtjmError: a process of the cluster cannot start, or has failed.
    """
    about = machine()
    with BenchCluster(options, progress, given, SETTINGS.get(suite, {})) as cluster:
        figures = SUITES[suite](cluster)
    settings = msgspec.structs.asdict(options)
    return BenchReport(suite=suite, machine=about, settings=settings, figures=figures)

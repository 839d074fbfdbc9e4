"""The suite `failover`: how long partitions are without an owner when schedulers are killed, stopped, restarted or
added.

A steady load runs all the time. The history checker judges the whole run: nothing may be lost or doubled.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.records import events as e
from ftjm.lab import checker
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind
from ftjm.lab.bench.ownership import OwnershipLog
from ftjm.lab.bench.processes import BenchProcess
from ftjm.lab.bench.report import Figure, percentile, significant
from ftjm.lab.bench.steady_load import SteadyLoad
from ftjm.lab.checker import LogEntry, ViolationKind
from ftjm.runtime import logs

log = logs.get(__name__)

JOBS_PER_SECOND = 10.0
"""Rate of each partition."""
SILENCES = 5
"""Number of schedulers that are stopped instead of killed: they fall silent, as when their host is lost."""
SCALE_TO = 5
PLANS = 3
"""How often the planned ownership (restarts, scaling out and in) are made."""
END_SECONDS_MAX = 60.0
LOGGED_MAX = 10
"""Number of violations that are logged in words."""
STEADY_SECONDS = 5.0
"""Duration of the comparison: the longest pauses of partitions that keep their owner."""
SETTLE_SECONDS = 2.0
"""How long after the last partition has moved the pauses of a move are counted."""


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    options, progress = cluster.options, cluster.progress
    schedulers = {member.name: member for member in cluster.start_schedulers()}
    cluster.start_workers(WorkKind.NOOP)
    killed: list[float] = []
    silent: list[float] = []
    with (
        OwnershipLog(cluster.settings, cluster.group.check) as ownership,
        SteadyLoad(cluster, WorkKind.NOOP, JOBS_PER_SECOND) as load,
    ):
        ownership.until_shared(schedulers)
        progress.step("killing schedulers with kill -9")
        for number in range(options.kills):
            killed += _takeover_times(cluster, ownership, schedulers, number, signal.SIGKILL)
            progress.move(number + 1, options.kills)
        progress.step("stopping schedulers with SIGSTOP")
        for number in range(min(SILENCES, options.kills)):
            silent += _takeover_times(cluster, ownership, schedulers, number, signal.SIGSTOP)
            progress.move(number + 1, SILENCES)
        progress.step("restarting schedulers in order, scaling out and in")
        planned = [
            pause for _ in range(PLANS) for move in _planned_moves(cluster, ownership, schedulers) for pause in move
        ]
        progress.step("measuring pauses without ownership")
        began = time.time_ns() // 1_000_000
        time.sleep(STEADY_SECONDS)
        steady = ownership.pauses(began, time.time_ns() // 1_000_000)
    progress.step("judging the history")
    verdict = _judge(cluster, load.acknowledged())
    doubled = verdict.kinds[ViolationKind.DOUBLED]
    return {
        "kills": options.kills,
        "takeovers": len(killed),
        **_figures("takeover", "s", killed),
        **_figures("silent_takeover", "s", silent),
        **_figures("planned_pause", "ms", [pause * 1000 for pause in planned]),
        **_figures("steady_pause", "ms", [pause * 1000 for pause in steady]),
        "jobs": verdict.jobs,
        "lost": verdict.kinds[ViolationKind.LOST],
        "doubled": doubled,
        "other_violations": sum(verdict.kinds.values()) - verdict.kinds[ViolationKind.LOST] - doubled,
    }


def _figures(name: str, unit: str, values: list[float]) -> dict[str, Figure]:
    if not values:
        return {}
    named = {"p50": 50, "p99": 99, "max": 100}
    return {f"{name}_{which}_{unit}": significant(percentile(values, percent)) for which, percent in named.items()}


def _takeover_times(
    cluster: BenchCluster,
    ownership: OwnershipLog,
    schedulers: dict[str, BenchProcess],
    number: int,
    how: signal.Signals,
) -> list[float]:
    """Kill or stop one scheduler, and start it again. Return how long each of its partitions had no owner, s."""
    victim = schedulers[sorted(schedulers)[number % len(schedulers)]]
    partitions = ownership.owned(victim.name)
    at_ms = time.time_ns() // 1_000_000
    with cluster.group.losing(victim):
        victim.process.send_signal(how)
        taken = ownership.takeovers(partitions, victim.name, at_ms)
    schedulers[victim.name] = cluster.start_scheduler(victim.name)
    ownership.until_shared(schedulers)
    return taken


def _planned_moves(
    cluster: BenchCluster, ownership: OwnershipLog, schedulers: dict[str, BenchProcess]
) -> Iterator[list[float]]:
    """Restart all schedulers one by one, add some, and stop those again. Yield for each move the longest pauses, s."""
    for name in sorted(schedulers):
        began = time.time_ns() // 1_000_000
        cluster.group.stop([schedulers[name]])
        schedulers[name] = cluster.start_scheduler(name)
        ownership.until_shared(schedulers)
        yield _pauses_of_move(ownership, began)
    more = [f"scheduler-{number}" for number in range(len(schedulers), min(SCALE_TO, cluster.options.partitions))]
    began = time.time_ns() // 1_000_000
    schedulers |= {name: cluster.start_scheduler(name) for name in more}
    ownership.until_shared(schedulers)
    yield _pauses_of_move(ownership, began)
    began = time.time_ns() // 1_000_000
    cluster.group.stop([schedulers.pop(name) for name in more])
    ownership.until_shared(schedulers)
    yield _pauses_of_move(ownership, began)


def _pauses_of_move(ownership: OwnershipLog, began_ms: int) -> list[float]:
    time.sleep(SETTLE_SECONDS)
    return ownership.pauses(began_ms, time.time_ns() // 1_000_000)


def _judge(cluster: BenchCluster, jobs: list[checker.JobName]) -> checker.Verdict:
    """Wait until all jobs have ended, and return the verdict on the whole history."""
    deadline = time.monotonic() + END_SECONDS_MAX
    while True:
        verdict = checker.check(_history(cluster), jobs)
        if verdict.succeeded >= len(jobs) or time.monotonic() > deadline:
            for violation in verdict.violations[:LOGGED_MAX]:
                log.error("violation", what=str(violation), todo="report it, with the settings of this run")
            return verdict


def _history(cluster: BenchCluster) -> Iterator[LogEntry]:
    settings = cluster.settings
    with Scan(settings.kafka_settings("bench"), settings.topic("events")) as scan:
        for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
            event: e.Event | e.BatchClosed = codec.decode(record.value)
            yield LogEntry(record.partition, record.offset, event, record.time_ms)

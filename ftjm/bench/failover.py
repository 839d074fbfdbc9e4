"""How long partitions are without an owner when schedulers are killed, fall silent, are restarted, and come and go.

All under a steady load, of which nothing may be lost or doubled: the history checker judges the whole run.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

from ftjm import checker, logs
from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.bench.cluster import Cluster
from ftjm.bench.crew import Member
from ftjm.bench.load import Load
from ftjm.bench.moves import Moves
from ftjm.bench.options import Work
from ftjm.bench.report import Figure, percentile, significant
from ftjm.checker import Entry, Kind
from ftjm.core import events as e

log = logs.get(__name__)

JOBS_PER_SECOND = 10.0
"""For each partition."""
SILENCES = 5
"""Schedulers that are stopped and not killed: as a host that is lost, they say nothing at all."""
SCALE_TO = 5
PLANS = 3
"""So often the planned moves are made."""
END_SECONDS_MAX = 60.0
TOLD_MAX = 10
"""Violations that are told of in words."""
STEADY_SECONDS = 5.0
"""For comparison: the longest pauses of partitions that stay where they are."""
SETTLE_SECONDS = 2.0
"""After the last partition has moved, the pauses of a move are counted for so long."""


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    options, progress = cluster.options, cluster.progress
    crew = {member.name: member for member in cluster.start_schedulers()}
    cluster.start_workers(Work.NOOP)
    killed: list[float] = []
    silent: list[float] = []
    with Moves(cluster.settings, cluster.crew.check) as moves, Load(cluster, Work.NOOP, JOBS_PER_SECOND) as load:
        moves.until_shared(crew)
        progress.step("killing schedulers with kill -9")
        for number in range(options.kills):
            killed += _lose(cluster, moves, crew, number, signal.SIGKILL)
            progress.move(number + 1, options.kills)
        progress.step("stopping schedulers with SIGSTOP")
        for number in range(min(SILENCES, options.kills)):
            silent += _lose(cluster, moves, crew, number, signal.SIGSTOP)
            progress.move(number + 1, SILENCES)
        progress.step("restarting schedulers in order, scaling out and in")
        planned = [pause for _ in range(PLANS) for move in _plan(cluster, moves, crew) for pause in move]
        progress.step("leaving all in peace")
        began = time.time_ns() // 1_000_000
        time.sleep(STEADY_SECONDS)
        steady = moves.pauses(began, time.time_ns() // 1_000_000)
    progress.step("judging the history")
    report = _judge(cluster, load.acknowledged())
    doubled = report.kinds[Kind.DOUBLED]
    return {
        "kills": options.kills,
        "takeovers": len(killed),
        **_figures("takeover", "s", killed),
        **_figures("silent_takeover", "s", silent),
        **_figures("planned_pause", "ms", [pause * 1000 for pause in planned]),
        **_figures("steady_pause", "ms", [pause * 1000 for pause in steady]),
        "jobs": report.jobs,
        "lost": report.kinds[Kind.LOST],
        "doubled": doubled,
        "other_violations": sum(report.kinds.values()) - report.kinds[Kind.LOST] - doubled,
    }


def _figures(name: str, unit: str, values: list[float]) -> dict[str, Figure]:
    if not values:
        return {}
    named = {"p50": 50, "p99": 99, "max": 100}
    return {f"{name}_{which}_{unit}": significant(percentile(values, percent)) for which, percent in named.items()}


def _lose(cluster: Cluster, moves: Moves, crew: dict[str, Member], number: int, how: signal.Signals) -> list[float]:
    """Take one scheduler away, and bring it back; how long each of its partitions was without an owner, s."""
    victim = crew[sorted(crew)[number % len(crew)]]
    partitions = moves.owned(victim.name)
    at_ms = time.time_ns() // 1_000_000
    with cluster.crew.losing(victim):
        victim.process.send_signal(how)
        taken = moves.takeovers(partitions, victim.name, at_ms)
    crew[victim.name] = cluster.start_scheduler(victim.name)
    moves.until_shared(crew)
    return taken


def _plan(cluster: Cluster, moves: Moves, crew: dict[str, Member]) -> Iterator[list[float]]:
    """A rolling restart, then more schedulers, then as many as before; each partition's longest pause of each move."""
    for name in sorted(crew):
        began = time.time_ns() // 1_000_000
        cluster.crew.stop([crew[name]])
        crew[name] = cluster.start_scheduler(name)
        moves.until_shared(crew)
        yield _settled(moves, began)
    more = [f"scheduler-{number}" for number in range(len(crew), min(SCALE_TO, cluster.options.partitions))]
    began = time.time_ns() // 1_000_000
    crew |= {name: cluster.start_scheduler(name) for name in more}
    moves.until_shared(crew)
    yield _settled(moves, began)
    began = time.time_ns() // 1_000_000
    cluster.crew.stop([crew.pop(name) for name in more])
    moves.until_shared(crew)
    yield _settled(moves, began)


def _settled(moves: Moves, began_ms: int) -> list[float]:
    time.sleep(SETTLE_SECONDS)
    return moves.pauses(began_ms, time.time_ns() // 1_000_000)


def _judge(cluster: Cluster, jobs: list[checker.Name]) -> checker.Report:
    """Wait until all have ended, and judge the whole history."""
    deadline = time.monotonic() + END_SECONDS_MAX
    while True:
        report = checker.check(_history(cluster), jobs)
        if report.succeeded >= len(jobs) or time.monotonic() > deadline:
            for violation in report.violations[:TOLD_MAX]:
                log.error("violation", what=str(violation), todo="report it, with this run's settings")
            return report


def _history(cluster: Cluster) -> Iterator[Entry]:
    settings = cluster.settings
    with Scan(settings.kafka_settings("bench"), settings.topic("events")) as scan:
        for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
            event: e.Event | e.BatchClosed = codec.decode(record.value)
            yield Entry(record.partition, record.offset, event, record.time_ms)

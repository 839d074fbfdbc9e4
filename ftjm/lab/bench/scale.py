"""The suite `scale`: what a job costs with more partitions, schedulers and workers, as a curve for each.

Every point is a cluster of its own on the same Kafka, with simulated workers that share a number of slots. The cost is
processor time of schedulers and brokers. Two further figures of each point explain the shape of a curve. What the
cluster takes while it stands idle is divided among the jobs (sessions and partitions have such a cost each). And what a
transaction costs is divided among the jobs that share it: with more partitions each batch has fewer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import psutil

from ftjm.core.records import events as e
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind
from ftjm.lab.bench.report import Figure, rate, significant
from ftjm.lab.bench.throughput import end_to_end
from ftjm.runtime.errors import UsageError

SETTINGS = {"lease_seconds": 15.0}
"""As on brokers of others: so many workers are not on one machine."""
LIMITS = {"partitions": 256, "schedulers": 64, "workers": 10_000}
"""The curves, and the largest number of each."""
SLOTS = 1_000
"""Slots of all workers together, so that workers differ from point to point by their sessions alone."""
WARM_UP = 1_000
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 5.0
KNEE = 1.5
"""A curve has its knee where a job costs this many times as much as at the cheapest point."""


class Point(NamedTuple):
    """What was measured at one point of a curve."""

    per_s: float
    us: float
    """Processor time of schedulers and brokers for one job."""
    scheduler_us: float
    standing_us: float
    """The part of `us` that the idle cluster takes in the same time."""
    batch_jobs: float
    """Jobs for each batch that was committed."""


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    curves = parse(cluster.options.curves)
    measured: dict[tuple[int, ...], Point] = {}
    figures: dict[str, Figure] = {}
    for name, numbers in curves.items():
        points: dict[int, Point] = {}
        for number in numbers:
            options = cluster.options
            sizes = {"partitions": options.partitions, "schedulers": options.schedulers, "workers": options.workers}
            sizes[name] = number
            key = tuple(sizes.values())
            if key not in measured:  # curves share a point
                measured[key] = _measure(cluster, sizes)
            points[number] = measured[key]
        figures |= curve_figures(name, points)
    return figures


def parse(curves: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of each curve, `NAME=N,N,…`.

    Raises:
        UsageError: a curve has another form, an unknown name or a number that is too large.
    """
    found: dict[str, list[int]] = {}
    for curve in curves:
        name, _, numbers = curve.partition("=")
        values = numbers.split(",")
        limit = LIMITS.get(name, 0)
        if not all(value.isdecimal() and 0 < int(value) <= limit for value in values):
            known = ", ".join(f"{each} (up to {most})" for each, most in LIMITS.items())
            raise UsageError(
                f"a curve NAME=N,N,… of one of {known}", f"'{curve}'", "give one, such as --curve workers=1,10,100"
            )
        found[name] = sorted({int(value) for value in values})
    return found


def curve_figures(name: str, points: Mapping[int, Point]) -> dict[str, Figure]:
    """Return the figures of a curve, and its knee: the last number before a job costs too much."""
    figures: dict[str, Figure] = {}
    for number, point in points.items():
        figures |= {f"{name}_{number}_{field}": significant(value) for field, value in point._asdict().items()}
    cheapest = min(points, key=lambda number: points[number].us)
    beyond = [n for n, point in points.items() if n > cheapest and point.us > KNEE * points[cheapest].us]
    return figures | {f"{name}_knee": max(n for n in points if not beyond or n < min(beyond))}


def _measure(cluster: BenchCluster, sizes: Mapping[str, int]) -> Point:
    jobs = cluster.options.jobs
    brokers = [process for name, process in cluster.running_processes().items() if name.startswith("broker")]
    with cluster.beside(**sizes) as beside:
        schedulers = [psutil.Process(each.process.pid) for each in beside.start_schedulers()]
        beside.start_fleet(sizes["workers"], max(1, SLOTS // sizes["workers"]))
        end_to_end(beside, WorkKind.NOOP, min(jobs, WARM_UP))
        about = ", ".join(f"{number} {name}" for name, number in sizes.items())
        beside.progress.step(f"idle: {about}")
        time.sleep(SETTLE_SECONDS)
        idle = [_cpu_seconds(schedulers + brokers)]
        time.sleep(IDLE_SECONDS)
        idle.append(_cpu_seconds(schedulers + brokers))
        began, before = time.monotonic(), [_cpu_seconds(schedulers), _cpu_seconds(brokers)]
        _, seconds = end_to_end(beside, WorkKind.NOOP, jobs)
        took, after = time.monotonic() - began, [_cpu_seconds(schedulers), _cpu_seconds(brokers)]
        batches = beside.counter.counts[e.BatchClosed]
    scheduler, broker = ((after[n] - before[n]) / jobs * 1e6 for n in (0, 1))
    standing = (idle[1] - idle[0]) / IDLE_SECONDS * took / jobs * 1e6
    return Point(rate(jobs, seconds), scheduler + broker, scheduler, standing, jobs / max(1, batches))


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))

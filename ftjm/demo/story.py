"""The demonstration from its first line to its verdict."""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from pathlib import Path

import msgspec

from ftjm import checker
from ftjm.checker import Name, Report
from ftjm.core import events as e
from ftjm.demo import batch
from ftjm.demo.batch import Item
from ftjm.demo.cluster import LOOK_SECONDS, Cluster, takeovers
from ftjm.demo.screen import Screen
from ftjm.embedded import jars

KILL_SCHEDULER_AT = 0.3
KILL_WORKER_AT = 0.6
RUN_SECONDS_MAX = 300.0
VIOLATIONS_SHOWN = 10


class Broken(msgspec.Struct):
    """What was killed, and when."""

    scheduler: str = ""
    scheduler_at_ms: int = 0
    worker: str = ""
    session: str = ""


def play(folder: Path, jobs: int, screen: Screen) -> bool:
    """The whole of it, with its data in `folder`; whether the check passed. Raises FtjmError."""
    batch.require_tools()
    results = folder / "compressed"
    results.mkdir(parents=True, exist_ok=True)
    items = batch.make(results, jobs)
    batch.write(items, folder / "jobs.jsonl")
    first = "" if jars.cache_dir().is_dir() else ", which is fetched once"
    screen.step(f"[bold]starting a cluster[/] as `ftjm up` does: a real Kafka{first}, 2 schedulers, 2 workers")
    with Cluster(folder) as cluster:
        cluster.wait_until_ready()
        screen.step("the cluster is up: every partition has its owner")
        began = time.monotonic()
        acknowledged = cluster.submit(folder / "jobs.jsonl")
        seconds = time.monotonic() - began
        screen.step(f"[bold]{len(acknowledged)} jobs[/] are in the replicated log, after {seconds:.1f} s")
        screen.note("each compresses one file of Python's standard library and prints the digest of the result")
        broken = _break_midway(cluster, len(items), screen)
        seconds = time.monotonic() - began
        screen.step("all have ended; [bold]checking[/] the whole log, and every file that was made")
        report = _judge(cluster, broken, items, acknowledged)
        _tell_figures(cluster, broken, report, len(items) / seconds, screen)
        _tell_of_one(cluster, broken, screen)
        screen.step("stopping the cluster")
    _tell_verdict(report, len(items), screen)
    return report.passed


def _break_midway(cluster: Cluster, total: int, screen: Screen) -> Broken:
    """Follow the log until all jobs have ended, and kill two processes on the way."""
    broken = Broken()
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while len(cluster.ended) < total:
        cluster.check_alive()
        cluster.look()
        done = len(cluster.ended)
        screen.progress(done, total)
        if not broken.scheduler and done >= KILL_SCHEDULER_AT * total:
            broken.scheduler, broken.scheduler_at_ms = cluster.kill_scheduler()
            screen.step(f"[bold red]kill -9[/] of {_process(broken.scheduler)}, after {done} jobs")
        elif not broken.session and done >= KILL_WORKER_AT * total:
            heartbeat, _ = cluster.kill_worker()
            broken.worker, broken.session = f"{heartbeat.worker}@{heartbeat.host}:{heartbeat.pid}", heartbeat.session
            screen.step(f"[bold red]kill -9[/] of {_process(broken.worker)}, after {done} jobs")
        if time.monotonic() > deadline:
            raise cluster.failure(f"{total} jobs to end", f"{done} after {RUN_SECONDS_MAX:g} s")
        time.sleep(LOOK_SECONDS)
    return broken


def _process(name: str) -> str:
    """`scheduler-0@host:123` in words."""
    return f"{name.partition('@')[0]} (process {name.rpartition(':')[2]})"


def _judge(cluster: Cluster, broken: Broken, items: list[Item], acknowledged: list[Name]) -> Report:
    """By the events and the outputs alone."""
    cluster.look()
    wanted = [item.name for item in items]
    report = checker.check(cluster.history, [*wanted, *acknowledged])
    for name in wanted:
        if not isinstance(end := cluster.ended.get(name), e.AttemptSucceeded):
            report.violations.append(f"{'/'.join(name)}: expected a success, but found {type(end).__name__}")
    ends = cluster.ended.items()
    for partition, owner in cluster.owners().items():
        if owner == broken.scheduler:
            report.violations.append(f"events[{partition}]: expected another owner after {owner} was killed")
    printed = {name: end.stdout for name, end in ends if isinstance(end, e.AttemptSucceeded)}
    report.violations += batch.verify(items, printed)
    return report


def _tell_figures(cluster: Cluster, broken: Broken, report: Report, per_second: float, screen: Screen) -> None:
    times = [ms / 1000 for ms in takeovers(cluster.batches, broken.scheduler, broken.scheduler_at_ms).values()]
    lost = _lost_with(cluster, broken)
    screen.blank()
    if times:
        screen.note(
            f"takeover     [bold]{max(times):.2f} s[/] (median {statistics.median(times):.2f} s): from the kill to the "
            f"next decision on each of its {len(times)} partitions"
        )
    screen.note(f"throughput   [bold]{per_second:.0f} jobs/s[/], failures included")
    again = {(event.queue, event.job_id) for event in lost}
    screen.note(
        f"lost         {len(lost)} attempt(s) with the worker, known when its lease ran out; "
        f"{sum(name in cluster.ended for name in again)} job(s) run again elsewhere"
    )
    screen.note(f"the log      {report.events} events in {report.batches} transactions; {report.attempts} attempts")


def _lost_with(cluster: Cluster, broken: Broken) -> list[e.AttemptLost]:
    events = (entry.event for entry in cluster.history)
    return [event for event in events if isinstance(event, e.AttemptLost) and event.session == broken.session]


def _tell_of_one(cluster: Cluster, broken: Broken, screen: Screen) -> None:
    """One job that lost its worker, in the words of the log."""
    lost = _lost_with(cluster, broken)
    if not lost:
        return
    name = (lost[0].queue, lost[0].job_id)
    screen.blank()
    screen.note(f"one of them, as [bold]ftjm history {'/'.join(name)}[/] shows it:")
    for entry in cluster.history:
        if isinstance(entry.event, e.Event) and (entry.event.queue, entry.event.job_id) == name:
            screen.note(f"  {_told(entry.event)}")
    screen.blank()


def _told(event: e.Event) -> str:
    at = datetime.fromtimestamp(event.at / 1000).astimezone().time().isoformat("milliseconds")
    attempt, worker = getattr(event, "attempt", ""), getattr(event, "session", "").partition(".")[0]
    return f"{at}  {type(event).__name__:<18}{f'attempt {attempt}, {worker}' if attempt else ''}".rstrip()


def _tell_verdict(report: Report, jobs: int, screen: Screen) -> None:
    screen.blank()
    if report.passed:
        screen.note(
            f"[bold green]passed[/]: of {jobs} jobs every one succeeded, none is missing, none succeeded twice, "
            "and every digest is right"
        )
        return
    screen.note(f"[bold red]failed[/]: {len(report.violations)} violation(s)")
    screen.raw(report.violations[:VIOLATIONS_SHOWN])

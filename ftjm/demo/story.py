"""The demonstration from its first line to its verdict."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import ftjm
from ftjm import checker
from ftjm.checker import Name, Report
from ftjm.core import events as e
from ftjm.demo import batch, facts
from ftjm.demo.batch import Item, Survey
from ftjm.demo.cluster import LOOK_SECONDS, Cluster, takeovers
from ftjm.demo.screen import Screen
from ftjm.demo.web import ENDED, Feed
from ftjm.embedded import jars
from ftjm.sdk.handle import Handle

KILL_SCHEDULER_AT = 0.3
KILL_WORKER_AT = 0.55
KILL_API_AT = 0.7
RUN_SECONDS_MAX = 300.0
ANSWER_SECONDS_MAX = 60.0
VIOLATIONS_SHOWN = 10


class Work(NamedTuple):
    """All that is to be done."""

    items: list[Item]
    surveys: list[Survey]

    @property
    def names(self) -> list[Name]:
        return [item.name for item in self.items] + [survey.name for survey in self.surveys]


class Broken(msgspec.Struct):
    """What was killed, and when."""

    scheduler: str = ""
    scheduler_at_ms: int = 0
    session: str = ""
    api: int = 0


class Known(NamedTuple):
    """What the API and the client know at the end."""

    states: dict[str, int]
    succeeded: list[str]
    results: dict[str, dict[Name, Any]]
    """Of the Python tasks, by who tells them."""


def play(folder: Path, jobs: int, screen: Screen) -> bool:
    """The whole of it, with its data in `folder`; whether the check passed. Raises FtjmError."""
    batch.require_tools()
    results = folder / "compressed"
    results.mkdir(parents=True, exist_ok=True)
    commands, tasks = batch.share(jobs)
    work = Work(batch.make(results, commands), batch.surveys(tasks))
    batch.write(work.items, folder / "jobs.jsonl")
    first = "" if jars.cache_dir().is_dir() else ", which is fetched once"
    screen.step(f"[bold]starting a cluster[/] as `ftjm up` does: a real Kafka{first}, 2 schedulers, 2 workers, an API")
    with Cluster(folder) as cluster:
        cluster.wait_until_ready()
        screen.step(f"the cluster is up: every partition has its owner, says {cluster.web.address}/api/v1/partitions")
        with Feed(cluster.web.address) as feed, ftjm.Client(settings=cluster.settings) as client:
            report = _run(cluster, feed, client, work, screen)
        screen.step("stopping the cluster")
    _tell_verdict(report, len(work.names), screen)
    return report.passed


def _run(cluster: Cluster, feed: Feed, client: ftjm.Client, work: Work, screen: Screen) -> Report:
    """Submit all, break the cluster, and judge what became of it."""
    began = time.monotonic()
    acknowledged = cluster.submit(cluster.data_dir / "jobs.jsonl")
    handles = client.submit_many((survey.job_id, survey.request) for survey in work.surveys)
    seconds = time.monotonic() - began
    screen.step(f"[bold]{len(work.names)} jobs[/] are in the replicated log, after {seconds:.1f} s")
    screen.note(f"{len(work.items)} commands, of a file: compress a file of Python's library, print the digest")
    screen.note(f"{len(work.surveys)} Python tasks, of a program: count what a module of it defines")
    screen.note("followed through HTTP: /api/v1/queues for how many have ended, /api/v1/events for each event")
    broken = _break_midway(cluster, len(work.names), screen)
    per_second = len(work.names) / (time.monotonic() - began)
    screen.step("all have ended; [bold]checking[/] the whole log, every file, every result, and what the API says")
    acknowledged += [(survey.queue, survey.job_id) for survey in work.surveys]
    cluster.read_log()
    known = _ask(cluster, work, handles)
    report = _judge(cluster, broken, work, acknowledged)
    report.violations += _compare(cluster, feed, work, known)
    _tell_figures(cluster, broken, report, per_second, screen)
    _tell_of_http(feed, known, screen)
    _tell_of_one(cluster, broken, screen)
    return report


def _break_midway(cluster: Cluster, total: int, screen: Screen) -> Broken:
    """Follow the API until all jobs have ended, and kill three processes on the way."""
    broken = Broken()
    deadline = time.monotonic() + RUN_SECONDS_MAX
    done = 0
    while done < total or not broken.api:
        cluster.check_alive()
        with suppress(OSError):  # it was killed, and is started again
            counts = cluster.web.counts()
            done = max(done, sum(counts[state] for state in ENDED))
            screen.progress(done, total)
            _break(cluster, broken, done, done / total, screen)
        if time.monotonic() > deadline:
            raise cluster.failure(f"{total} jobs to end", f"{done} after {RUN_SECONDS_MAX:g} s")
        time.sleep(LOOK_SECONDS)
    cluster.wait_for_api()
    return broken


def _break(cluster: Cluster, broken: Broken, done: int, part: float, screen: Screen) -> None:
    """Kill what is due, one at a time."""
    if not broken.scheduler and part >= KILL_SCHEDULER_AT:
        broken.scheduler, broken.scheduler_at_ms = cluster.kill_scheduler()
        victim = broken.scheduler.partition("@")[0], broken.scheduler.rpartition(":")[2]
    elif not broken.session and part >= KILL_WORKER_AT:
        worker = cluster.kill_worker()
        broken.session = worker["session"]
        victim = worker["worker"], str(worker["pid"])
    elif not broken.api and part >= KILL_API_AT:
        broken.api = cluster.kill_api()
        victim = "the API", str(broken.api)
    else:
        return
    screen.step(f"[bold red]kill -9[/] of {victim[0]} (process {victim[1]}), after {done} jobs")


def _ask(cluster: Cluster, work: Work, handles: Sequence[Handle[dict[str, int]]]) -> Known:
    """What the API and the client tell, now that all is over."""
    names = [survey.name for survey in work.surveys]
    return Known(
        dict(cluster.web.counts()),
        list(cluster.web.jobs("SUCCEEDED")),
        {
            "the client": {name: _result(handle) for name, handle in zip(names, handles, strict=True)},
            "the API": {(q, j): cluster.web.get(f"/jobs/{q}/{j}")["result"] for q, j in names},
        },
    )


def _result(handle: Handle[Any]) -> Any:
    with suppress(ftjm.JobFailed, ftjm.Refused, TimeoutError):
        return handle.result(ANSWER_SECONDS_MAX)
    return None


def _judge(cluster: Cluster, broken: Broken, work: Work, acknowledged: list[Name]) -> Report:
    """By the events and the outputs alone."""
    report = checker.check(cluster.history, [*work.names, *acknowledged])
    for name in work.names:
        if not isinstance(end := cluster.ended.get(name), e.AttemptSucceeded):
            report.violations.append(f"{'/'.join(name)}: expected a success, but found {type(end).__name__}")
    for partition, owner in cluster.owners().items():
        if owner == broken.scheduler:
            report.violations.append(f"events[{partition}]: expected another owner after {owner} was killed")
    ends = {name: end for name, end in cluster.ended.items() if isinstance(end, e.AttemptSucceeded)}
    report.violations += batch.verify(work.items, {name: end.stdout for name, end in ends.items()})
    return report


def _compare(cluster: Cluster, feed: Feed, work: Work, known: Known) -> Iterator[str]:
    """What the API and the client told, against the log; and results against what they must be."""
    logged = facts.told(cluster.history)
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while len(feed.places) < len(logged) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    yield from facts.verify_feed(list(feed.places), logged)
    ends = {name: end for name, end in cluster.ended.items() if isinstance(end, e.AttemptSucceeded)}
    yield from facts.verify_jobs(known.states, known.succeeded, ends)
    wanted = {survey.name: survey.result() for survey in work.surveys}
    in_log = {name: msgspec.json.decode(ends[name].result) for name in wanted if name in ends}
    yield from facts.verify_results(wanted, known.results | {"the log": in_log})


def _tell_of_http(feed: Feed, known: Known, screen: Screen) -> None:
    counted = sum((Counter(result) for result in known.results["the API"].values() if result), Counter[str]())
    screen.note(
        f"HTTP         {len(known.succeeded)} jobs in its pages, {len(feed.places)} events in its feed, which went on "
        f"{feed.resumed} time(s) behind Last-Event-ID"
    )
    screen.note(
        f"the tasks    found {counted['functions']} functions and {counted['classes']} classes in "
        f"{counted['lines']} lines of Python"
    )


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
            "every digest and result is right, and the API says what the log says"
        )
        return
    screen.note(f"[bold red]failed[/]: {len(report.violations)} violation(s)")
    screen.raw(report.violations[:VIOLATIONS_SHOWN])

"""The demonstration from its first line to its verdict.

1. Start a cluster with `ftjm up`: a real Kafka, two schedulers, two workers, the API.
2. Submit commands with `ftjm submit -f`, and Python tasks with the Python client.
3. While the jobs run, kill a scheduler, a worker and the API, each with SIGKILL.
4. When all jobs have ended, judge: the history checker reads the log, every output and result is checked, and the API's
   answers are compared with the log.
"""

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
from ftjm.core.records import events as e
from ftjm.lab import checker
from ftjm.lab.checker import JobName, Verdict
from ftjm.lab.demo import batch, cross_checks
from ftjm.lab.demo.api_client import ENDED, FeedListener
from ftjm.lab.demo.batch import CompressJob, SurveyJob
from ftjm.lab.demo.cluster import POLL_SECONDS, DemoCluster, takeovers
from ftjm.lab.demo.screen import Screen
from ftjm.local import jars
from ftjm.sdk.handle import Handle

KILL_SCHEDULER_AT = 0.3
KILL_WORKER_AT = 0.55
KILL_API_AT = 0.7
RUN_SECONDS_MAX = 300.0
ANSWER_SECONDS_MAX = 60.0
VIOLATIONS_SHOWN = 10


class DemoJobs(NamedTuple):
    """The jobs of the demonstration."""

    items: list[CompressJob]
    surveys: list[SurveyJob]

    @property
    def names(self) -> list[JobName]:
        """Names of all jobs."""
        return [item.name for item in self.items] + [survey.name for survey in self.surveys]


class KilledProcesses(msgspec.Struct):
    """The processes that were killed; empty or 0 until then."""

    scheduler: str = ""
    """The scheduler as owner: `name@host:pid`."""
    scheduler_at_ms: int = 0
    session: str = ""
    """Session of the worker."""
    api: int = 0
    """Pid of the API."""


class ApiAnswers(NamedTuple):
    """The answers of the API and the client at the end."""

    states: dict[str, int]
    succeeded: list[str]
    results: dict[str, dict[JobName, Any]]
    """Results of the Python tasks, by their source."""


def run_demo(folder: Path, jobs: int, screen: Screen) -> bool:
    """Run the demonstration with its data in `folder`, and return whether all checks passed.

    Args:
        jobs: number of jobs; 0 for one for each file of the library, and tasks.

    Raises:
        FtjmError: the cluster cannot be started, or has failed.
    """
    batch.require_tools()
    results = folder / "compressed"
    results.mkdir(parents=True, exist_ok=True)
    commands, tasks = batch.share(jobs)
    work = DemoJobs(batch.make(results, commands), batch.surveys(tasks))
    batch.write(work.items, folder / "jobs.jsonl")
    first = "" if jars.cache_dir().is_dir() else ", which is downloaded once"
    screen.step(f"[bold]starting a cluster[/] as `ftjm up` does: a real Kafka{first}, 2 schedulers, 2 workers, an API")
    with DemoCluster(folder) as cluster:
        cluster.wait_until_ready()
        screen.step(f"the cluster is up: every partition has an owner, see {cluster.api.address}/api/v1/partitions")
        with FeedListener(cluster.api) as feed, ftjm.Client(settings=cluster.settings) as client:
            verdict = _run(cluster, feed, client, work, screen)
        screen.step("stopping the cluster")
    _show_verdict(verdict, len(work.names), screen)
    return verdict.passed


def _run(cluster: DemoCluster, feed: FeedListener, client: ftjm.Client, work: DemoJobs, screen: Screen) -> Verdict:
    """Submit all jobs, kill processes, and judge the result."""
    began = time.monotonic()
    acknowledged = cluster.submit(cluster.data_dir / "jobs.jsonl")
    handles = client.submit_many((survey.job_id, survey.request) for survey in work.surveys)
    seconds = time.monotonic() - began
    screen.step(f"[bold]{len(work.names)} jobs[/] are in the replicated log, after {seconds:.1f} s")
    screen.note(f"{len(work.items)} commands, submitted as a file: each compresses a file of Python's library")
    screen.note(f"{len(work.surveys)} Python tasks, submitted by a program: each counts what a module defines")
    screen.note("followed over HTTP: /api/v1/queues counts the jobs, /api/v1/events sends each event")
    killed = _kill_midway(cluster, len(work.names), screen)
    per_second = len(work.names) / (time.monotonic() - began)
    screen.step("all jobs have ended; [bold]checking[/] the whole log, every file, every result, and what the API says")
    acknowledged += [(survey.queue, survey.job_id) for survey in work.surveys]
    cluster.read_log()
    answers = _query(cluster, work, handles)
    verdict = _judge(cluster, killed, work, acknowledged)
    verdict.violations += _compare(cluster, feed, work, answers)
    _show_figures(cluster, killed, verdict, per_second, screen)
    _show_http(feed, answers, screen)
    _show_one_job(cluster, killed, screen)
    return verdict


def _kill_midway(cluster: DemoCluster, total: int, screen: Screen) -> KilledProcesses:
    """Follow the API until all jobs have ended, and kill three processes meanwhile."""
    killed = KilledProcesses()
    deadline = time.monotonic() + RUN_SECONDS_MAX
    done = 0
    while done < total or not killed.api:
        cluster.check_running()
        with suppress(OSError):  # the API was killed, and starts again
            counts = cluster.api.counts()
            done = max(done, sum(counts[state] for state in ENDED))
            screen.progress(done, total)
            _kill_if_due(cluster, killed, done, done / total, screen)
        if time.monotonic() > deadline:
            raise cluster.failure(f"{total} jobs to end", f"{done} after {RUN_SECONDS_MAX:g} s")
        time.sleep(POLL_SECONDS)
    cluster.wait_for_api()
    return killed


def _kill_if_due(cluster: DemoCluster, killed: KilledProcesses, done: int, part: float, screen: Screen) -> None:
    """Kill the next process if it is due, at most one in a call."""
    if not killed.scheduler and part >= KILL_SCHEDULER_AT:
        killed.scheduler, killed.scheduler_at_ms = cluster.kill_scheduler()
        victim = killed.scheduler.partition("@")[0], killed.scheduler.rpartition(":")[2]
    elif not killed.session and part >= KILL_WORKER_AT:
        worker = cluster.kill_worker()
        killed.session = worker["session"]
        victim = worker["worker"], str(worker["pid"])
    elif not killed.api and part >= KILL_API_AT:
        killed.api = cluster.kill_api()
        victim = "the API", str(killed.api)
    else:
        return
    screen.step(f"[bold red]kill -9[/] of {victim[0]} (process {victim[1]}), after {done} jobs")


def _query(cluster: DemoCluster, work: DemoJobs, handles: Sequence[Handle[dict[str, int]]]) -> ApiAnswers:
    """Ask the API and the client about all jobs, after their end."""
    names = [survey.name for survey in work.surveys]
    return ApiAnswers(
        dict(cluster.api.counts()),
        list(cluster.api.jobs("SUCCEEDED")),
        {
            "the client": {name: _result(handle) for name, handle in zip(names, handles, strict=True)},
            "the API": {(q, j): cluster.api.get(f"/jobs/{q}/{j}").get("result") for q, j in names},
        },
    )


def _result(handle: Handle[Any]) -> Any:
    with suppress(ftjm.JobFailed, ftjm.Refused, TimeoutError):
        return handle.result(ANSWER_SECONDS_MAX)
    return None


def _judge(cluster: DemoCluster, killed: KilledProcesses, work: DemoJobs, acknowledged: list[JobName]) -> Verdict:
    """Judge the events and the outputs."""
    verdict = checker.check(cluster.history, [*work.names, *acknowledged])
    for name in work.names:
        if not isinstance(end := cluster.ended.get(name), e.AttemptSucceeded):
            verdict.violations.append(f"{'/'.join(name)}: expected a success, but found {type(end).__name__}")
    for partition, owner in cluster.owners().items():
        if owner == killed.scheduler:
            verdict.violations.append(f"events[{partition}]: expected another owner after {owner} was killed")
    ends = {name: end for name, end in cluster.ended.items() if isinstance(end, e.AttemptSucceeded)}
    verdict.violations += batch.verify(work.items, {name: end.stdout for name, end in ends.items()})
    return verdict


def _compare(cluster: DemoCluster, feed: FeedListener, work: DemoJobs, answers: ApiAnswers) -> Iterator[str]:
    """Compare the API and the client with the log, and results with what they must be."""
    logged = cross_checks.logged_positions(cluster.history)
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while len(feed.positions) < len(logged) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    yield from cross_checks.verify_feed(list(feed.positions), logged)
    ends = {name: end for name, end in cluster.ended.items() if isinstance(end, e.AttemptSucceeded)}
    yield from cross_checks.verify_jobs(answers.states, answers.succeeded, ends)
    wanted = {survey.name: survey.result() for survey in work.surveys}
    in_log = {name: msgspec.json.decode(ends[name].result) for name in wanted if name in ends}
    yield from cross_checks.verify_results(wanted, answers.results | {"the log": in_log})


def _show_http(feed: FeedListener, answers: ApiAnswers, screen: Screen) -> None:
    counted = sum((Counter(result) for result in answers.results["the API"].values() if result), Counter[str]())
    screen.note(
        f"HTTP         {len(answers.succeeded)} jobs in its pages, {len(feed.positions)} events in its feed, which "
        f"continued {feed.resumed} time(s) after a Last-Event-ID"
    )
    screen.note(
        f"the tasks    found {counted['functions']} functions and {counted['classes']} classes in "
        f"{counted['lines']} lines of Python"
    )


def _show_figures(
    cluster: DemoCluster, killed: KilledProcesses, verdict: Verdict, per_second: float, screen: Screen
) -> None:
    times = [ms / 1000 for ms in takeovers(cluster.batches, killed.scheduler, killed.scheduler_at_ms).values()]
    lost = _lost_with(cluster, killed)
    screen.blank()
    if times:
        screen.note(
            f"takeover     [bold]{max(times):.2f} s[/] (median {statistics.median(times):.2f} s): from the kill to the "
            f"next decision on each of its {len(times)} partitions"
        )
    screen.note(f"throughput   [bold]{per_second:.0f} jobs/s[/], failures included")
    rerun_jobs = {(event.queue, event.job_id) for event in lost}
    screen.note(
        f"lost         {len(lost)} attempt(s) with the worker, lost when its lease ran out; "
        f"{sum(name in cluster.ended for name in rerun_jobs)} job(s) ran again elsewhere"
    )
    screen.note(f"the log      {verdict.events} events in {verdict.batches} transactions; {verdict.attempts} attempts")


def _lost_with(cluster: DemoCluster, killed: KilledProcesses) -> list[e.AttemptLost]:
    events = (entry.event for entry in cluster.history)
    return [event for event in events if isinstance(event, e.AttemptLost) and event.session == killed.session]


def _show_one_job(cluster: DemoCluster, killed: KilledProcesses, screen: Screen) -> None:
    """Show the events of one job that lost its worker."""
    lost = _lost_with(cluster, killed)
    if not lost:
        return
    name = (lost[0].queue, lost[0].job_id)
    screen.blank()
    screen.note(f"one of them, as [bold]ftjm history {'/'.join(name)}[/] shows it:")
    for entry in cluster.history:
        if isinstance(entry.event, e.Event) and (entry.event.queue, entry.event.job_id) == name:
            screen.note(f"  {_event_line(entry.event)}")
    screen.blank()


def _event_line(event: e.Event) -> str:
    at = datetime.fromtimestamp(event.at / 1000).astimezone().time().isoformat("milliseconds")
    attempt, worker = getattr(event, "attempt", ""), getattr(event, "session", "").partition(".")[0]
    return f"{at}  {type(event).__name__:<18}{f'attempt {attempt}, {worker}' if attempt else ''}".rstrip()


def _show_verdict(verdict: Verdict, jobs: int, screen: Screen) -> None:
    screen.blank()
    if verdict.passed:
        screen.note(
            f"[bold green]passed[/]: of {jobs} jobs every one succeeded, none is missing, none succeeded twice, "
            "every digest and result is right, and the API says what the log says"
        )
        return
    screen.note(f"[bold red]failed[/]: {len(verdict.violations)} violation(s)")
    screen.raw(verdict.violations[:VIOLATIONS_SHOWN])

"""The suite `throughput`: jobs per second, submitted, drained and end to end.

Three kinds of jobs: those that end at once, which measure the engine and are compared with the bare pipeline; and what
users run, Python tasks and commands, which are compared with the rate of starting processes.
"""

from __future__ import annotations

from typing import NamedTuple

from ftjm.core.records import events as e
from ftjm.lab.bench import baseline, spawn_rate
from ftjm.lab.bench.client import ClientLoad, Elapsed
from ftjm.lab.bench.cluster import TIMEOUT_SECONDS, BenchCluster
from ftjm.lab.bench.options import Options, WorkKind
from ftjm.lab.bench.processes import BenchProcess, cpu_seconds
from ftjm.lab.bench.report import Figure, rate, significant


class Rates(NamedTuple):
    """How fast jobs of one kind are, per second."""

    drain: float
    """Jobs that all waited before the first worker started, from the first dispatch to the last success."""
    submit: float
    end_to_end: float
    scheduler_us: float
    """Processor time of all schedulers for one job, end to end."""
    worker_us: float
    """The same for the workers, without the processes that they start."""


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    jobs = cluster.options.jobs
    schedulers = cluster.start_schedulers()
    engine = measure(cluster, WorkKind.NOOP, jobs, schedulers)
    users = _users_jobs(cluster, schedulers)
    cluster.group.stop(schedulers)
    ceiling_submit_seconds, ceiling_seconds = _bare(cluster)
    return {
        "end_to_end_per_s": significant(engine.end_to_end),
        "submit_per_s": significant(engine.submit),
        "drain_per_s": significant(engine.drain),
        "ceiling_per_s": rate(jobs, ceiling_seconds),
        "ratio": significant(engine.end_to_end * ceiling_seconds / jobs),
        "ceiling_submit_per_s": rate(jobs, ceiling_submit_seconds),
        # Processor time of a job: it hardly depends on other work of the machine.
        "scheduler_us": significant(engine.scheduler_us),
        "worker_us": significant(engine.worker_us),
        **users,
    }


def _users_jobs(cluster: BenchCluster, schedulers: list[BenchProcess]) -> dict[str, Figure]:
    """Measure what users run: Python tasks and commands. Return no figures if there should be no such jobs."""
    jobs = cluster.options.command_jobs
    if not jobs:
        return {}
    tasks = measure(cluster, WorkKind.TASK, jobs, schedulers)
    # The rate of the machine may change during the run, so it is measured on both sides of what is compared with it.
    cluster.progress.step("spawning")
    spawn_before = spawn_rate.measure()
    commands = measure(cluster, WorkKind.COMMAND, jobs, schedulers)
    cluster.progress.step("spawning")
    spawned = (spawn_before + spawn_rate.measure()) / 2
    return {
        "task_jobs_per_s": significant(tasks.end_to_end),
        "task_drain_per_s": significant(tasks.drain),
        "task_scheduler_us": significant(tasks.scheduler_us),
        "command_jobs_per_s": significant(commands.end_to_end),
        "command_drain_per_s": significant(commands.drain),
        "command_scheduler_us": significant(commands.scheduler_us),
        "spawn_per_s": significant(spawned),
        "command_ratio": significant(commands.end_to_end / spawned),
    }


def measure(cluster: BenchCluster, work: WorkKind, jobs: int, schedulers: list[BenchProcess]) -> Rates:
    """Let new workers drain `jobs` jobs that wait, then submit as many while they run. Stop the workers at the end."""
    drain_seconds, workers = _drain(cluster, work, jobs)
    before = cpu_seconds(schedulers), cpu_seconds(workers)
    submit_seconds, seconds = end_to_end(cluster, work, jobs)
    after = cpu_seconds(schedulers), cpu_seconds(workers)
    cluster.group.stop(workers)
    return Rates(
        drain=jobs / drain_seconds,
        submit=jobs / submit_seconds,
        end_to_end=jobs / seconds,
        scheduler_us=(after[0] - before[0]) / jobs * 1e6,
        worker_us=(after[1] - before[1]) / jobs * 1e6,
    )


def _drain(cluster: BenchCluster, work: WorkKind, jobs: int) -> tuple[float, list[BenchProcess]]:
    """Let workers drain jobs that wait.

    Return the time from the first dispatch to the last success, s, and the workers.
    """
    counter = cluster.counter
    counter.forget()
    clients = cluster.start_clients(jobs, work)
    cluster.progress.step(f"submitting jobs that wait, {work}")
    counter.until(e.JobSubmitted, jobs)
    cluster.submitted(clients)
    workers = cluster.start_workers(work)
    cluster.progress.step(f"draining, {work}")
    ended = counter.until(e.AttemptSucceeded, jobs)
    return ended - counter.first[e.AttemptDispatched], workers


def end_to_end(cluster: BenchCluster, work: WorkKind, jobs: int, load: ClientLoad | None = None) -> tuple[float, float]:
    """Submit jobs while workers run.

    Args:
        load: as in `BenchCluster.start_clients`.

    Returns:
        The time from the first submission until the log has the last one, and until the last one is decided and as many
        jobs have succeeded, s. Those may be others, which waited before.
    """
    cluster.counter.forget()
    clients = cluster.start_clients(jobs, work, load)
    cluster.progress.step(f"end to end, {work}")
    cluster.counter.until(e.JobSubmitted, jobs)
    ended = cluster.counter.until(e.AttemptSucceeded, cluster.counter.succeeded_before + jobs)
    submitted = cluster.submitted(clients)
    return submitted.ended - submitted.began, ended - submitted.began


def _bare(cluster: BenchCluster) -> tuple[float, float]:
    """Return the two times of `_end_to_end` for the bare pipeline, s."""
    cluster.progress.step("the bare pipeline")
    options, settings = cluster.options, cluster.settings
    prefix = f"{settings.cluster}-bare"
    kafka = {**settings.kafka, "bootstrap.servers": settings.bootstrap}
    baseline.make_topics(kafka, prefix, options.partitions)
    try:
        lanes = [
            baseline.PipelineLane(settings.bootstrap, prefix, number, share, str(cluster.folder))
            for number, share in enumerate(shares(options))
        ]
        started: dict[str, list[BenchProcess]] = {}
        for role in ("bare-scheduler", "bare-worker", "bare-client"):
            started[role] = [cluster.group.start_role(f"{role}-{lane.partition}", role, lane) for lane in lanes]
            if role != "bare-client":
                cluster.group.await_ready(started[role], TIMEOUT_SECONDS)
        found: dict[str, list[Elapsed]] = {
            role: cluster.group.results(members, Elapsed, TIMEOUT_SECONDS) for role, members in started.items()
        }
    finally:
        baseline.delete_topics(kafka, prefix)
    began = min(client.began for client in found["bare-client"])
    submitted = max(client.ended for client in found["bare-client"])
    return submitted - began, max(scheduler.ended for scheduler in found["bare-scheduler"]) - began


def shares(options: Options) -> list[int]:
    """Return the number of jobs for each partition."""
    each, rest = divmod(options.jobs, options.partitions)
    return [each + (number < rest) for number in range(options.partitions)]

"""How many jobs a second: submitted, drained and end to end, beside the bare pipeline's."""

from __future__ import annotations

from ftjm.bench import bare
from ftjm.bench.client import Submitted
from ftjm.bench.cluster import TIMEOUT_SECONDS, Cluster
from ftjm.bench.crew import Member, cpu_seconds
from ftjm.bench.options import Options, Work
from ftjm.bench.report import Figure, rate, significant
from ftjm.core import events as e


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    jobs = cluster.options.jobs
    schedulers = cluster.start_schedulers()
    drain_seconds, workers = _drain(cluster)
    before = cpu_seconds(schedulers), cpu_seconds(workers)
    submit_seconds, seconds = _end_to_end(cluster, Work.NOOP, jobs)
    after = cpu_seconds(schedulers), cpu_seconds(workers)
    cluster.crew.stop(workers)
    command_seconds = _real_jobs(cluster, Work.COMMAND)
    task_seconds = _real_jobs(cluster, Work.TASK)
    cluster.crew.stop(schedulers)
    ceiling_submit_seconds, ceiling_seconds = _bare(cluster)
    figures: dict[str, Figure] = {
        "end_to_end_per_s": rate(jobs, seconds),
        "submit_per_s": rate(jobs, submit_seconds),
        "drain_per_s": rate(jobs, drain_seconds),
        "ceiling_per_s": rate(jobs, ceiling_seconds),
        "ratio": significant(ceiling_seconds / seconds),
        "ceiling_submit_per_s": rate(jobs, ceiling_submit_seconds),
        # Of processors, so that it says as much on a machine that has other things to do.
        "scheduler_us": significant((after[0] - before[0]) / jobs * 1e6),
        "worker_us": significant((after[1] - before[1]) / jobs * 1e6),
    }
    if command_seconds:
        figures["command_jobs_per_s"] = rate(cluster.options.command_jobs, command_seconds)
        figures["task_jobs_per_s"] = rate(cluster.options.command_jobs, task_seconds)
    return figures


def _drain(cluster: Cluster) -> tuple[float, list[Member]]:
    """From the first dispatch of jobs that wait to the last success, s; and the workers that did them."""
    jobs, watch = cluster.options.jobs, cluster.watch
    watch.forget()
    clients = cluster.start_clients(jobs, Work.NOOP)
    cluster.progress.step("submitting jobs that wait")
    watch.until(e.JobSubmitted, jobs)
    cluster.submitted(clients)
    workers = cluster.start_workers(Work.NOOP)
    cluster.progress.step("draining")
    ended = watch.until(e.AttemptSucceeded, jobs)
    return ended - watch.first[e.AttemptDispatched], workers


def _end_to_end(cluster: Cluster, work: Work, jobs: int) -> tuple[float, float]:
    """From the first submission to the log's taking the last, and to the last success, s."""
    cluster.watch.forget()
    clients = cluster.start_clients(jobs, work)
    cluster.progress.step(f"end to end, {work}")
    ended = cluster.watch.until(e.AttemptSucceeded, jobs)
    submitted = cluster.submitted(clients)
    return submitted.ended - submitted.began, ended - submitted.began


def _real_jobs(cluster: Cluster, work: Work) -> float:
    """Seconds for jobs that run something, by workers that have done some before; 0 if none are wanted."""
    options = cluster.options
    if not options.command_jobs:
        return 0.0
    workers = cluster.start_workers(work)
    _end_to_end(cluster, work, 2 * options.workers * options.command_slots)
    _, seconds = _end_to_end(cluster, work, options.command_jobs)
    cluster.crew.stop(workers)
    return seconds


def _bare(cluster: Cluster) -> tuple[float, float]:
    """The same of the bare pipeline."""
    cluster.progress.step("the bare pipeline")
    options, settings = cluster.options, cluster.settings
    prefix = f"{settings.cluster}-bare"
    bare.make_topics(settings.bootstrap, prefix, options.partitions)
    try:
        lanes = [
            bare.Lane(settings.bootstrap, prefix, number, share, str(cluster.folder))
            for number, share in enumerate(shares(options))
        ]
        started: dict[str, list[Member]] = {}
        for role in ("bare-scheduler", "bare-worker", "bare-client"):
            started[role] = [cluster.crew.role(f"{role}-{lane.partition}", role, lane) for lane in lanes]
            if role != "bare-client":
                cluster.crew.await_ready(started[role], TIMEOUT_SECONDS)
        found: dict[str, list[Submitted]] = {
            role: cluster.crew.results(members, Submitted, TIMEOUT_SECONDS) for role, members in started.items()
        }
    finally:
        bare.delete_topics(settings.bootstrap, prefix)
    began = min(client.began for client in found["bare-client"])
    submitted = max(client.ended for client in found["bare-client"])
    return submitted - began, max(scheduler.ended for scheduler in found["bare-scheduler"]) - began


def shares(options: Options) -> list[int]:
    """So many jobs for each partition."""
    each, rest = divmod(options.jobs, options.partitions)
    return [each + (number < rest) for number in range(options.partitions)]

"""A chaos run from the start of its cluster to the report."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import tenacity

from ftjm.adapters.kafka.errors import LogError
from ftjm.lab.bench.options import Progress
from ftjm.lab.bench.report import machine
from ftjm.lab.chaos import execution_marks
from ftjm.lab.chaos.cluster import LEASE_SECONDS, PARTITIONS, SLOTS, ChaosCluster
from ftjm.lab.chaos.declared import declarations
from ftjm.lab.chaos.faults import FaultInjector
from ftjm.lab.chaos.jobs import jobs
from ftjm.lab.chaos.load import ChaosLoad
from ftjm.lab.chaos.log_watch import LogWatch, judge_topics
from ftjm.lab.chaos.outages import pauses
from ftjm.lab.chaos.plan import ClusterShape, plan
from ftjm.lab.chaos.plot import ChaosRun
from ftjm.lab.chaos.report import ChaosReport, Takeover, count_by_kind, percentiles, takeovers
from ftjm.lab.chaos.store_comparison import ReportedPositions, Store, compare
from ftjm.lab.checker import Evidence, Verdict
from ftjm.runtime import logs
from ftjm.runtime.errors import FtjmError

START_SECONDS_MAX = 120.0
SETTLE_SECONDS_MAX = 180.0
"""Longest wait for all jobs to end after everything is healed."""
FOLLOW_SECONDS_MAX = 60.0
"""Longest wait for standbys to reach their owners, and for owners to decide the last reports of workers."""
POLL_SECONDS = 0.2
SLACK_MS = 20_000
"""How late a timer or a lapse may be beyond all pauses. A forgotten one never comes; a busy machine needs seconds."""
TODO = "look at the logs in the directory"

log = logs.get(__name__)

retry_unanswered = tenacity.retry(
    retry=tenacity.retry_if_exception_type(LogError),
    wait=tenacity.wait_fixed(POLL_SECONDS),
    stop=tenacity.stop_after_delay(FOLLOW_SECONDS_MAX),
    reraise=True,
)
"""Decorator: tries again while brokers that have just been healed do not answer yet."""


def run(seed: int, duration_seconds: float, shape: ClusterShape, folder: Path, progress: Progress) -> ChaosRun:
    """Start a cluster in `folder`, break it for `duration_seconds`, and judge it.

    Args:
        seed: determines the load and the faults.
        folder: the folder for all files; must not exist.

    Raises:
        FtjmError: the cluster cannot be started, or Kafka does not answer at the end.
    """
    about = machine()
    progress.step("starting")
    with ChaosCluster(folder, shape) as cluster:
        try:
            with contextlib.closing(retry_unanswered(LogWatch)(cluster.settings)) as watch:
                if not _wait(watch.all_owned, START_SECONDS_MAX):
                    what = f"schedulers to own all partitions within {START_SECONDS_MAX:g} s"
                    raise FtjmError(what, "they do not", TODO)
                return _Chaos(cluster, watch, seed, duration_seconds, progress).run(about)
        except LogError as error:
            raise FtjmError("the brokers to answer", str(error), TODO) from error


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` holds, and return whether it did in time. A failure in the end is left to the checker."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(LogError):  # a broker that has just been healed may not answer yet
            if condition():
                return True
        time.sleep(POLL_SECONDS)
    return False


class _Chaos:
    def __init__(self, cluster: ChaosCluster, watch: LogWatch, seed: int, seconds: float, progress: Progress) -> None:
        self._cluster = cluster
        self._watch = watch
        self._seed = seed
        self._seconds = seconds
        self._progress = progress
        self._planned = jobs(seed, seconds, cluster.queues, cluster.marks)
        self._tasks = {job.name for job in self._planned if job.is_task}
        declared = declarations(seed, seconds, cluster.queues, cluster.marks)
        self._load = ChaosLoad(cluster.settings, self._planned, declared, cluster.api_port)
        self._injector = FaultInjector(cluster, plan(seed, seconds, cluster.shape))
        self._problems: list[str] = []
        """Problems that the topics do not show."""

    def run(self, about: dict[str, object]) -> ChaosRun:
        stopped = threading.Event()
        watcher = threading.Thread(target=self._keep_alive, args=[stopped], name="watcher", daemon=True)
        watcher.start()
        began_ms, healed = self._run_plan()
        settle_s = self._settle(healed)
        stopped.set()
        watcher.join()
        self._cluster.stop_workers()
        _wait(self._watch.has_decided_all, FOLLOW_SECONDS_MAX)
        reached = self._wait_for_followers()
        self._cluster.stop_members()
        self._progress.step("judging")
        verdict = self._judge()
        compared, wrong = self._compare(reached)
        verdict.violations += self._problems + wrong
        found = takeovers(self._watch.owners, self._injector.injected)
        report = self._report(about, verdict, found, settle_s, compared)
        return ChaosRun(report, self._injector.injected, found, dict(self._watch.ends), began_ms)

    def _run_plan(self) -> tuple[int, float]:
        self._progress.step("breaking")
        self._load.start()
        began, began_ms = time.monotonic(), time.time_ns() // 1_000_000
        self._injector.run(lambda at: time.sleep(max(0.0, began + at - time.monotonic())))
        healed = time.monotonic()
        return began_ms, healed

    def _keep_alive(self, stopped: threading.Event) -> None:
        while not stopped.wait(POLL_SECONDS):
            self._cluster.restart_ended_members()
            self._progress.move(len(self._watch.ended), len(self._planned))

    def _settle(self, healed: float) -> float:
        """Wait for all jobs to end. Return the time since everything was healed, s."""
        self._progress.step("healed; waiting for all jobs to end")
        try:
            self._load.finish()
        except (FtjmError, LogError) as error:
            self._problems.append(f"the load was not finished: {error}")
        wanted, ends = self._load.acknowledged, dict[int, int]()

        def decided() -> bool:
            # An ended job may still be rerun while a command is undecided, so all commands must be decided.
            ends.update(ends or self._watch.command_ends())
            return self._watch.has_decided(ends)

        until = time.monotonic() + SETTLE_SECONDS_MAX
        _wait(decided, SETTLE_SECONDS_MAX)

        def ended() -> bool:
            self._watch.read_new()
            return wanted <= self._watch.ended and not self._watch.open

        _wait(ended, until - time.monotonic())
        return round(time.monotonic() - healed, 2)

    def _wait_for_followers(self) -> dict[Store, int]:
        """Wait until each partition has an owner and a standby that have applied all of it.

        Return the offset of each store.
        """
        with retry_unanswered(ReportedPositions)(self._cluster.settings) as positions:

            def caught_up() -> bool:
                self._watch.read_new()
                positions.read_new()
                return not positions.missing(self._watch.last)

            _wait(caught_up, FOLLOW_SECONDS_MAX)
            missing = positions.missing(self._watch.last)
            self._problems += [f"expected {each}, but found none" for each in missing]
            return positions.reached

    @retry_unanswered
    def _compare(self, reached: dict[Store, int]) -> tuple[int, list[str]]:
        self._watch.read_new()
        return compare(self._cluster.settings, self._watch.last, reached, self._injector.has_damaged_store)

    @retry_unanswered
    def _judge(self) -> Verdict:
        executions = execution_marks.executions(self._cluster.marks)
        self._executions = len(executions)
        self._task_executions = sum(each.name in self._tasks for each in executions)
        evidence = Evidence(
            ends={job.name: job.ends for job in self._planned},
            executions=executions,
            woken=self._injector.woken,
            pauses=pauses(self._watch.owners, self._injector.injected),
            slack_ms=SLACK_MS,
        )
        found = judge_topics(self._cluster.settings, evidence, self._load.acknowledged)
        if not found.timers_judged:
            found.violations.append("expected some timers that no fault excuses, but found none")
        return found

    def _report(
        self, about: dict[str, object], verdict: Verdict, found: list[Takeover], settle_s: float, compared: int
    ) -> ChaosReport:
        p50, p99, most = percentiles([each.seconds for each in found])
        alone = [each.seconds for each in found if each.alone]
        alone_p50, alone_p99, _ = percentiles(alone)
        kinds = count_by_kind(self._injector.injected)
        shape = self._cluster.shape
        return ChaosReport(
            seed=self._seed,
            duration_s=self._seconds,
            settings=msgspec.to_builtins(shape)
            | {"partitions": PARTITIONS, "slots": SLOTS, "lease_seconds": LEASE_SECONDS},
            machine=about,
            faults=kinds.total(),
            faults_by_kind=dict(sorted(kinds.items())),
            lost=verdict.kinds["lost"],
            doubled=verdict.kinds["doubled"],
            overlapped=verdict.kinds["overlapped"],
            takeovers=len(found),
            takeover_p50_s=p50,
            takeover_p99_s=p99,
            takeover_max_s=most,
            takeovers_alone=len(alone),
            takeover_alone_p50_s=alone_p50,
            takeover_alone_p99_s=alone_p99,
            jobs=verdict.jobs,
            scheduled_jobs=verdict.fired,
            task_jobs=len(self._tasks),
            succeeded=verdict.succeeded,
            failed=verdict.failed,
            cancelled=verdict.cancelled,
            attempts=verdict.attempts,
            attempts_lost=verdict.attempts_lost,
            attempts_ahead=self._watch.attempts_ahead,
            attempts_declined=verdict.attempts_declined,
            executions=self._executions,
            task_executions=self._task_executions,
            events=verdict.events,
            batches=verdict.batches,
            stores=compared,
            settle_s=settle_s,
            timers_judged=verdict.timers_judged,
            violations=verdict.violations,
            crashes=[death for member in self._cluster.all_members for death in member.unexpected_ends],
        )

"""A run from its start to its verdict."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import tenacity
from confluent_kafka import KafkaException

from ftjm import logs
from ftjm.bench.options import Progress
from ftjm.bench.report import machine
from ftjm.chaos import marks
from ftjm.chaos.breaking import Breaker
from ftjm.chaos.cluster import LEASE_SECONDS, PARTITIONS, SLOTS, Cluster
from ftjm.chaos.load import Load, jobs
from ftjm.chaos.pauses import pauses
from ftjm.chaos.picture import Run
from ftjm.chaos.plan import Shape, plan
from ftjm.chaos.report import ChaosReport, Takeover, by_kind, spread, takeovers
from ftjm.chaos.stores import Followers, Store, compare
from ftjm.chaos.watching import Watch, judged
from ftjm.checker import Evidence, Report
from ftjm.errors import FtjmError

START_SECONDS_MAX = 120.0
SETTLE_SECONDS_MAX = 180.0
"""For all jobs to end once everything is healed."""
FOLLOW_SECONDS_MAX = 60.0
"""For standbys to have what owners have, and owners to have decided what workers said last."""
LOOK_SECONDS = 0.2
SLACK_MS = 5_000
LOOK = "look at the logs in the directory"

log = logs.get(__name__)

answered = tenacity.retry(
    retry=tenacity.retry_if_exception_type(KafkaException),
    wait=tenacity.wait_fixed(LOOK_SECONDS),
    stop=tenacity.stop_after_delay(FOLLOW_SECONDS_MAX),
    reraise=True,
)
"""A broker that is just back may not answer yet."""


def run(seed: int, duration_seconds: float, shape: Shape, folder: Path, progress: Progress) -> Run:
    """Break a cluster in `folder` (which must not exist) for so long.

    Raises FtjmError where it cannot be started, or Kafka does not answer at the end.
    """
    about = machine()
    progress.step("starting")
    with Cluster(folder, shape) as cluster:
        try:
            with contextlib.closing(answered(Watch)(cluster.settings)) as watch:
                if not _wait(watch.all_owned, START_SECONDS_MAX):
                    what = f"schedulers to own all partitions within {START_SECONDS_MAX:g} s"
                    raise FtjmError(what, "they do not", LOOK)
                return _Chaos(cluster, watch, seed, duration_seconds, progress).run(about)
        except KafkaException as error:
            raise FtjmError("the brokers to answer", str(error), LOOK) from error


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it comes to be true. What is not there by then, the judge will name."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(KafkaException):  # a broker that is just back may not answer yet
            if condition():
                return True
        time.sleep(LOOK_SECONDS)
    return False


class _Chaos:
    def __init__(self, cluster: Cluster, watch: Watch, seed: int, seconds: float, progress: Progress) -> None:
        self._cluster = cluster
        self._watch = watch
        self._seed = seed
        self._seconds = seconds
        self._progress = progress
        self._planned = jobs(seed, seconds, cluster.queues, cluster.marks)
        self._load = Load(cluster.settings, self._planned, cluster.api_port)
        self._breaker = Breaker(cluster, plan(seed, seconds, cluster.shape))
        self._problems: list[str] = []
        """What went wrong beside what the topics tell."""

    def run(self, about: dict[str, object]) -> Run:
        over = threading.Event()
        watcher = threading.Thread(target=self._keep_alive, args=[over], name="watcher", daemon=True)
        watcher.start()
        began_ms, healed = self._break()
        settle_s = self._settle(healed)
        over.set()
        watcher.join()
        self._cluster.stop_workers()
        _wait(self._watch.all_decided, FOLLOW_SECONDS_MAX)
        reached = self._followed()
        self._cluster.stop_members()
        self._progress.step("judging")
        verdict = self._judge()
        compared, wrong = self._compare(reached)
        verdict.violations += self._problems + wrong
        found = takeovers(self._watch.owners, self._breaker.happened)
        report = self._report(about, verdict, found, settle_s, compared)
        return Run(report, self._breaker.happened, found, dict(self._watch.ends), began_ms)

    def _break(self) -> tuple[int, float]:
        self._progress.step("breaking")
        self._load.start()
        began, began_ms = time.monotonic(), time.time_ns() // 1_000_000
        self._breaker.run(lambda at: time.sleep(max(0.0, began + at - time.monotonic())))
        healed = time.monotonic()
        return began_ms, healed

    def _keep_alive(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            self._cluster.watch()
            self._progress.move(len(self._watch.ended), len(self._planned))

    def _settle(self, healed: float) -> float:
        """Wait for all jobs to end; how long it took since everything was healed, s."""
        self._progress.step("healed; waiting for all jobs to end")
        try:
            self._load.finish()
        except (FtjmError, KafkaException) as error:
            self._problems.append(f"the load was not done: {error}")
        wanted, asked = self._load.acknowledged, dict[int, int]()

        def decided() -> bool:
            # A job that is to run again has not ended for good.
            asked.update(asked or self._watch.commands())
            return self._watch.decided(asked)

        until = time.monotonic() + SETTLE_SECONDS_MAX
        _wait(decided, SETTLE_SECONDS_MAX)

        def ended() -> bool:
            self._watch.look()
            return wanted <= self._watch.ended

        _wait(ended, until - time.monotonic())
        return round(time.monotonic() - healed, 2)

    def _followed(self) -> dict[Store, int]:
        """Wait until each partition has an owner and a standby that hold all of it; how far each store is."""
        with answered(Followers)(self._cluster.settings) as followers:

            def caught_up() -> bool:
                self._watch.look()
                followers.look()
                return not followers.missing(self._watch.last)

            _wait(caught_up, FOLLOW_SECONDS_MAX)
            missing = followers.missing(self._watch.last)
            self._problems += [f"expected {each}, but found none" for each in missing]
            return followers.reached

    @answered
    def _compare(self, reached: dict[Store, int]) -> tuple[int, list[str]]:
        self._watch.look()
        return compare(self._cluster.settings, self._watch.last, reached, self._breaker.left_damaged)

    @answered
    def _judge(self) -> Report:
        executions = marks.executions(self._cluster.marks)
        self._executions = len(executions)
        evidence = Evidence(
            ends={job.name: job.ends for job in self._planned},
            executions=executions,
            woken=self._breaker.woken,
            pauses=pauses(self._watch.owners, self._breaker.happened),
            slack_ms=SLACK_MS,
        )
        found = judged(self._cluster.settings, evidence, self._load.acknowledged)
        if not found.timers_judged:
            found.violations.append("expected some timers that no fault excuses, but found none")
        return found

    def _report(
        self, about: dict[str, object], verdict: Report, found: list[Takeover], settle_s: float, compared: int
    ) -> ChaosReport:
        p50, p99, most = spread([each.seconds for each in found])
        alone = [each.seconds for each in found if each.alone]
        alone_p50, alone_p99, _ = spread(alone)
        kinds = by_kind(self._breaker.happened)
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
            succeeded=verdict.succeeded,
            failed=verdict.failed,
            cancelled=verdict.cancelled,
            attempts=verdict.attempts,
            attempts_lost=verdict.attempts_lost,
            executions=self._executions,
            events=verdict.events,
            batches=verdict.batches,
            stores=compared,
            settle_s=settle_s,
            timers_judged=verdict.timers_judged,
            violations=verdict.violations,
            crashes=[death for member in self._cluster.everybody for death in member.deaths],
        )

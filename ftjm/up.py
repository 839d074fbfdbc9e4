"""`ftjm up`: a whole cluster on this machine, as child processes that are kept alive and stopped in order."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import tenacity

from ftjm import children, endpoint, logs
from ftjm.adapters import topics
from ftjm.children import Child
from ftjm.config import Settings
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.errors import Unreachable
from ftjm.locks import DirectoryLock
from ftjm.worker.process import tasks_of

WATCH_SECONDS = 0.1
STOP_SECONDS_MAX = 25.0

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run. `brokers` 0 means a Kafka that is there already; ours listen from `port` on."""

    brokers: int
    port: int
    schedulers: int
    workers: int
    slots: int
    queues: tuple[str, ...]
    apps: tuple[str, ...] = ()
    """Modules that define Python tasks."""
    api_port: int = 0
    """Of the HTTP API; 0 means none."""

    @property
    def api(self) -> str:
        """The address of the HTTP API; empty for none."""
        return f"http://127.0.0.1:{self.api_port}" if self.api_port else ""


def run(plan: Plan, settings: Settings, announce: Callable[[], None]) -> None:
    """Run a cluster until SIGINT or SIGTERM; each further signal ends the wait for one group of children.

    `announce` is called once all has started. Raises FtjmError where a part cannot start; what had started is stopped.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts its background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    tasks_of(plan.apps)  # a worker that cannot import them would be started again and again
    with suppress(KeyboardInterrupt), started(plan, settings) as everything:
        announce()
        while True:
            for watch in everything:
                watch()
            time.sleep(WATCH_SECONDS)


@contextmanager
def started(plan: Plan, settings: Settings) -> Iterator[list[Callable[[], None]]]:
    """Start all in order, and stop all in the opposite one: workers drain, schedulers leave, brokers close.

    Yields what is to be called now and then, so that each part is kept alive.
    """
    watches: list[Callable[[], None]] = []
    with ExitStack() as stack:
        lock = DirectoryLock(settings.data_dir, "up.lock")
        lock.acquire()
        stack.callback(lock.release)
        if plan.brokers:
            kafka = stack.enter_context(EmbeddedKafka(settings.data_dir, plan.brokers, plan.port))
            watches.append(kafka.watch)
        _create_topics(settings)
        stack.callback(endpoint.remove, settings.data_dir)
        endpoint.write(settings.data_dir, _endpoint(plan, settings))
        serves = [part for queue in plan.queues for part in ("--queue", queue)]
        serves += [part for app in plan.apps for part in ("--app", app)]
        watches += _start_group(stack, settings, "scheduler", plan.schedulers, [])
        watches += _start_group(stack, settings, "worker", plan.workers, ["--slots", str(plan.slots), *serves])
        watches += _start_group(stack, settings, "api", int(plan.api_port > 0), ["--port", str(plan.api_port)])
        yield watches


def _start_group(
    stack: ExitStack, settings: Settings, role: str, count: int, options: list[str]
) -> list[Callable[[], None]]:
    # One port cannot be had by several: each child takes a free one, and tells which.
    environment = {**os.environ, **settings.environment(), "FTJM_METRICS_PORT": "0"}
    group: list[Child] = []
    stack.callback(_stop_group, role, group)
    for index in range(count):
        name = f"{role}-{index}"
        command = [sys.executable, "-m", "ftjm", role, "--name", name, *options]
        # A worker that was drained has left on purpose.
        child = Child(name, partial(children.spawn, command, env=environment), may_leave=role == "worker")
        group.append(child)
        child.start()
    return [child.watch for child in group]


def _stop_group(role: str, group: list[Child]) -> None:
    for child in group:
        child.give_up()
    running = [child.process for child in group if child.process and child.running]
    if running:
        log.info("stopping", role=role, count=len(running), at_most_seconds=STOP_SECONDS_MAX)
    children.stop(running, within_seconds=STOP_SECONDS_MAX)


def _create_topics(settings: Settings) -> None:
    """Make the topics; a Kafka that is not there yet is waited for, saying so."""

    def say(state: tenacity.RetryCallState) -> None:
        log.warning("waiting for Kafka", problem=str(state.outcome and state.outcome.exception()))

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable), wait=tenacity.wait_exponential(max=15), before_sleep=say
    )(topics.create, settings)


def _endpoint(plan: Plan, settings: Settings) -> endpoint.Endpoint:
    return endpoint.Endpoint(
        bootstrap=settings.bootstrap,
        cluster=settings.cluster,
        own_brokers=settings.own_brokers,
        partitions=settings.partitions,
        lanes=settings.lanes,
        lease_seconds=settings.lease_seconds,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.heartbeat_interval_ms,
        up_pid=os.getpid(),
        api=plan.api,
    )

"""`ftjm up`: runs a whole cluster on this machine as child processes, keeps them alive, and stops them in order."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import tenacity

from ftjm.adapters.kafka import topics
from ftjm.local.kafka import EmbeddedKafka
from ftjm.runtime import child_processes, endpoint, logs, private_files
from ftjm.runtime.child_processes import Child
from ftjm.runtime.config import Settings
from ftjm.runtime.directory_lock import DirectoryLock
from ftjm.runtime.errors import Unreachable
from ftjm.runtime.stop_signals import StopSignals
from ftjm.worker.process import tasks_of

WATCH_SECONDS = 0.1
STOP_SECONDS_MAX = 25.0
API_TOKEN = "FTJM_API_TOKEN"  # noqa: S105  (a variable's name)

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes to run. Embedded brokers listen from `port` on; 0 `brokers` means that a Kafka exists already."""

    brokers: int
    port: int
    schedulers: int
    workers: int
    slots: int
    queues: tuple[str, ...]
    apps: tuple[str, ...] = ()
    """Modules that define Python tasks."""
    api_port: int = 0
    """Port of the HTTP API; 0 means no API."""
    api_token: bool = True
    """Whether the API asks for a token. Without one, every user of this machine may submit jobs, which run as you."""
    kafka_sign_on: bool = True
    """Whether embedded brokers ask for a password. Without it, every user of this machine may write to the log."""

    @property
    def api(self) -> str:
        """The address of the HTTP API; empty if there is none."""
        return f"http://127.0.0.1:{self.api_port}" if self.api_port else ""


def run(plan: Plan, settings: Settings, announce: Callable[[], None]) -> None:
    """Run a cluster until SIGINT or SIGTERM. Each further signal ends the wait for one group of children.

    Args:
        plan: The processes to run.
        settings: The settings of all parts.
        announce: Called once everything has started.

    Raises:
        FtjmError: A part cannot start. The parts that had started are stopped.
    """
    signals = StopSignals()
    signals.interrupts = True  # Java, a download or a Kafka that is away may keep it waiting for long
    with suppress(KeyboardInterrupt):
        tasks_of(plan.apps)  # fail now: a worker that cannot import them would be started again and again
        with started(plan, settings, signals) as everything:
            announce()
            while not signals.count:
                for watch in everything:
                    watch()
                time.sleep(WATCH_SECONDS)


@contextmanager
def started(plan: Plan, settings: Settings, signals: StopSignals) -> Iterator[list[Callable[[], None]]]:
    """Start all parts in order, and stop them in the opposite order: workers drain, schedulers leave, brokers close.

    Once Kafka answers, `signals` interrupts nothing any more: no later step waits for long.

    Yields functions that keep the parts alive. The caller calls them every now and then.
    """
    watches: list[Callable[[], None]] = []
    with ExitStack() as stack:
        private_files.claim_data_directory(settings.data_dir)
        lock = DirectoryLock(settings.data_dir, "up.lock")
        lock.acquire()
        stack.callback(lock.release)
        sign_on: dict[str, str] = {}
        if plan.brokers:
            kafka = EmbeddedKafka(settings.data_dir, plan.brokers, plan.port, sign_on=plan.kafka_sign_on)
            kafka.start()
            stack.callback(lambda: kafka.stop(hurried=signals.another()))
            watches.append(kafka.watch)
            sign_on = kafka.client_settings
            settings = settings.model_copy(update={"kafka": settings.kafka | sign_on})
        _create_topics(settings)
        signals.interrupts = False
        token = _token(plan, settings)
        stack.callback(endpoint.remove, settings.data_dir)
        stack.callback(endpoint.unregister, endpoint.default_data_dir(), settings.data_dir)
        endpoint.write(settings.data_dir, _endpoint(plan, settings, token, sign_on))
        endpoint.register(endpoint.default_data_dir(), settings.data_dir)
        start_group = partial(_start_group, stack, settings, signals)
        serves = [part for queue in plan.queues for part in ("--queue", queue)]
        serves += [part for app in plan.apps for part in ("--app", app)]
        watches += start_group("scheduler", plan.schedulers, [])
        watches += start_group("worker", plan.workers, ["--slots", str(plan.slots), *serves])
        watches += start_group("api", int(plan.api_port > 0), ["--port", str(plan.api_port)], {API_TOKEN: token})
        yield watches


def _start_group(
    stack: ExitStack,
    settings: Settings,
    signals: StopSignals,
    role: str,
    count: int,
    options: list[str],
    variables: Mapping[str, str] | None = None,
) -> list[Callable[[], None]]:
    # Several children cannot share one port: each takes a free one, and logs it. Only the API needs its token.
    inherited = {name: value for name, value in os.environ.items() if name != API_TOKEN}
    environment = {**inherited, **settings.environment(), "FTJM_METRICS_PORT": "0", **(variables or {})}
    group: list[Child] = []
    stack.callback(_stop_group, signals, role, group)
    for index in range(count):
        name = f"{role}-{index}"
        command = [sys.executable, "-m", "ftjm", role, "--name", name, *options]
        # A worker that was drained has left on request.
        child = Child(name, partial(child_processes.spawn, command, env=environment), may_leave=role == "worker")
        group.append(child)
        child.start()
    return [child.watch for child in group]


def _stop_group(signals: StopSignals, role: str, group: list[Child]) -> None:
    for child in group:
        child.give_up()
    running = [child.process for child in group if child.process and child.running]
    if running:
        log.info("stopping", role=role, count=len(running), at_most_seconds=STOP_SECONDS_MAX)
    child_processes.stop(running, within_seconds=STOP_SECONDS_MAX, hurried=signals.another())


def _create_topics(settings: Settings) -> None:
    """Create the topics. Wait for a Kafka that does not answer yet, and log that."""

    def log_retry(state: tenacity.RetryCallState) -> None:
        error = str(state.outcome and state.outcome.exception())
        log.warning("kafka_unreachable", error=error, todo="waiting, and trying again")

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unreachable),
        wait=tenacity.wait_exponential(max=15),
        before_sleep=log_retry,
    )(topics.create, settings)


def _token(plan: Plan, settings: Settings) -> str:
    """The token of the API: the user's, else a new one; empty for none."""
    return (settings.api_token or secrets.token_urlsafe(32)) if plan.api_token and plan.api_port else ""


def _endpoint(plan: Plan, settings: Settings, token: str, kafka: dict[str, str]) -> endpoint.Endpoint:
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
        token=token,
        kafka=kafka,
    )

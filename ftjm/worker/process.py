"""The worker process: makes supervisor, guard, rules and the connection to the log, and puts them together."""

import os
import signal
import socket
import sys
import uuid
from collections.abc import Sequence

import structlog

from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.bounds import confine
from ftjm.core.limits import WORKER_NAME_CHARACTERS_MAX
from ftjm.core.names import is_name
from ftjm.core.records.messages import SessionState
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.worker.attempts.linux_processes import become_subreaper
from ftjm.worker.executors.python.zygote_link import check_apps
from ftjm.worker.guard.link import GuardLink
from ftjm.worker.guard.scratch import Scratch
from ftjm.worker.inbox import Inbox, LeaveRequested
from ftjm.worker.log_link import LogLink, Topics, discover
from ftjm.worker.metrics import WorkerStatusServer
from ftjm.worker.rules.session import WorkerIdentity, WorkerSession
from ftjm.worker.rules.worker_life import WorkerRules
from ftjm.worker.supervisor import Supervisor

log = structlog.get_logger(__name__)


def run(settings: Settings, *, queues: Sequence[str], slots: int, name: str = "", apps: Sequence[str] = ()) -> int:
    """Run a worker until it is asked to leave (by SIGTERM, SIGINT, or a `DrainWorker` request).

    Args:
        settings: The settings of the cluster, and the length of leases.
        queues: The queues whose jobs it takes.
        slots: How many attempts it runs at a time.
        name: Its name; by default the first part of the host's.
        apps: Modules that define the Python tasks that it runs.

    Returns:
        The exit status of the process.

    Raises:
        FtjmError: It cannot run on this system.
        UsageError: A name or a queue is not valid, or an app cannot be imported.
    """
    if sys.platform != "linux":
        raise FtjmError(
            "Linux, whose kernel can end a job's processes with their worker (child subreaper, CLOCK_BOOTTIME)",
            sys.platform,
            "worker runs on Linux only: run it there; clients and the command line work here",
        )
    name = name or socket.gethostname().split(".")[0] or "worker"
    _require_names(name, queues)
    tasks = tasks_of(apps)
    become_subreaper()
    inbox = Inbox()
    leave_requests = _signals_into(inbox)
    kafka = settings.kafka_settings(f"worker-{name}")
    status = WorkerStatusServer(settings)
    producer = ConfirmingProducer(kafka)
    topics = discover(producer, settings.topic, lambda: not leave_requests and status.pulse())
    if topics is None:
        producer.close(0.0)
        status.close()
        return 0
    rules = make_rules(settings, topics, name=name, queues=queues, slots=slots)
    identity = rules.identity
    log.info(
        "worker_starting",
        worker=name,
        slots=slots,
        queues=identity.queues,
        lease_ms=identity.lease_ms,
        **({"tasks": tasks} if tasks else {}),
    )
    scratch = Scratch(settings.data_dir / "attempts")
    try:
        _require_heartbeats_within_bounds(identity)
        status.show(rules)
        supervisor = Supervisor(
            rules,
            LogLink(kafka, topics, producer, inbox, settings.lease_seconds),
            inbox,
            lambda delay: _start_guard(settings, scratch, apps, delay),
            scratch.remove,
            pulse=status.pulse,
        )
        return supervisor.run()
    finally:
        scratch.close()
        inbox.close()
        status.close()


def make_rules(settings: Settings, topics: Topics, *, name: str, queues: Sequence[str], slots: int) -> WorkerRules:
    """The rules of a worker of this process, which has not begun a session yet.

    Args:
        settings: The settings of the cluster, and the length of leases.
        topics: The topics, as `discover` returns them.
        name: The worker's name.
        queues: The queues whose jobs it takes.
        slots: How many attempts it runs at a time.
    """
    identity = WorkerIdentity(
        worker=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=slots,
        queues=tuple(dict.fromkeys(queues)),
        partitions=topics.partitions,
        lanes=topics.lanes,
        lease_ms=int(settings.lease_seconds * 1000),
        ahead=None if settings.prefetch == "auto" else int(settings.prefetch),
    )
    return WorkerRules(identity, lambda: _session_name(name))


def _start_guard(settings: Settings, scratch: Scratch, apps: Sequence[str], delay_seconds: float) -> GuardLink:
    return GuardLink(
        scratch.for_guard(),
        settings.inline_limit_bytes,
        apps,
        tasks_per_process=settings.max_tasks_per_process,
        memory_per_process_mb=settings.max_memory_per_process_mb,
        delay_seconds=delay_seconds,
    )


def _require_names(worker: str, queues: Sequence[str]) -> None:
    names = [("worker", worker, WORKER_NAME_CHARACTERS_MAX), *(("queue", queue, 128) for queue in queues)]
    for what, value, characters in names:
        if not is_name(value) or len(value) > characters:
            expected = f"a {what}'s name of A-Z a-z 0-9 . _ -, at most {characters} characters"
            raise UsageError(expected, f"{value!r} ({len(value)} characters)", "choose another")


def _session_name(worker: str) -> str:
    """A name that no earlier session had: its end is 33 characters, see `WORKER_NAME_CHARACTERS_MAX`."""
    return f"{worker}.{uuid.uuid4().hex}"


def _require_heartbeats_within_bounds(identity: WorkerIdentity) -> None:
    """Raise UsageError if schedulers would pass over this worker's heartbeats: it would never get work."""
    _, heartbeat = WorkerSession(_session_name(identity.worker), identity).heartbeat(0, SessionState.OPEN)
    if fault := confine(heartbeat):
        raise UsageError("a worker whose heartbeats schedulers take", fault, "change its name, its queues or settings")


def tasks_of(apps: Sequence[str]) -> list[str]:
    """The names of the tasks that the apps define. Raises UsageError if one cannot be imported."""
    if not apps:
        return []
    names, error = check_apps(apps)
    if error:
        raise UsageError(f"importable apps (--app {' --app '.join(apps)})", error, "mend the app, and start again")
    if not names:
        log.warning("no_tasks", apps=apps, todo="define some with @ftjm.task, or leave --app away")
    return names


def _signals_into(inbox: Inbox) -> list[int]:
    """Put SIGTERM and SIGINT into the inbox as requests to leave. Returns the list of the signals received so far."""
    requests: list[int] = []

    def request(number: int, _frame: object) -> None:
        requests.append(number)
        inbox.put(LeaveRequested())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request)
    return requests

"""The worker process: puts supervisor, guard, rules and Kafka together."""

import os
import signal
import socket
import sys
import uuid
from collections.abc import Sequence

import structlog

from ftjm.adapters.kafka_outlet import Outlet
from ftjm.config import Settings
from ftjm.core.names import is_name
from ftjm.errors import FtjmError, UsageError
from ftjm.metrics.worker import Shown
from ftjm.worker import forks
from ftjm.worker.guardlink import GuardLink
from ftjm.worker.inbox import Asked, Inbox
from ftjm.worker.kafka_wire import KafkaWire, discover
from ftjm.worker.life import Life
from ftjm.worker.processes import become_subreaper
from ftjm.worker.scratch import Scratch
from ftjm.worker.session import Identity
from ftjm.worker.supervisor import Supervisor

log = structlog.get_logger(__name__)


def run(settings: Settings, *, queues: Sequence[str], slots: int, name: str = "", apps: Sequence[str] = ()) -> int:
    """Run a worker until it is told to leave (SIGTERM, SIGINT). Returns its exit status.

    Raises FtjmError where it cannot run, UsageError for a name or a queue that cannot be.
    """
    if sys.platform != "linux":
        raise FtjmError(
            "Linux, whose kernel can end a job's processes with their worker (child subreaper, CLOCK_BOOTTIME)",
            sys.platform,
            "worker runs on Linux only: run it there; clients and the command line work here",
        )
    name = name or socket.gethostname().split(".")[0] or "worker"
    for what, value in (("worker", name), *(("queue", queue) for queue in queues)):
        if not is_name(value):
            raise UsageError(f"a {what}'s name of A-Z a-z 0-9 . _ -, at most 128", repr(value), "choose another")
    tasks = tasks_of(apps)
    become_subreaper()
    inbox = Inbox()
    asked = _signals_into(inbox)
    kafka = settings.kafka_settings(f"worker-{name}")
    shown = Shown(settings)
    outlet = Outlet(kafka)
    topics = discover(outlet, settings.topic, lambda: not asked and shown.pulse())
    if topics is None:
        outlet.close(0.0)
        shown.close()
        return 0
    identity = Identity(
        worker=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=slots,
        queues=tuple(dict.fromkeys(queues)),
        partitions=topics.partitions,
        lanes=topics.lanes,
        lease_ms=int(settings.lease_seconds * 1000),
    )
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
        life = Life(identity, lambda: f"{name}.{uuid.uuid4().hex}")
        shown.lives(life)
        supervisor = Supervisor(
            life,
            KafkaWire(kafka, topics, outlet, inbox, settings.lease_seconds),
            inbox,
            lambda: GuardLink(scratch.for_guard(), settings.inline_limit_bytes, apps),
            scratch.remove,
            pulse=shown.pulse,
        )
        return supervisor.run()
    finally:
        scratch.close()
        inbox.close()
        shown.close()


def tasks_of(apps: Sequence[str]) -> list[str]:
    """The names of the tasks that the apps define. Raises UsageError where they cannot be imported."""
    if not apps:
        return []
    names, error = forks.check(apps)
    if error:
        raise UsageError(f"importable apps (--app {' --app '.join(apps)})", error, "mend that, and start again")
    if not names:
        log.warning("no_tasks", apps=apps, todo="define some with @ftjm.task, or leave --app away")
    return names


def _signals_into(inbox: Inbox) -> list[int]:
    """Requests to leave become items of the inbox; returns a list that they are added to as well."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        inbox.put(Asked())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return asked

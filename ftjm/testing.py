"""A cluster in memory for your own tests: the real engine, your tasks in this process, and a clock that you advance.

    with ftjm.testing.Cluster(app=["thumbnails.tasks"]) as cluster:
        handle = cluster.client.submit(resize("a.png", width=200), delay="1h")
        cluster.advance("59m")
        assert handle.state() == "SCHEDULED"
        assert handle.result() == {"width": 200}

The cluster works only inside of a call that waits: `handle.result()`, `handle.watch()`, `advance` or `run`. Waiting
moves the clock to the next time at which something is due, so a backoff of an hour takes no time. A task that calls
`cluster.advance` runs for that long by the cluster's clock, and fails if that is longer than its timeout. If a task
raises `WorkerLost`, its worker is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.memory import MemoryLog, MemoryStore
from ftjm.client.ticket import Ticket, question
from ftjm.core import json_values
from ftjm.core.decide.decision import Policy
from ftjm.core.placement import Offer
from ftjm.core.records import events as e
from ftjm.core.records.commands import (
    ApplySchedule,
    CheckpointAttempt,
    Command,
    CompleteAttempt,
    FailAttempt,
    SubmitJob,
)
from ftjm.core.records.messages import CommandReply, JobOutcome, RunAttempt, StopAttempt
from ftjm.core.state.executors import COMMAND, PYTHON
from ftjm.core.state.model import FailureReason
from ftjm.core.state.view import StateView
from ftjm.engine.batch import Lapse
from ftjm.engine.owner import Owner
from ftjm.engine.partition import Partition
from ftjm.engine.ports import Parcel
from ftjm.runtime.durations import parse_duration
from ftjm.sdk import apps
from ftjm.sdk.client import Client
from ftjm.sdk.running import CURRENT, Attempt, Running
from ftjm.worker.executors.python.perform import Performed, call, failed, perform

START_MS = 1_900_000_000_000
"""Time of the clock at the start, ms since the Unix epoch."""
FOREVER_MS = 10 * 365 * 86_400_000
"""The longest wait of a call without a time-out."""
SLOTS = 1_000_000
WORKER, SESSION, CLIENT = "testing", "testing-session", "testing-client"

RunCommand = Callable[[list[str], Any], Any]
"""Takes the place of a command job's program. It gets the words of the command and the payload, and returns the result.
If it raises an exception, the attempt fails."""


# Same name as ftjm.core.records.events.WorkerLost: users raise the exception, and the cluster decides that event.
class WorkerLost(Exception):
    """A task under test raises this to lose its worker. The attempt is lost, and does not count as a try of the job."""


class Cluster:
    """A cluster with one partition, one worker and one client. It is a context manager.

    Args:
        app: modules that define tasks. Modules that are imported already need not be named.
        run_command: called for each attempt of a command job, because no program is started here.
        retention: how long ended jobs are kept, such as `7d`.
    """

    def __init__(
        self, app: Iterable[str] = (), *, run_command: RunCommand | None = None, retention: str = "7d"
    ) -> None:
        """Make the cluster. Raises AppError for a module that cannot be imported."""
        apps.load(app)
        self.now_ms = START_MS
        self._run_command = run_command
        self._log = MemoryLog(1)
        retention_ms = parse_duration(retention)
        policy = Policy(0, 1, retention_ms=retention_ms, calendar=LocalCalendar())
        self._partition = Partition(policy, MemoryStore(), codec, self._log.log_id)
        self._attempts: deque[RunAttempt] = deque()
        self._running: RunAttempt | None = None
        self._queues: set[str] = set()
        self._transport = MemoryTransport(self)
        ports = _ClusterPorts(self)
        self._owner = Owner(
            self._partition, self._log.fence(0), "testing", clock=ports, sessions=ports, send=self._deliver
        )
        self.client = Client(transport=self._transport)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    # -- time

    def advance(self, duration: str) -> None:
        """Move the clock forward. Everything that is due in the meantime is done, each at its time.

        Args:
            duration: by how much, such as `90s` or `1h30m`.
        """
        end = self.now_ms + parse_duration(duration)
        if self._running is not None:
            # A task calls this. The rest of the cluster continues when the task has ended.
            self.now_ms = end
            return
        self._work_until(lambda: False, end)

    def run(self) -> None:
        """Do everything that can be done without moving the clock."""
        self._work_until(lambda: False, self.now_ms)

    def _work_until(self, done: Callable[[], bool], end: int) -> bool:
        """Work, and move the clock to the next time at which something is due, until `done()` or until the clock is at
        `end`. Returns whether it is done."""
        while not done():
            if self._step():
                continue
            due = self._partition.state.next_due()
            if due is None or due > end:
                if end < START_MS + FOREVER_MS:
                    self.now_ms = max(self.now_ms, end)
                    self._step()
                return done()
            self.now_ms = max(self.now_ms, due)
        return True

    # -- the engine

    def send(self, command: Command, reply_to: str = "") -> None:
        """Append a command to the log. `reply_to` is the destination of the answer; empty for none."""
        if isinstance(command, SubmitJob | ApplySchedule):
            self._queues.add(command.queue)
        self._log.send(0, codec.encode(command), reply_to=reply_to)

    def events(self) -> list[e.Event]:
        """Return all events of the log, in order."""
        found = (codec.decode(record.value) for record in self._log.events(0, 0))
        return [event for event in found if isinstance(event, e.Event)]

    def _step(self) -> bool:
        """Run one attempt, or decide one batch. Returns whether there was anything to do."""
        if self._attempts and self._running is None:
            self._run_attempt(self._attempts.popleft())
            return True
        next_command = self._partition.position.next_command + self._owner.waiting
        self._owner.receive(self._log.commands(0, next_command))
        return self._owner.step().written

    def _offers(self) -> list[Offer]:
        """Return the worker's offer: it has free slots unless it runs an attempt."""
        if not self._queues or self._running is not None:
            return []
        return [Offer(SESSION, WORKER, 0, 60_000, tuple(sorted(self._queues)), 1, SLOTS)]

    def _deliver(self, parcel: Parcel, report: Callable[[bool], None]) -> None:
        message = codec.decode(parcel.value)
        if isinstance(message, CommandReply | JobOutcome):
            self._transport.receive(message)
        elif isinstance(message, RunAttempt):
            self._attempts.append(message)
        elif isinstance(message, StopAttempt):
            self._stop(message)
        report(True)

    # -- the worker

    def _stop(self, stop: StopAttempt) -> None:
        stopped = [a for a in self._attempts if (a.job_id, a.attempt) == (stop.job_id, stop.attempt)]
        for order in stopped:
            self._attempts.remove(order)
            self._fail(order, FailureReason.STOPPED, "stopped on request", self.now_ms)

    def _run_attempt(self, order: RunAttempt) -> None:
        started, self._running = self.now_ms, order
        token = CURRENT.set(self._context(order))
        try:
            performed = self._perform(order)
        except WorkerLost:
            self._fail(order, FailureReason.GUARD_LOST, "its worker was lost", started)
            return
        finally:
            CURRENT.reset(token)
            self._running = None
        timeout_ms = order.spec.timeout_ms
        if timeout_ms and self.now_ms - started > timeout_ms:
            self._fail(order, FailureReason.TIMEOUT, "stopped at its timeout", started)
        elif performed.failure:
            self._fail(order, performed.failure.reason, performed.failure.error, started, performed.exit_status)
        elif status := performed.exit_status:
            self._fail(order, FailureReason.EXIT_CODE, f"exit status {status}", started, status)
        else:
            ended: dict[str, Any] = {"started_at": started, "ended_at": self.now_ms}
            self.send(CompleteAttempt(**_identity(order), **ended, result=performed.result))

    def _perform(self, order: RunAttempt) -> Performed:
        perform_with = CALLS.get(order.spec.executor)
        if perform_with is None:
            known, todo = ", ".join(CALLS), "run the job with ftjm up"
            found = f"expected one of the executors of ftjm.testing ({known}), but found {order.spec.executor!r}"
            return failed(FailureReason.START_FAILED, f"{found}; {todo}")
        return perform_with(self, order)

    def _perform_command(self, order: RunAttempt) -> Performed:
        if self._run_command is None:
            text = "a test starts no program: pass a function, as in Cluster(run_command=...)"
            return failed(FailureReason.START_FAILED, text)
        run_command = self._run_command
        command, payload = list(order.spec.command), json_values.decode(order.spec.payload)
        return call(lambda: run_command(command, payload), f"{order.queue}/{order.job_id}", (WorkerLost,))

    def _perform_task(self, order: RunAttempt) -> Performed:
        return perform(order.spec.command[0], order.spec.payload, passes=(WorkerLost,))

    def _context(self, order: RunAttempt) -> Running:
        def checkpoint(**fields: Any) -> None:
            self.send(CheckpointAttempt(**_identity(order), **fields))

        return Running(
            Attempt(f"{order.queue}/{order.job_id}", order.run, order.attempt, json_values.decode(order.checkpoint)),
            lambda data: checkpoint(data=data),
            lambda fraction, text: checkpoint(progress=fraction, text=text),
        )

    def _fail(self, order: RunAttempt, reason: FailureReason, error: str, started: int, exit_status: int = 0) -> None:
        ended: dict[str, Any] = {"started_at": started, "ended_at": self.now_ms}
        self.send(FailAttempt(**_identity(order), **ended, exit_code=exit_status, reason=reason, error=error))


CALLS: Mapping[str, Callable[[Cluster, RunAttempt], Performed]] = {
    COMMAND: Cluster._perform_command,
    PYTHON: Cluster._perform_task,
}
"""What stands for each executor in a test."""


def _identity(order: RunAttempt) -> dict[str, Any]:
    identity = {name: getattr(order, name) for name in ("queue", "job_id", "run", "attempt", "session")}
    return identity | {"actor": f"worker/{WORKER}"}


class _ClusterPorts:
    """The ports of the partition's owner: the cluster's clock, and the offers of its one worker."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def wall_ms(self) -> int:
        return self._cluster.now_ms

    def boot_ms(self) -> int:
        return self._cluster.now_ms

    def lapses(self, state: StateView, since: int) -> list[Lapse]:  # noqa: ARG002  (the worker is never silent)
        return []

    def offers(self, partition: int, now: int, declined: Mapping[str, int]) -> list[Offer]:  # noqa: ARG002
        return self._cluster._offers()


class MemoryTransport:
    """The client's transport. A call that waits makes the cluster work."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tickets: dict[str, Ticket] = {}

    def now(self) -> int:
        """See `Transport.now`."""
        return self._cluster.now_ms

    def send(self, command: Command) -> Ticket:
        """See `Transport.send`."""
        command.actor, command.sent_at = command.actor or CLIENT, self.now()
        awaits = isinstance(command, SubmitJob) and command.awaits
        ticket = Ticket(command, acknowledged=True, awaits=awaits, correlation=str(len(self._tickets) + 1))
        self._tickets[ticket.correlation] = ticket
        self._append(ticket, command)
        return ticket

    def add(self, command: Command) -> Ticket:
        """See `Transport.add`."""
        return self.send(command)

    def ask(self, ticket: Ticket) -> None:
        """See `Transport.ask`."""
        self._append(ticket, question(ticket))

    def _append(self, ticket: Ticket, command: Command) -> None:
        self._cluster.send(command, f"0/{CLIENT}/{ticket.correlation}")

    def forget(self, ticket: Ticket) -> None:
        """Do nothing: more answers for a ticket do no harm."""

    def confirm(self, tickets: list[Ticket]) -> None:
        """Do nothing: the log has every command as soon as it is sent."""

    def wait(self, done: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """See `Transport.wait`."""
        wait_ms = FOREVER_MS if timeout_seconds is None else int(timeout_seconds * 1000)
        return self._cluster._work_until(done, self.now() + wait_ms)

    def events(self, queue: str, job_id: str, since_ms: int) -> Iterator[list[e.Event]]:  # noqa: ARG002  (it reads all)
        """See `Transport.events`."""
        self._cluster.run()
        seen = 0
        while True:
            found = self._cluster.events()
            yield [event for event in found[seen:] if (event.queue, event.job_id) == (queue, job_id)]
            seen = len(found)
            before = self.now()
            if not self._cluster._step():
                due = self._cluster._partition.state.next_due()
                self._cluster.now_ms = max(before, due if due is not None else before + 1_000)

    def trimmed_job(self, queue: str, job_id: str, since_ms: int) -> None:  # noqa: ARG002
        """Return None: the log of this cluster is never trimmed."""
        return

    def receive(self, answer: CommandReply | JobOutcome) -> None:
        """Take in an answer for one of the tickets."""
        ticket = self._tickets[answer.correlation]
        if isinstance(answer, CommandReply):
            ticket.reply = answer
        else:
            ticket.outcome = answer

    def close(self) -> None:
        """Do nothing: there is no connection."""

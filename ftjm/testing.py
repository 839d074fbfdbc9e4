"""A cluster in memory, for tests of your own: the real engine, your tasks in this process, and a clock that you turn.

    with ftjm.testing.Cluster(app=["thumbnails.tasks"]) as cluster:
        handle = cluster.client.submit(resize("a.png", width=200), delay="1h")
        cluster.advance("59m")
        assert handle.state() == "SCHEDULED"
        assert handle.result() == {"width": 200}

Nothing happens by itself: the cluster works while somebody waits (`handle.result()`, `handle.watch()`, `advance`,
`run`). Waiting turns the clock to the next thing that is due, so that a backoff of an hour takes no time. A task that
calls `cluster.advance` takes that long: beyond its timeout it has failed. One that raises `WorkerLost` has taken its
worker with it.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ftjm.adapters import codec
from ftjm.adapters.memory import MemoryLog, MemoryStore
from ftjm.core import events as e
from ftjm.core.commands import CheckpointAttempt, Command, CompleteAttempt, FailAttempt, SubmitJob
from ftjm.core.decide import Policy
from ftjm.core.matching import Offer
from ftjm.core.messages import CommandReply, JobOutcome, RunAttempt, StopAttempt
from ftjm.core.model import FailureReason
from ftjm.durations import parse_duration
from ftjm.engine.outbox import Outbox
from ftjm.engine.partition import Partition
from ftjm.engine.ports import Parcel
from ftjm.sdk import apps, plain
from ftjm.sdk.client import Client
from ftjm.sdk.running import CURRENT, Attempt, Running
from ftjm.sdk.tasks import TASKS
from ftjm.tickets import Ticket
from ftjm.worker import taskrun

START_MS = 1_900_000_000_000
FOREVER_MS = 10 * 365 * 86_400_000
SLOTS = 1_000_000
WORKER, SESSION, CLIENT = "testing", "testing-session", "testing-client"

RunCommand = Callable[[list[str], Any], Any]
"""Stands for the programs of command jobs: gets the words and the payload, and returns the result, or raises."""


class WorkerLost(Exception):
    """Raised by a task under test: its worker dies here, and the attempt is lost and not charged."""


class Cluster:
    """One partition, one worker, one client. A context manager.

    Args:
        app: modules that define tasks; those of modules that are imported already are known without.
        run_command: what command jobs do, since no program is started here.
        retention: how long ended jobs are kept.
    """

    def __init__(
        self, app: Iterable[str] = (), *, run_command: RunCommand | None = None, retention: str = "7d"
    ) -> None:
        """Raises AppError for a module that cannot be imported."""
        apps.load(app)
        self.now_ms = START_MS
        self._run_command = run_command
        self._log = MemoryLog(1)
        retention_ms = parse_duration(retention)
        self._owner = Partition(Policy(0, 1, retention_ms=retention_ms), MemoryStore(), codec, self._log.log_id)
        self._owner.lead(self._log.fence(0), "testing")
        self._outbox = Outbox(0, codec, self._deliver, 0)
        self._orders: deque[RunAttempt] = deque()
        self._running: RunAttempt | None = None
        self._queues: set[str] = set()
        self._memory = Memory(self, retention_ms)
        self.client = Client(transport=self._memory)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    # -- time

    def advance(self, duration: str) -> None:
        """Turn the clock on, such as by `90s` or `1h30m`; what falls due meanwhile is done in its time."""
        end = self.now_ms + parse_duration(duration)
        if self._running is not None:
            # Within a task: time passes for the others only when it has ended.
            self.now_ms = end
            return
        self._until(lambda: False, end)

    def run(self) -> None:
        """Do what can be done now, without turning the clock."""
        self._until(lambda: False, self.now_ms)

    def _until(self, done: Callable[[], bool], end: int) -> bool:
        """Work, and turn the clock to whatever is due next, until it is done or the end has come."""
        while not done():
            if self._step():
                continue
            due = self._owner.state.next_due()
            if due is None or due > end:
                if end < START_MS + FOREVER_MS:
                    self.now_ms = max(self.now_ms, end)
                    self._step()
                return done()
            self.now_ms = max(self.now_ms, due)
        return True

    # -- the engine

    def send(self, command: Command, reply_to: str = "") -> None:
        """Append a command to the log."""
        if isinstance(command, SubmitJob):
            self._queues.add(command.queue)
        self._log.send(0, codec.encode(command), reply_to=reply_to)

    def events(self) -> list[e.Event]:
        """All that has happened, in order."""
        found = (codec.decode(record.value) for record in self._log.events(0, 0))
        return [event for event in found if isinstance(event, e.Event)]

    def _step(self) -> bool:
        """One batch, or one attempt; whether anything happened."""
        if self._orders and self._running is None:
            self._attempt(self._orders.popleft())
            return True
        before = self._owner.position.batch_no
        waiting = self._log.commands(0, self._owner.position.next_command)
        offer = Offer(SESSION, WORKER, 0, 60_000, tuple(sorted(self._queues)), 1, SLOTS)
        self._owner.work(self.now_ms, waiting, offers=[offer] if self._queues and self._running is None else [])
        self._outbox.ship(self._owner.state, self._owner.to_ship)
        self._owner.to_ship = []
        self._owner.settle(self.now_ms, self._outbox.sent)
        return self._owner.position.batch_no > before

    def _deliver(self, parcel: Parcel, told: Callable[[bool], None]) -> None:
        message = codec.decode(parcel.value)
        if isinstance(message, CommandReply | JobOutcome):
            self._memory.hear(message)
        elif isinstance(message, RunAttempt):
            self._orders.append(message)
        elif isinstance(message, StopAttempt):
            self._stop(message)
        told(True)

    # -- the worker

    def _stop(self, stop: StopAttempt) -> None:
        for order in [order for order in self._orders if (order.job_id, order.attempt) == (stop.job_id, stop.attempt)]:
            self._orders.remove(order)
            self._fail(order, FailureReason.STOPPED, "stopped on request", self.now_ms)

    def _attempt(self, order: RunAttempt) -> None:
        started, self._running = self.now_ms, order
        token = CURRENT.set(self._context(order))
        try:
            value = self._call(order)
            result = b"" if value is None else plain.encode(value, f"the result of {order.queue}/{order.job_id}")
        except WorkerLost:
            self._fail(order, FailureReason.GUARD_LOST, "its worker was lost", started)
        except _NotStarted as error:
            self._fail(order, FailureReason.START_FAILED, str(error), started)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            text = "".join(traceback.format_exception(error))
            self._fail(order, FailureReason.EXCEPTION, text[-taskrun.ERROR_CHARACTERS_MAX :], started)
        else:
            timeout_ms = order.spec.timeout_ms
            if timeout_ms and self.now_ms - started > timeout_ms:
                self._fail(order, FailureReason.TIMEOUT, "stopped at its timeout", started)
            else:
                ended: dict[str, Any] = {"started_at": started, "ended_at": self.now_ms}
                self.send(CompleteAttempt(**_about(order), **ended, result=result))
        finally:
            CURRENT.reset(token)
            self._running = None

    def _call(self, order: RunAttempt) -> Any:
        spec = order.spec
        if spec.executor == "command":
            if self._run_command is None:
                raise _NotStarted("no program is started in a test: give Cluster(run_command=...)")
            return self._run_command(list(spec.command), plain.decode(spec.payload))
        task = TASKS.get(spec.command[0])
        if task is None:
            raise _NotStarted(taskrun.unknown(spec.command[0]))
        args, kwargs = taskrun.arguments(spec.payload)
        return task.function(*args, **kwargs)

    def _context(self, order: RunAttempt) -> Running:
        def say(**said: Any) -> None:
            self.send(CheckpointAttempt(**_about(order), **said))

        return Running(
            Attempt(f"{order.queue}/{order.job_id}", order.run, order.attempt, plain.decode(order.checkpoint)),
            lambda data: say(data=data),
            lambda fraction, text: say(progress=fraction, text=text),
        )

    def _fail(self, order: RunAttempt, reason: FailureReason, error: str, started: int) -> None:
        ended: dict[str, Any] = {"started_at": started, "ended_at": self.now_ms}
        status = int(reason is FailureReason.EXCEPTION)
        self.send(FailAttempt(**_about(order), **ended, exit_code=status, reason=reason, error=error))


class _NotStarted(Exception):
    """The attempt cannot begin."""


def _about(order: RunAttempt) -> dict[str, Any]:
    about = {name: getattr(order, name) for name in ("queue", "job_id", "run", "attempt", "session")}
    return about | {"actor": f"worker/{WORKER}"}


class Memory:
    """The client's transport: waiting makes the cluster work."""

    def __init__(self, cluster: Cluster, retention_ms: int) -> None:
        self.retention_ms = retention_ms
        self._cluster = cluster
        self._tickets: dict[str, Ticket] = {}

    def now(self) -> int:
        return self._cluster.now_ms

    def send(self, command: Command) -> Ticket:
        command.actor, command.sent_at = command.actor or CLIENT, self.now()
        ticket = Ticket(command, acknowledged=True, correlation=str(len(self._tickets) + 1))
        self._tickets[ticket.correlation] = ticket
        self.again(ticket)
        return ticket

    def again(self, ticket: Ticket) -> None:
        self._cluster.send(ticket.command, f"0/{CLIENT}/{ticket.correlation}")

    def forget(self, ticket: Ticket) -> None:
        """It costs nothing to hear more of it."""

    def confirm(self, tickets: list[Ticket]) -> None:
        """The log has it at once."""

    def wait(self, done: Callable[[], bool], timeout_seconds: float | None) -> bool:
        wait_ms = FOREVER_MS if timeout_seconds is None else int(timeout_seconds * 1000)
        return self._cluster._until(done, self.now() + wait_ms)

    def events(self, queue: str, job_id: str, since_ms: int) -> Iterator[list[e.Event]]:  # noqa: ARG002  (it reads all)
        self._cluster.run()
        seen = 0
        while True:
            found = self._cluster.events()
            yield [event for event in found[seen:] if (event.queue, event.job_id) == (queue, job_id)]
            seen = len(found)
            before = self.now()
            if not self._cluster._step():
                due = self._cluster._owner.state.next_due()
                self._cluster.now_ms = max(before, due if due is not None else before + 1_000)

    def hear(self, answer: CommandReply | JobOutcome) -> None:
        """An answer for one of our tickets."""
        ticket = self._tickets[answer.correlation]
        if isinstance(answer, CommandReply):
            ticket.reply = answer
        else:
            ticket.outcome = answer

    def close(self) -> None:
        """Nothing is held."""

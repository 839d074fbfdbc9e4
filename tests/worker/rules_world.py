"""A worker's rules under test: time is a number, and the test plays the owners."""

from itertools import count

from ftjm.core.bounds import confine
from ftjm.core.identity import partition_for
from ftjm.core.records.messages import RunAttempt, SlotOffer
from ftjm.core.state.model import JobSpec
from ftjm.worker.attempts.protocol import Ended
from ftjm.worker.rules.actions import Action, Halt, OpenLane, RenewLease, Report, Run, SendHeartbeat
from ftjm.worker.rules.session import CLOCK_RATE, GUARD_MARGIN_MS, WorkerIdentity
from ftjm.worker.rules.worker_life import WorkerRules

LEASE_MS = 5_000
HOLDS_MS = int(CLOCK_RATE * LEASE_MS) - GUARD_MARGIN_MS
"""From a heartbeat to the deadline that it gives."""


def identity(
    slots: int = 2, queues: tuple[str, ...] = ("q",), partitions: int = 1, ahead: int | None = 0
) -> WorkerIdentity:
    return WorkerIdentity(
        worker="w",
        host="h",
        pid=1,
        slots=slots,
        queues=queues,
        partitions=partitions,
        lanes=4,
        lease_ms=LEASE_MS,
        ahead=ahead,
    )


def queues_in(partitions: int) -> tuple[str, ...]:
    """A queue in each of so many partitions, in their order."""
    found = {partition_for(name, partitions): name for name in (f"q{i}" for i in range(100))}
    return tuple(found[partition] for partition in range(partitions))


class World:
    """Drives one `WorkerRules`, and keeps the requested actions until `take`."""

    def __init__(
        self, slots: int = 2, queues: tuple[str, ...] = ("q",), partitions: int = 1, ahead: int | None = 0
    ) -> None:
        names = count(1)
        self.rules = WorkerRules(identity(slots, queues, partitions, ahead), lambda: f"s{next(names)}")
        self.now = 1_000
        self.connected = True
        self.booted_at = 0
        """When the host booted, by the brokers' clock, which heartbeats tell; 0 if they do not."""
        self.actions: list[Action] = []
        self.numbers: dict[tuple[str, int], int] = {}
        self.tick()

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            self.actions.append(action)
            if isinstance(action, OpenLane):
                self.do(self.rules.lane_opened(action.session))
            elif isinstance(action, SendHeartbeat) and self.connected:
                assert not confine(action.heartbeat), "schedulers drop a heartbeat that is out of bounds"
                logged_ms = self.booted_at + action.token if self.booted_at else 0
                self.do(self.rules.heartbeat_acknowledged(action.session, action.token, self.now, logged_ms))
            elif isinstance(action, Report) and self.connected:
                self.do(self.rules.report_confirmed(action.session))

    def tick(self, ms: int = 0) -> None:
        """Let time pass, in the steps that the rules request."""
        until = self.now + ms
        while True:
            while actions := self.rules.tick(self.now):
                self.do(actions)
            if self.now >= until:
                return
            self.now = min(until, max(self.now + 1, self.rules.wake_at(self.now)))

    def take(self, kind: type) -> list:
        found = [action for action in self.actions if isinstance(action, kind)]
        self.actions = [action for action in self.actions if not isinstance(action, kind)]
        return found

    def commands(self) -> list:
        return [report.command for report in self.take(Report)]

    def envelope(self, session: str, partition: int = 0) -> dict:
        key = (session, partition)
        self.numbers[key] = self.numbers.get(key, 0) + 1
        return {"session": session, "partition": partition, "number": self.numbers[key]}

    def order(
        self, job: str, *, session: str = "", partition: int = 0, attempt: int = 1, deadline_at: int = 0, **spec
    ) -> RunAttempt:
        current = self.rules.current
        return RunAttempt(
            **self.envelope(session or (current.name if current else "s1"), partition),
            queue="q",
            job_id=job,
            shard_key="",
            run=1,
            attempt=attempt,
            deadline_at=deadline_at,
            spec=JobSpec(command=["true"], **spec),
        )

    def dispatch(self, job: str, **spec) -> RunAttempt:
        order = self.order(job, **spec)
        self.receive(order)
        return order

    def receive(self, message) -> None:
        self.do(self.rules.message_received(message, self.now))

    def start(self, job: str, attempt: int = 1) -> None:
        self.do(self.rules.attempt_started(f"q/{job}/{attempt}", 77, self.now))

    def end(self, job: str, attempt: int = 1, **fields) -> None:
        self.do(self.rules.attempt_ended(Ended(key=f"q/{job}/{attempt}", **fields), self.now))

    def offers(self) -> list[SlotOffer]:
        """The offers of the newest heartbeat."""
        beat: SendHeartbeat = self.take(SendHeartbeat)[-1]
        return beat.heartbeat.offers


__all__ = [
    "HOLDS_MS",
    "LEASE_MS",
    "Halt",
    "OpenLane",
    "RenewLease",
    "Report",
    "Run",
    "SendHeartbeat",
    "World",
    "identity",
    "queues_in",
]

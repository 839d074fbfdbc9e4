"""A worker's rules under test: time is a number, and owners are what the test says."""

from itertools import count

from ftjm.core.messages import RunAttempt, SlotOffer
from ftjm.core.model import JobSpec
from ftjm.worker.duties import Beat, Duty, Extend, Halt, Listen, Report, Run
from ftjm.worker.life import Life
from ftjm.worker.protocol import Ended
from ftjm.worker.session import CLOCK_RATE, GUARD_MARGIN_MS, Identity

LEASE_MS = 5_000
HOLDS_MS = int(CLOCK_RATE * LEASE_MS) - GUARD_MARGIN_MS
"""From a heartbeat to the deadline that it gives."""


def identity(slots: int = 2, queues: tuple[str, ...] = ("q",), partitions: int = 1) -> Identity:
    return Identity(
        worker="w",
        host="h",
        pid=1,
        slots=slots,
        queues=queues,
        partitions=partitions,
        lanes=4,
        lease_ms=LEASE_MS,
    )


class World:
    """Drives one `Life`. What it asked for is kept until `take`."""

    def __init__(self, slots: int = 2, queues: tuple[str, ...] = ("q",), partitions: int = 1) -> None:
        names = count(1)
        self.life = Life(identity(slots, queues, partitions), lambda: f"s{next(names)}")
        self.now = 1_000
        self.connected = True
        self.duties: list[Duty] = []
        self.numbers: dict[tuple[str, int], int] = {}
        self.tick()

    def do(self, duties: list[Duty]) -> None:
        for duty in duties:
            self.duties.append(duty)
            if isinstance(duty, Listen):
                self.do(self.life.opened(duty.session))
            elif isinstance(duty, Beat) and self.connected:
                self.do(self.life.acknowledged(duty.session, duty.token, self.now))
            elif isinstance(duty, Report) and self.connected:
                self.do(self.life.confirmed(duty.session))

    def tick(self, ms: int = 0) -> None:
        """Let time pass, in steps as the rules ask for them."""
        until = self.now + ms
        while True:
            while duties := self.life.tick(self.now):
                self.do(duties)
            if self.now >= until:
                return
            self.now = min(until, max(self.now + 1, self.life.wake_at(self.now)))

    def take(self, kind: type) -> list:
        found = [duty for duty in self.duties if isinstance(duty, kind)]
        self.duties = [duty for duty in self.duties if not isinstance(duty, kind)]
        return found

    def commands(self) -> list:
        return [report.command for report in self.take(Report)]

    def envelope(self, session: str, partition: int = 0) -> dict:
        key = (session, partition)
        self.numbers[key] = self.numbers.get(key, 0) + 1
        return {"session": session, "partition": partition, "number": self.numbers[key]}

    def order(self, job: str, *, session: str = "", partition: int = 0, attempt: int = 1, **spec) -> RunAttempt:
        current = self.life.current
        return RunAttempt(
            **self.envelope(session or (current.name if current else "s1"), partition),
            queue="q",
            job_id=job,
            shard_key="",
            run=1,
            attempt=attempt,
            deadline_at=0,
            spec=JobSpec(command=["true"], **spec),
        )

    def dispatch(self, job: str, **spec) -> RunAttempt:
        order = self.order(job, **spec)
        self.receive(order)
        return order

    def receive(self, message) -> None:
        self.do(self.life.received(message, self.now))

    def start(self, job: str, attempt: int = 1) -> None:
        self.do(self.life.started(f"q/{job}/{attempt}", 77, self.now))

    def end(self, job: str, attempt: int = 1, **fields) -> None:
        self.do(self.life.ended(Ended(key=f"q/{job}/{attempt}", **fields)))

    def offers(self) -> list[SlotOffer]:
        """Those of the newest heartbeat."""
        beat: Beat = self.take(Beat)[-1]
        return beat.heartbeat.offers


__all__ = ["HOLDS_MS", "LEASE_MS", "Beat", "Extend", "Halt", "Listen", "Report", "Run", "World", "identity"]

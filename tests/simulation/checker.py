"""The judge: from the logs, what truly ran, and what clients were told. It shares no rule with what it judges."""

from collections import defaultdict
from typing import TYPE_CHECKING

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide.decision import Policy
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.messages import SlotOffer, WorkerHeartbeat
from ftjm.core.state.model import FailureReason, JobSpec, JobState, LogPosition
from ftjm.engine import partition as engine
from ftjm.lab.checker.resources import messages_of
from tests.simulation.executions import check_executions
from tests.simulation.schedules import Schedules
from tests.simulation.world import Violation, expect

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

Name = tuple[str, str]
Outcome = e.AttemptSucceeded | e.AttemptFailed | e.AttemptLost | e.AttemptStopped | e.AttemptDeclined


class Told:
    """What the events tell of one job."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.run = 1
        self.attempts = 0
        self.open: e.AttemptDispatched | None = None
        self.failures = self.losses = 0
        self.open_stop = ""
        """Why its attempt was asked to stop; empty if it was not."""
        self.unstarted = self.never_ahead = False
        """Whether its attempt was sent ahead and may not have started; whether it must not be sent ahead any more."""
        self.not_before = 0
        self.deadline_at = 0
        self.ended: str = ""
        self.ends: dict[int, str] = {}
        """How each run ended, by its number."""

    def take(self, event: e.Event) -> None:
        match event:
            case e.AttemptDispatched():
                expect(not self.ended and self.open is None, "dispatched in the wrong state:", event)
                expect(event.attempt == self.attempts + 1, "attempt numbers jump:", event)
                expect(event.at >= self.not_before, "dispatched before its time:", event)
                expect(not self.deadline_at or event.at < self.deadline_at, "dispatched after its deadline:", event)
                self.attempts, self.open = event.attempt, event
                patient = self.spec.on_worker_loss == "requeue" and not self.spec.continue_for_ms
                expect(not event.ahead or (patient and not self.never_ahead), "must not be sent ahead:", event)
                self.unstarted = event.ahead
            case e.AttemptStarted() | e.AttemptCheckpointed():
                expect(self.open is not None and self.open.attempt == event.attempt, "stale report:", event)
                self.unstarted = False
            case e.AttemptSucceeded() | e.AttemptFailed() | e.AttemptLost() | e.AttemptStopped() | e.AttemptDeclined():
                self._outcome(event)
            case e.JobStopRequested():
                expect(event.reason != "WINDOW" or not self.open_stop, "a window stops what is being stopped:", event)
                self.open_stop = event.reason
            case e.JobFailed() | e.JobCancelled() | e.JobSkipped():
                expect(not self.ended and self.open is None, "ended in the wrong state:", event)
                self._end({e.JobFailed: "FAILED", e.JobCancelled: "CANCELLED"}.get(type(event), "SKIPPED"))
            case e.JobRerun():
                expect(bool(self.ended), "a rerun of what has not ended:", event)
                expect(event.run == self.run + 1, "run numbers jump:", event)
                self.run, self.ended = event.run, ""
                self.failures = self.losses = self.not_before = 0
                self.never_ahead = False
                self.deadline_at = event.deadline_at
            case _:
                pass
        expect(event.run == self.run, "of another run:", event)

    def _outcome(self, event: Outcome) -> None:
        expect(self.open is not None, "an outcome of no attempt:", event)
        assert self.open is not None
        mine = (self.open.attempt, self.open.session) == (event.attempt, event.session)
        expect(mine, "an outcome of another attempt:", event, "while", self.open)
        self.open = None
        if isinstance(event, e.AttemptSucceeded):
            expect(not self.ended, "a second success:", event)
            self._end("SUCCEEDED")
        elif isinstance(event, e.AttemptFailed):
            self.failures += 1
            charged = self.open_stop == "WINDOW" and event.reason is FailureReason.STOPPED
            expect(not charged, "a window's stop is charged:", event)
            expect(not event.retry_at or self.failures < self.spec.max_attempts, "too many attempts:", event)
            self.not_before = event.retry_at
        elif isinstance(event, e.AttemptLost):
            excused = self.unstarted and event.reason in ("LAPSED", "CLOSED")
            self.never_ahead |= excused
            self.losses += event.reason != FailureReason.GUARD_LOST_BESIDE and not excused
            is_ending = self.open_stop not in ("", "WINDOW")
            goes_on = is_ending or self.spec.on_worker_loss != "requeue" or bool(event.retry_at)
            expect(goes_on or self.losses > self.spec.worker_losses_max, "given up too early:", event)
            expect(not event.retry_at or self.losses <= self.spec.worker_losses_max, "too many losses:", event)
            self.not_before = event.retry_at
        elif isinstance(event, e.AttemptStopped):
            expect(self.open_stop == "WINDOW", "stopped by no window:", event)
        else:
            self.never_ahead |= self.unstarted
        self.open_stop = ""

    def _end(self, how: str) -> None:
        self.ended = how
        self.ends[self.run] = how


class Log:
    """One partition's events, judged batch by batch, and folded afresh beside the stores of all instances."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.number = number
        self.log = cluster.broker.log
        self.jobs: dict[Name, Told] = {}
        self.forwarded: dict[int, int] = defaultdict(int)
        self.received: dict[int, list[int]] = defaultdict(list)
        self.dispatches: dict[tuple[str, str, int], e.AttemptDispatched] = {}
        self.successes: list[e.AttemptSucceeded] = []
        self.declined: set[tuple[str, str, int]] = set()
        self.live: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        """Attempts that each session holds by the log."""
        self.started: dict[str, set[tuple[str, str, int]]] = defaultdict(set)
        """Live attempts of each session of which the log says that they have started."""
        self.slots: dict[str, int] = {}
        self.offers: dict[tuple[str, int], SlotOffer] = {}
        for (topic, _), values in cluster.broker.lanes.items():
            for heartbeat in values if topic == "heartbeats" else ():
                if isinstance(heartbeat, WorkerHeartbeat):
                    self._take_offers(heartbeat)
        self.paused: set[str] = set()
        """Queues that are paused by the log."""
        self.reruns: set[str] = set()
        self.schedules = Schedules(self.jobs)
        self._stores: dict[int, list[tuple[str, MemoryStore]]] = defaultdict(list)
        for instance in cluster.instances:
            for seat in instance.seats.values():
                if seat.number == number:
                    at = seat.partition.position.applied_offset
                    self._stores[at].append((instance.name, instance.disk[number]))

    def _take_offers(self, heartbeat: WorkerHeartbeat) -> None:
        session = heartbeat.session
        self.slots[session] = max(heartbeat.slots, self.slots.get(session, 0))
        for offer in heartbeat.offers:
            if offer.partition == self.number:
                self.offers[session, offer.number] = offer

    def _check_place(self, event: e.AttemptDispatched) -> None:
        """At every prefix: live attempts within slots and places ahead, and ahead only where no slot is free."""
        offer, live = self.offers[event.session, event.offer], self.live[event.session]
        expect(len(live) < offer.slots + offer.ahead, "more than was offered:", event, offer)
        expect(event.ahead == (len(live) >= offer.slots), "ahead of a free slot, or not:", event, offer, len(live))

    def check(self) -> None:
        rows = MemoryStore()
        policy = Policy(self.number, self.log.partitions, retention_ms=86_400_000)
        fresh = engine.Partition(policy, rows, codec, self.log.log_id)
        batch: list[e.Event] = []
        last = e.BatchClosed(
            batch_no=0,
            now=0,
            next_command=0,
            owner_epoch=0,
            owner="",
            outbox_sent=0,
            events=0,
            state_version=0,
            state_hash=b"",
        )
        for record in self.log.events(self.number, 0):
            try:
                fresh.fold(record)
            except (AssertionError, engine.Diverged) as stop:
                raise Violation(f"partition {self.number} cannot be folded: {type(stop).__name__} {stop}") from stop
            event = codec.decode(record.value)
            if not isinstance(event, e.BatchClosed):
                batch.append(event)
                continue
            self._check_batch(last, batch, event)
            batch, last = [], event
            for name, store in self._stores.pop(record.offset, ()):
                same = list(store.scan(b"", b"\xff")) == list(rows.scan(b"", b"\xff"))
                expect(same, f"the store of {name} for partition {self.number} differs from the log")
        empty = self._stores.pop(-1, ())
        expect(not self._stores, "stores stand at offsets that close no batch:", dict(self._stores))
        expect(not empty or last.batch_no == 0, "stores are empty:", empty)
        commands = len(self.log.commands(self.number, 0))
        decided = self.log.resume_position(self.number, LogPosition(last.next_command, last.command_epoch)).offset
        expect(decided == commands, f"{commands} commands, decided up to {decided}")

    def _check_batch(self, last: e.BatchClosed, batch: list[e.Event], closed: e.BatchClosed) -> None:
        at = f"partition {self.number} batch {closed.batch_no}:"
        expect(closed.batch_no == last.batch_no + 1, at, "follows", last.batch_no)
        expect(closed.events == len(batch), at, "says", closed.events, "events, and has", len(batch))
        expect(closed.now >= last.now, at, "time goes back")
        expect(closed.owner_epoch >= last.owner_epoch, at, "an owner that was replaced wrote")
        expect(closed.owner_epoch > last.owner_epoch or closed.owner == last.owner, at, "two owners of one epoch")
        expect(closed.outbox_sent >= last.outbox_sent, at, "the outbox goes back")
        answered = {int(event.cause_ref) for event in batch if event.cause is e.Cause.COMMAND}
        expect(closed.command_epoch >= last.command_epoch, at, "commands of a leader that was replaced")
        begin = last.next_command
        if closed.command_epoch > last.command_epoch >= 0:  # perhaps the log of commands has lost its tail
            begin = min({begin, *answered})
        wanted = set(range(begin, closed.next_command))
        expect(answered == wanted, at, "answers", answered, "and not", wanted)
        for event in batch:
            self._take(event)
        self.schedules.end_of_batch()

    def _take(self, event: e.Event) -> None:
        name = event.queue, event.job_id
        self.schedules.take(event)
        if isinstance(event, e.JobSubmitted):
            expect(name not in self.jobs, "submitted twice:", event)
            self.jobs[name] = Told(event.spec)
            self.jobs[name].not_before = event.due_at
            self.jobs[name].deadline_at = event.deadline_at
            return
        for partition in messages_of(event):
            self.forwarded[partition] += 1
        if isinstance(event, e.ForwardReceived):
            self.received[event.source].append(event.number)
        elif isinstance(event, e.QueuePaused):
            self.paused.add(event.queue)
        elif isinstance(event, e.QueueResumed):
            self.paused.discard(event.queue)
        elif isinstance(event, e.AttemptDispatched):
            expect(event.queue not in self.paused, "of a paused queue:", event)
            self._check_place(event)
            self.dispatches[*name, event.attempt] = event
            self.live[event.session].add((*name, event.attempt))
        elif isinstance(event, e.AttemptStarted):
            self.started[event.session].add((*name, event.attempt))
            expect(len(self.started[event.session]) <= self.slots[event.session], "more run than slots:", event)
        elif isinstance(event, e.AttemptSucceeded):
            self.successes.append(event)
        elif isinstance(event, e.JobRerun):
            expect(event.command_id not in self.reruns, "carried out twice:", event)
            self.reruns.add(event.command_id)
        if isinstance(event, Outcome):
            self.live[event.session].discard((*name, event.attempt))
            self.started[event.session].discard((*name, event.attempt))
        if isinstance(event, e.AttemptDeclined):
            self.declined.add((*name, event.attempt))
        if name in self.jobs and not isinstance(event, e.CommandRejected | e.CommandForwarded):
            self.jobs[name].take(event)


def check(cluster: "Cluster") -> None:
    """Raises Violation."""
    logs = [Log(cluster, p) for p in range(cluster.broker.log.partitions)]
    for log in logs:
        log.check()
    for log in logs:
        for to, count in log.forwarded.items():
            arrived = logs[to].received[log.number]
            expect(arrived == list(range(1, count + 1)), f"{count} forwarded {log.number} -> {to}, applied {arrived}")
        for source, numbers in log.received.items():
            sent = logs[source].forwarded[log.number]
            expect(len(numbers) == sent, f"{sent} forwarded {source} -> {log.number}, applied {numbers}")
    jobs = {name: told for log in logs for name, told in log.jobs.items()}
    for name, told in jobs.items():
        expect(bool(told.ended) and told.open is None, "never ended:", name)
    dispatches = {key: event for log in logs for key, event in log.dispatches.items()}
    successes = [event for log in logs for event in log.successes]
    declined = {attempt for log in logs for attempt in log.declined}
    check_executions(cluster.workers, dispatches, successes, declined)
    _check_clients(cluster, jobs)


def _check_clients(cluster: "Cluster", jobs: dict[Name, Told]) -> None:
    submitted: dict[Name, JobSpec] = {}
    for client in cluster.clients:
        for request in client.requests:
            command, reply = request.command, request.reply
            assert reply is not None
            name = command.queue, command.job_id
            if isinstance(command, c.TriggerSchedule) and reply.accepted:
                name = command.queue, f"{command.name}.now.{command.command_id}"
            expect((reply.queue, reply.job_id) == name, "the answer speaks of another job:", reply)
            if isinstance(command, c.SubmitJob):
                expect(name in jobs, "acknowledged, and lost:", name)
                if reply.accepted:
                    first = submitted.setdefault(name, command.spec)
                    expect(first == command.spec, "two contents of one job were accepted:", name)
                else:
                    expect(reply.code == "IDENTITY_TAKEN", "refused for no reason:", reply)
            if request.outcome is not None:
                outcome = request.outcome
                ended = jobs[name].ends.get(outcome.run)
                expect(outcome.state == ended, "told", outcome.state, "of a run that ended", ended, outcome)
                JobState[outcome.state]

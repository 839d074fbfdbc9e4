"""Clients: they ask until they are answered, sometimes twice, sometimes in the wrong place."""

from collections.abc import Callable
from typing import Any

import msgspec

from ftjm.adapters.avro import codec
from ftjm.core.identity import key_of, partition_for
from ftjm.core.records import commands as c
from ftjm.core.records.messages import CommandReply, JobOutcome
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.model import JobSpec, OnWorkerLoss
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.core.state.queues import JobDefaults, OnConflict, QueueSpec, Share, WaitingAction, WaitingLimit
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.core.state.schedules import CatchUp, Overlap, ScheduleSpec
from ftjm.core.state.windows import OnClose, WindowEffect, WindowSpec
from tests.simulation.network import Broker
from tests.simulation.world import EPOCH_MS, Host, Process, World, utc_date

ENDLESS = "endless"
"""Label of jobs whose attempts end only if they are stopped."""


class Request:
    """One wish, asked for until it is answered."""

    def __init__(self, command: c.Command, at: float) -> None:
        self.command = command
        self.next_at = at
        self.asked = 0
        self.acknowledged = False
        """Whether the log has it: from then on it may not be lost."""
        self.reply: CommandReply | None = None
        self.outcome: JobOutcome | None = None

    @property
    def awaits(self) -> bool:
        return isinstance(self.command, c.SubmitJob) and self.command.awaits

    @property
    def done(self) -> bool:
        if self.reply is None:
            return False
        return not self.awaits or not self.reply.accepted or self.outcome is not None


class Client(Process):
    """A user's program; killed and run again, it asks again for what it has no answer to."""

    def __init__(self, world: World, host: Host, name: str, broker: Broker, lanes: int) -> None:
        super().__init__(world, host, name)
        self.broker = broker
        self.requests: list[Request] = []
        self.lane = partition_for(name, lanes)

    def on_start(self) -> None:
        self._read_to = self.broker.end("replies", self.lane)
        self.later(self.world.delay(1, 100), self._step)

    def on_crash(self) -> None:
        self.world.later(self.world.delay(100, 2_000), self.start)

    def ask(self, command: c.Command, at: float) -> None:
        self.requests.append(Request(command, at))

    @property
    def session(self) -> str:
        return f"{self.name}.{self.life}"

    def _step(self) -> None:
        for value in self.broker.read(self.host, "replies", self.lane, self._read_to, 50):
            self._read_to += 1
            self._answered(codec.decode(value))
        for number, request in enumerate(self.requests):
            if not request.done and self.world.now >= request.next_at:
                self._send(number, request)
                request.next_at = self.world.now + self.world.delay(700, 3_000)
        self.later(self.world.delay(20, 150), self._step)

    def _answered(self, answer: CommandReply | JobOutcome) -> None:
        if answer.session != self.session:
            return
        request = self.requests[int(answer.correlation)]
        if isinstance(answer, CommandReply):
            request.reply = request.reply or answer
        else:
            request.outcome = request.outcome or answer

    def _send(self, number: int, request: Request) -> None:
        draw, partitions = self.world.random, self.broker.log.partitions
        request.asked += 1
        command = request.command
        partition = partition_for(key_of(command), partitions)
        if draw.random() < 0.15:
            partition = draw.randrange(partitions)
        reply_to = f"{self.lane}/{self.session}/{number}"
        value = codec.encode(command)
        for _ in range(2 if self.world.chance(0.1) else 1):
            self.broker.send(
                self,
                "commands",
                partition,
                self._append(partition, value, reply_to),
                lambda: setattr(request, "acknowledged", True),
            )

    def _append(self, partition: int, value: bytes, reply_to: str) -> Callable[[], None]:
        def append() -> None:
            self.broker.log.send(partition, value, reply_to=reply_to)

        return append


def plan(client: Client, queues: tuple[str, ...], until: float) -> None:
    """What this client wants over the whole history."""
    world = client.world
    draw = world.random
    for number in range(draw.randint(3, 9)):
        queue, job_id = draw.choice(queues), f"{client.name}-{number}"
        at = draw.uniform(0, until)
        spec = _spec(world)
        awaits, explicit = draw.random() < 0.5, _explicit(world, spec)
        client.ask(c.SubmitJob(queue=queue, job_id=job_id, spec=spec, awaits=awaits, explicit=explicit), at)
        if draw.random() < 0.1:
            other = msgspec.structs.replace(spec, labels={"other": "1"})
            client.ask(c.SubmitJob(queue=queue, job_id=job_id, spec=other), at + draw.uniform(0, 1_000))
        lot, then = draw.random(), at + draw.expovariate(1 / 800)
        if lot < 0.12:
            client.ask(c.CancelJob(queue=queue, job_id=job_id, reason="enough"), then)
        elif lot < 0.24:
            client.ask(c.HoldJob(queue=queue, job_id=job_id), then)
            client.ask(c.ReleaseJob(queue=queue, job_id=job_id), then + draw.uniform(100, 2_000))
        elif lot < 0.4:
            for again in range(draw.randint(1, 2)):
                name = f"{job_id}-again{again}"
                rerun = c.RerunJob(queue=queue, job_id=job_id, command_id=name)
                client.ask(rerun, then + draw.uniform(500, 6_000))
    if draw.random() < 0.3:
        client.ask(c.CancelJob(queue=queues[0], job_id="no-such-job"), draw.uniform(0, until))
    if world.crowded:
        _plan_crowd(client, queues, until)
    if world.limited:
        _plan_limits(client, queues, until)
    if world.limited:
        _plan_keys(client, queues, until)
        _plan_resources(client, until)
    if world.scheduled:
        _plan_schedules(client, queues, until)
    if world.endless:
        _plan_endless(client, queues, until)


def _plan_crowd(client: Client, queues: tuple[str, ...], until: float) -> None:
    """More jobs at a time than there are slots, some of which are cancelled while they wait for one."""
    draw = client.world.crowd
    for wave in range(draw.randint(1, 2)):
        at, queue = draw.uniform(0, until * 0.7), draw.choice(queues)
        for number in range(draw.randint(5, 12)):
            job_id = f"{client.name}-crowd{wave}-{number}"
            client.ask(c.SubmitJob(queue=queue, job_id=job_id, spec=_spec(client.world)), at)
            if draw.random() < 0.1:
                client.ask(c.CancelJob(queue=queue, job_id=job_id), at + draw.uniform(100, 1_000))
        if draw.random() < 0.3:
            client.ask(c.PauseQueue(queue=queue, reason=client.name), at + draw.uniform(0, 500))
            client.ask(c.ResumeQueue(queue=queue), at + draw.uniform(500, 3_000))


def _plan_resources(client: Client, until: float) -> None:
    """Resources that every partition must know, declared by several at once, and deleted."""
    draw = client.world.resources
    for _ in range(draw.randint(1, 5)):
        at = draw.uniform(0, until * 0.8)
        kind, name = draw.choice(list(ResourceKind)), draw.choice(("w0", "w1"))
        if kind is ResourceKind.CALENDAR:
            spec = ResourceSpec(calendar=[CalendarSpec(excluded=[f"2026-12-{draw.randint(10, 31)}"])])
        elif kind is ResourceKind.CORDON:
            spec = ResourceSpec(cordon=[CordonSpec(client.name)])
        else:
            # Histories begin 20 s after a full minute.
            effect, seconds = draw.choice(((WindowEffect.DENY, draw.randint(21, 28)), (WindowEffect.ALLOW, 23)))
            workers = draw.choice(([], [], ["w0"], ["*1"]))
            on_close = client.world.closings.choice((OnClose.FINISH, OnClose.STOP, OnClose.STOP))
            spec = ResourceSpec(
                window=[WindowSpec("* * * * *", seconds * 1_000, effect, "UTC", "", ["a", "b*"], workers, on_close)]
            )
        client.ask(c.ApplyResource(kind=kind, name=name, spec=spec), at)
        if draw.random() < 0.5 or kind is not ResourceKind.CALENDAR:
            client.ask(c.DeleteResource(kind=kind, name=name), at + draw.uniform(0, 4_000))


def _plan_limits(client: Client, queues: tuple[str, ...], until: float) -> None:
    """Queues that are declared and no longer declared, and many jobs changed at once, while jobs come and go."""
    draw = client.world.limits
    for number in range(draw.randint(1, 3)):
        at, queue = draw.uniform(0, until * 0.8), draw.choice(queues)
        limit, rate = draw.choice((0, 1, 1, 2)), draw.choice((0, 2, 5))
        ageing = draw.choice((1, 100, 60_000))
        spec = QueueSpec(limit, rate, 1_000, draw.randint(1, 3), ageing, defaults=_defaults(client.world))
        if client.world.shared:
            spec = _with_shares(client.world, spec)
        client.ask(c.ApplyQueue(queue=queue, spec=spec), at)
        if draw.random() < 0.5:
            # Not PURGE: it frees the identity, and a late copy of the submission would rightly be another job.
            action = draw.choice([action for action in BulkAction if action is not BulkAction.PURGE])
            states = JobFilter(states=["SUCCEEDED", "FAILED"] if action is BulkAction.RERUN else [])
            name = f"{client.name}-bulk{number}"
            bulk = c.BulkJobs(queue=queue, action=action, filter=states, command_id=name, priority=draw.choice((0, 99)))
            client.ask(bulk, at + draw.uniform(0, 3_000))
            if draw.random() < 0.2:
                client.ask(c.StopBulk(queue=queue, bulk=name), at + draw.uniform(0, 3_000))
        if draw.random() < 0.3:
            client.ask(c.DeleteQueue(queue=queue), at + draw.uniform(500, 3_000))


def _plan_keys(client: Client, queues: tuple[str, ...], until: float) -> None:
    """Jobs that share concurrency keys, while their queues are declared otherwise."""
    draw = client.world.keys
    for wave in range(draw.randint(1, 3)):
        at, queue = draw.uniform(0, until * 0.7), draw.choice(queues)
        if draw.random() < 0.6:
            declared = QueueSpec(
                key_concurrency=draw.choice((1, 1, 2, 3)),
                on_conflict=draw.choice(list(OnConflict)),
                waiting_limits=[
                    WaitingLimit(
                        draw.choice(("ConcurrencyLimit", "ConcurrencyLimit", "Resources", "QueueLimit", "")),
                        draw.choice((1_000, 1_500, 4_000)),
                        draw.choice(list(WaitingAction)),
                    )
                    for _ in range(draw.randint(0, 2))
                ],
            )
            client.ask(c.ApplyQueue(queue=queue, spec=declared), at + draw.uniform(-500, 2_000))
        for number in range(draw.randint(3, 10)):
            job_id, then = f"{client.name}-key{wave}-{number}", at + draw.uniform(0, 1_500)
            spec = JobSpec(
                command=["work", job_id],
                priority=draw.choice((10, 50, 50, 90)),
                held=draw.random() < 0.1,
                delay_ms=draw.choice((0, 0, draw.randint(1, 1_500))),
                deadline_ms=draw.choice((0, 0, 0, 8_000)),
                max_attempts=draw.randint(1, 3),
                backoff_ms=draw.choice((0, 10, 500)),
                worker_losses_max=9,
                concurrency_key=draw.choice(("one", "one", "two")),
            )
            client.ask(c.SubmitJob(queue=queue, job_id=job_id, spec=spec, awaits=draw.random() < 0.3), then)
            lot, then = draw.random(), then + draw.uniform(0, 2_000)
            if lot < 0.1:
                client.ask(c.CancelJob(queue=queue, job_id=job_id), then)
            elif lot < 0.3:
                client.ask(c.HoldJob(queue=queue, job_id=job_id), then)
                client.ask(c.ReleaseJob(queue=queue, job_id=job_id), then + draw.uniform(100, 1_500))
            elif lot < 0.4:
                client.ask(c.PrioritizeJob(queue=queue, job_id=job_id, priority=draw.choice((0, 99))), then)
            elif lot < 0.5:
                client.ask(c.RerunJob(queue=queue, job_id=job_id, command_id=f"{job_id}-again"), then + 3_000)


def _defaults(world: World) -> list[JobDefaults]:
    """What a queue gives to its jobs, if it gives anything."""
    draw = world.defaults
    given: dict[str, Any] = {
        "cancel_grace_ms": draw.choice((0, 100, 400)),
        "deadline_ms": draw.randint(3_000, 15_000),
        "max_attempts": draw.randint(2, 4),
        "priority": draw.choice((10, 90)),
        "timeout_ms": draw.randint(500, 3_000),
    }
    chosen = {name: value for name, value in given.items() if draw.random() < 0.4}
    return [JobDefaults([*chosen], JobSpec(**chosen))] if chosen else []


def _explicit(world: World, spec: JobSpec) -> list[str]:
    """Fields that a client gives although they have their default. In a log of the first level, it names none."""
    if not world.limited:
        return []
    plain = JobSpec()
    fields = [name for name in JobSpec.__struct_fields__ if getattr(spec, name) == getattr(plain, name)]
    return world.defaults.sample(fields, world.defaults.choice((0, 0, 2, 9)))


def _with_shares(world: World, spec: QueueSpec) -> QueueSpec:
    draw = world.shares
    return msgspec.structs.replace(
        spec,
        weight=draw.choice((1, 3)),
        shares=[Share(name, draw.randint(1, 4)) for name in draw.sample("abc", draw.randint(0, 3))],
        half_life_ms=draw.choice((1_000, 5_000, 600_000)),
        compute_reservation=draw.choice((0, 0, 50)),
    )


def _plan_schedules(client: Client, queues: tuple[str, ...], until: float) -> None:
    """Schedules with short intervals, which end with the faults; some are changed, paused, triggered or deleted."""
    draw = client.world.schedules
    for number in range(draw.randint(1, 2)):
        at, queue, name = draw.uniform(0, until * 0.4), draw.choice(queues), f"{client.name}-every{number}"
        spec = ScheduleSpec(
            job=JobSpec(command=["work", name], max_attempts=draw.randint(1, 2), backoff_ms=10, worker_losses_max=9),
            every_ms=draw.choice((1_000, 1_000, 2_000)),
            end_at=EPOCH_MS + int(until / 1_000) * 1_000,
            starting_deadline_ms=draw.choice((1_000, 1_000, 60_000)),
            catch_up=draw.choice(list(CatchUp)),
            overlap=draw.choice(list(Overlap)),
            jitter_ms=draw.choice((0, 0, 400)),
            explicit=["priority"] if client.world.defaults.random() < 0.5 else [],
        )
        if client.world.calendars.random() < 0.4:
            spec = msgspec.structs.replace(spec, calendar=f"days-{name}")
            _plan_calendar(client, spec.calendar, at, until)
            at += 1_000
        client.ask(c.ApplySchedule(queue=queue, name=name, spec=spec), at)
        if draw.random() < 0.5:
            then = at + draw.uniform(500, 5_000)
            client.ask(c.PauseSchedule(queue=queue, name=name), then)
            client.ask(c.ResumeSchedule(queue=queue, name=name), then + draw.uniform(0, 3_000))
        if draw.random() < 0.5:
            trigger = c.TriggerSchedule(queue=queue, name=name, command_id="wish")
            client.ask(trigger, at + draw.uniform(500, 5_000))
        if draw.random() < 0.3:
            other = msgspec.structs.replace(spec, overlap=draw.choice(list(Overlap)))
            client.ask(c.ApplySchedule(queue=queue, name=name, spec=other), at + draw.uniform(500, 5_000))
        if draw.random() < 0.2:
            client.ask(c.DeleteSchedule(queue=queue, name=name), at + draw.uniform(1_000, 6_000))
        if client.world.backfills.random() < 0.6:
            _plan_backfill(client, queue, name, at, until)


def _plan_calendar(client: Client, name: str, at: float, until: float) -> None:
    """A calendar that excludes today and does not, in turns; some are deleted, and perhaps declared once more."""
    draw, today = client.world.calendars, utc_date(EPOCH_MS)
    client.ask(_calendar(name, []), at)
    for _ in range(draw.randint(0, 3)):
        then = draw.uniform(at, until)
        if draw.random() < 0.25:
            client.ask(c.DeleteResource(kind=ResourceKind.CALENDAR, name=name), then)
        else:
            client.ask(_calendar(name, draw.choice(([today], []))), then)


def _calendar(name: str, excluded: list[str]) -> c.ApplyResource:
    spec = ResourceSpec(calendar=[CalendarSpec(excluded=excluded)])
    return c.ApplyResource(kind=ResourceKind.CALENDAR, name=name, spec=spec)


def _plan_backfill(client: Client, queue: str, name: str, at: float, until: float) -> None:
    """A backfill of some seconds before and behind the schedule's declaration; some are stopped, or follow another."""
    draw = client.world.backfills
    for number in range(draw.randint(1, 2)):
        then = draw.uniform(at + 1_000, max(at + 1_000, until))
        to_at = EPOCH_MS + int(then - draw.uniform(500, 4_000))
        backfill = c.BackfillSchedule(
            queue=queue,
            name=name,
            command_id=f"{name}-b{number}",
            from_at=to_at - draw.choice((1_000, 3_000, 6_000)),
            to_at=to_at,
            reprocess=draw.choice(list(Reprocess)),
            max_active=draw.choice((1, 1, 2, 9)),
        )
        client.ask(backfill, then)
        if draw.random() < 0.2:
            stop = c.StopBackfill(queue=queue, name=name, backfill=backfill.command_id)
            client.ask(stop, then + draw.uniform(0, 3_000))


def _plan_endless(client: Client, queues: tuple[str, ...], until: float) -> None:
    """Jobs whose attempts end only by a cancel or a deadline, also beyond a cut; and one whose deadline has passed."""
    draw = client.world.stops
    for number in range(2):
        queue, job_id, at = draw.choice(queues), f"{client.name}-endless{number}", draw.uniform(0, until * 0.4)
        lasts_ms = draw.randint(15_000, 25_000)
        cancelled = draw.random() < 0.5
        spec = JobSpec(
            command=["work", "until it is stopped"],
            labels={ENDLESS: "yes"},
            deadline_ms=0 if cancelled else lasts_ms,
            worker_losses_max=99,
            continue_for_ms=0 if client.world.virtual else draw.choice((0, 30_000, 30_000)),
            cancel_grace_ms=draw.choice((0, 100, 400)),
        )
        client.ask(c.SubmitJob(queue=queue, job_id=job_id, spec=spec), at)
        if cancelled:
            client.ask(c.CancelJob(queue=queue, job_id=job_id), at + lasts_ms)
    passed = JobSpec(command=["work", "too late"], deadline_at=EPOCH_MS - 10_000)
    client.ask(
        c.SubmitJob(queue=draw.choice(queues), job_id=f"{client.name}-late", spec=passed), draw.uniform(0, until)
    )


def _spec(world: World) -> JobSpec:
    draw = world.random
    if world.leases:
        return JobSpec(
            command=["work", str(draw.random())],
            max_attempts=9,
            backoff_ms=10,
            worker_losses_max=draw.choice((2, 9)),
            continue_for_ms=draw.choice((0, 0, 2_000)),
        )
    return JobSpec(
        command=["work", str(draw.random())],
        priority=draw.choice((10, 50, 50, 90)),
        held=draw.random() < 0.05,
        delay_ms=draw.choice((0, 0, 0, draw.randint(1, 3_000))),
        timeout_ms=draw.choice((0, 0, 0, draw.randint(200, 3_000))),
        deadline_ms=draw.choice((0, 0, 0, 0, draw.randint(1_000, 15_000))),
        max_attempts=draw.choice((1, 2, 3, 4)),
        backoff_ms=draw.choice((10, 200, 1_000)),
        backoff_max_ms=2_000,
        on_worker_loss=draw.choice((*[OnWorkerLoss.REQUEUE] * 5, OnWorkerLoss.FAIL, OnWorkerLoss.HOLD)),
        worker_losses_max=draw.choice((0, 1, 2, 3)),
        continue_for_ms=draw.choice((0, 0, 0, draw.randint(500, 5_000))),
        cancel_grace_ms=draw.choice((0, 100, 400)),
        share_identifier=world.shares.choice(("", "a", "b", "c")) if world.shared else "",
    )

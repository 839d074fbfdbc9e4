"""A worker host: supervisor (the product's `WorkerRules`) and guard, two processes, and the attempts that they run."""

from collections import deque
from collections.abc import Iterable

from ftjm.adapters.avro import codec
from ftjm.core.bounds import confine
from ftjm.core.identity import partition_for
from ftjm.core.records.levels import LEVEL
from ftjm.core.records.messages import MemberVersion, PartitionVersion, SchedulerHeartbeat
from ftjm.core.state.model import STATE_VERSION, FailureReason
from ftjm.worker.attempts.protocol import Ended
from ftjm.worker.rules.actions import Action, CloseLane, Halt, OpenLane, RenewLease, Report, Run, SendHeartbeat
from ftjm.worker.rules.session import WorkerIdentity
from ftjm.worker.rules.worker_life import WorkerRules
from tests.simulation.guards import Frame, Guard, Kernel, Started
from tests.simulation.network import Broker
from tests.simulation.world import EPOCH_MS, Host, Process, World


class Supervisor(Process):
    """Drives `WorkerRules`: reads lanes, does duties, and dies at any step."""

    def __init__(
        self, world: World, host: Host, name: str, broker: Broker, queues: tuple[str, ...], lanes: int
    ) -> None:
        super().__init__(world, host, name)
        self.broker = broker
        self.identity = WorkerIdentity(
            worker=name,
            host=host.name,
            pid=1,
            slots=world.random.randint(1, 3) + (4 if world.virtual else 0),
            queues=queues,
            partitions=broker.log.partitions,
            lanes=lanes,
            ahead=world.crowd.choice((None, 2, 6)) if world.crowded else 0,
            lease_ms=1_500 if world.leases else world.random.choice((1_500, 2_000, 3_000)),
        )
        self.lanes = lanes
        self.kernel = Kernel(world, host, f"{name}/kernel")
        self.kernel.alive = True
        self.guard = Guard(world, host, f"{name}/guard", self.kernel)
        self._sessions = 0
        self.deaf_until = 0.0
        """When it can read its lanes of `dispatch` again."""

    def on_start(self) -> None:
        self.life_rules = WorkerRules(self.identity, self._new_name)
        # Every owner announces that; what a worker does before it knows is the subject of `tests/worker`.
        final = [
            PartitionVersion(partition=partition, level=LEVEL, state_version=STATE_VERSION)
            for partition in range(self.identity.partitions)
        ]
        self.life_rules.scheduler_version(
            MemberVersion(
                member="s", name="s", role="scheduler", release="", level=LEVEL, state_version=0, partitions=final
            )
        )
        self._reading: dict[str, tuple[int, int]] = {}
        self._heard_to = {lane: self.broker.end("heartbeats", lane) for lane in range(self.lanes)}
        self._inbox: deque[Frame] = deque()
        self._new_guard()
        self.later(1, self._step)

    def on_crash(self) -> None:
        # The pipe closes; a guard that is stopped sees it when it wakes.
        guard = self.guard
        guard.later(self.world.delay(0, 20), guard.disconnected)
        self.world.later(self.world.delay(400, 3_000), self.start)

    def _new_guard(self) -> None:
        if self.guard.alive:
            self.guard.disconnected()
        self.guard = Guard(self.world, self.host, f"{self.name}/guard", self.kernel)
        self.guard.connect(self._hear_guard)
        self.guard.start()

    def _new_name(self) -> str:
        self._sessions += 1
        return f"{self.name}.{self._sessions}"

    def lose_guard(self) -> None:
        """The guard is killed: the supervisor, a subreaper too, kills what it ran."""
        self.guard.crash()
        self.later(self.world.delay(0, 20), self._guard_lost)

    def _guard_lost(self) -> None:
        self.kernel.kill_all(FailureReason.GUARD_LOST)
        self._inbox.clear()
        lost = {key for session in self.life_rules.sessions.values() for key in session.held}
        self._do(self.life_rules.guard_lost(lost, lost, self.host.wall_ms()))
        self._new_guard()
        self._tick()

    def drain(self) -> None:
        self.say("drains")
        self._do(self.life_rules.drain())
        if self.world.random.random() < 0.5:
            self._do(self.life_rules.halt_all(at_once=self.world.random.random() < 0.5))
        self._tick()

    # -- inputs

    def _hear_guard(self, frame: Frame) -> None:
        self._inbox.append(frame)
        self.later(self.world.delay(0.1, 3), self._next_frame)

    def _next_frame(self) -> None:
        if not self._inbox:
            return
        frame = self._inbox.popleft()
        if isinstance(frame, Started):
            self._do(self.life_rules.attempt_started(frame.key, frame.started_at, self.host.boot_ms()))
        elif isinstance(frame, Ended):
            self._do(self.life_rules.attempt_ended(frame, self.host.boot_ms()))
        self._tick()

    def _step(self) -> None:
        draw = self.world.random
        for lane, position in self._heard_to.items():
            for heartbeat in self.broker.read(self.host, "heartbeats", lane, position, 30):
                self._heard_to[lane] += 1
                if isinstance(heartbeat, SchedulerHeartbeat):
                    self.life_rules.scheduler_heartbeat(heartbeat, self.host.boot_ms())
        for name, (lane, position) in list(self._reading.items()):
            if self.world.chance(0.05) or self.world.now < self.deaf_until:
                continue
            records = self.broker.read(self.host, "dispatch", lane, position, draw.randint(1, 20))
            self._reading[name] = lane, position + len(records)
            for value in records:
                message = codec.decode(value)
                # Each session has a cursor of its own here, and takes what is addressed to it.
                if message.session == name:
                    self._do(self.life_rules.message_received(message, self.host.boot_ms()))
        self._tick()
        if self.life_rules.finished:
            self.crash()
            return
        self.later(self.world.delay(5, 60), self._step)

    def _tick(self) -> None:
        self._do(self.life_rules.tick(self.host.boot_ms()))

    # -- duties

    def _do(self, duties: Iterable[Action]) -> None:
        for duty in duties:
            match duty:
                case Run() | Halt() | RenewLease():
                    self.guard.tell(duty)
                case Report(session, command):
                    partition = partition_for(command.shard_key or command.queue, self.broker.log.partitions)
                    value = codec.encode(command)
                    self.say("reports", type(command).__name__, command.job_id, command.attempt)
                    self._send(partition, value, session)
                case SendHeartbeat():
                    self._beat(duty)
                case OpenLane(session, lane):
                    self._reading[session] = lane, self.broker.end("dispatch", lane)
                    self.later(self.world.delay(1, 50), lambda name=session: self._opened(name))  # type: ignore[misc]
                case CloseLane(session):
                    self._reading.pop(session, None)
                    self.guard.tell(duty)

    def _send(self, partition: int, value: bytes, session: str) -> None:
        self.broker.send(
            self,
            "commands",
            partition,
            lambda: self._append(partition, value),
            lambda: self._do(self.life_rules.report_confirmed(session)),
        )

    def _append(self, partition: int, value: bytes) -> None:
        self.broker.log.send(partition, value)

    def _beat(self, beat: SendHeartbeat) -> None:
        lane = partition_for(beat.session, self.lanes)
        logged: list[int] = []

        assert not confine(beat.heartbeat), "schedulers drop a heartbeat that is out of bounds"

        def append() -> None:
            self.broker.lanes["heartbeats", lane].append(beat.heartbeat)
            logged.append(EPOCH_MS + int(self.world.now))

        self.broker.send(self, "heartbeats", lane, append, lambda: self._acknowledged(beat, logged[0]), lossy=True)

    def _acknowledged(self, beat: SendHeartbeat, logged_ms: int) -> None:
        now = self.host.boot_ms()
        self._do(self.life_rules.heartbeat_acknowledged(beat.session, beat.token, now, logged_ms))
        self._tick()

    def _opened(self, name: str) -> None:
        self._do(self.life_rules.lane_opened(name))
        self._tick()

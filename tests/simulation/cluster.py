"""A whole cluster from one seed: built, run through its faults, healed, and judged."""

import traceback
from unittest.mock import patch

from ftjm.core.decide import upgrades
from ftjm.core.evolve import sessions
from ftjm.core.records import commands as c
from ftjm.core.records.levels import FIRST_LEVEL, LEVEL
from ftjm.core.state.model import JobState
from ftjm.core.state.resources import ResourceKind, parse_resource_key
from ftjm.core.state.state import State
from ftjm.lab.checker import Verdict
from ftjm.lab.checker.remembered import SESSION_MS
from tests.simulation.checker import check
from tests.simulation.clients import Client, plan
from tests.simulation.faults import Faults
from tests.simulation.group import Group
from tests.simulation.judging import judged
from tests.simulation.network import Broker
from tests.simulation.scheduler import Instance
from tests.simulation.workers import Supervisor
from tests.simulation.world import Host, Violation, World

HEAL_MS_MAX = 60_000
LOOK_MS = 1_000
SESSION_MEMORY_MS = 10_000
"""How long lost sessions are remembered in histories with endless attempts: longer than any heartbeat is on its way."""
QUEUES = ("a", "b", "c", "d")


class Failure(Exception):
    """A seed that broke a promise, with the story of its last steps."""

    def __init__(self, seed: int, what: str, story: str) -> None:
        super().__init__(seed, what, story)
        self.seed = seed
        self.what = what
        self.story = story

    def __reduce__(self) -> tuple[type["Failure"], tuple[int, str, str]]:
        return Failure, (self.seed, self.what, self.story)

    def __str__(self) -> str:
        return (
            f"{self.story}\n\nseed {self.seed}: {self.what}\n"
            f"once more: pytest tests/simulation/test_simulation.py --seed {self.seed}"
        )


class Cluster:
    """All actors of one seed."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed)
        draw = world.random
        partitions, lanes = draw.choice((2, 2, 3)), 2
        self.until = 10_000 if world.leases else draw.choice((4_000, 8_000, 8_000, 14_000))
        if world.virtual:
            self.until = 20_000  # time for a pause, and for what follows from it
        self.broker = Broker(world, partitions, lanes)
        self.instances = [
            Instance(world, Host(world, f"host-s{i}"), f"s{i}", self.broker) for i in range(draw.randint(2, 3))
        ]
        self.workers = [
            Supervisor(world, Host(world, f"host-w{i}"), f"w{i}", self.broker, self._serves(i), lanes)
            for i in range(3 if world.leases else draw.randint(2, 3))
        ]
        self.clients = [Client(world, Host(world, f"host-c{i}"), f"c{i}", self.broker, lanes) for i in range(2)]
        self.group = Group(world, self.broker, self.instances)
        for instance in self.instances:
            instance.group = self.group
        for client in self.clients:
            plan(client, QUEUES, self.until * 0.9)
        self.faults = Faults(world, self.broker, self.group, self.instances, self.workers, self.clients)

    def _serves(self, number: int) -> tuple[str, ...]:
        if number == 0 or self.world.leases:
            return QUEUES
        draw = self.world.random
        return tuple(draw.sample(QUEUES, draw.randint(1, len(QUEUES))))

    def run(self) -> None:
        """Live through it all, with a memory of lost sessions that fits the history. Raises Violation."""
        memory_ms = SESSION_MEMORY_MS if self.world.endless else sessions.SESSION_MEMORY_MS
        level = LEVEL if self.world.crowded else FIRST_LEVEL
        with (
            patch.object(sessions, "SESSION_MEMORY_MS", memory_ms),
            patch.object(upgrades, "LEVEL", level),
        ):
            self._run()

    def _run(self) -> None:
        for process in (*self.instances, *self.workers, *self.clients):
            process.start()
        self.group.tick()
        self.world.later(500, self.faults.strike)
        if self.world.virtual:
            self.world.later(500, self.faults.pause_machines)
        self.world.run(self.until)
        self.faults.stop()
        # A crowd may have to go through the only slot that is left for its queue.
        heal_ms = HEAL_MS_MAX * (4 if self.world.crowded else 1)
        end = self.until + heal_ms
        while self.world.now < end:
            self.world.run(self.world.now + LOOK_MS)
            self._release_held()
            if (stuck := self._unfinished()) is None:
                break
        else:
            raise Violation(f"{heal_ms} ms after everything has healed: {stuck}")
        check(self)
        if self.world.limited and (violations := judge(self).violations):
            raise Violation(violations[0])

    def _release_held(self) -> None:
        """As a person would: what is held is let go, what is paused is resumed, windows and cordons are deleted."""
        person, wishes = self.clients[0], (c.ReleaseJob, c.ResumeQueue, c.DeleteResource)
        if any(isinstance(request.command, wishes) and not request.done for request in person.requests):
            return
        for seat in self.instances[0].seats.values():
            for resource in seat.partition.state.resources_from(ResourceKind.CORDON):
                kind, name = parse_resource_key(resource)
                if kind is not ResourceKind.CALENDAR:
                    person.ask(c.DeleteResource(kind=kind, name=name), self.world.now)
            for queue in seat.partition.state.paused_queues():
                person.ask(c.ResumeQueue(queue=queue), self.world.now)
            for key, _ in seat.partition.state.rows.scan(b"j", b"k"):
                queue, _, job_id = key[1:].decode().partition("/")
                job = seat.partition.state.job(f"{queue}/{job_id}")
                if job is not None and job.state is JobState.HELD:
                    person.ask(c.ReleaseJob(queue=queue, job_id=job_id), self.world.now)

    def _unfinished(self) -> str | None:
        """What is not done yet, if anything."""
        log, seats = self.broker.log, [s for i in self.instances for s in i.seats.values()]
        for client in self.clients:
            for request in client.requests:
                if not request.done:
                    return f"{client.name} has no answer to {request.command}, asked {request.asked} times"
        for p in range(log.partitions):
            owners = [s for s in seats if s.number == p and s.role == "owner"]
            if not owners:
                return f"partition {p} has no owner"
            # A zombie may still think that it owns it: who can write is told by the newest epoch.
            owner = max(owners, key=lambda s: s.partition.position.owner_epoch)
            if why := self._busy(p, owner.partition.state):
                return why
        behind = [s for s in seats if s.partition.position.applied_offset + 2 != log.end(s.number)]
        if behind and behind[0].role != "owner":
            return f"{behind[0].instance.name} is behind on partition {behind[0].number}"
        for worker in self.workers:
            if worker.kernel.running:
                return f"{worker.name} still runs {list(worker.kernel.running)}"
        return None

    def _busy(self, p: int, state: State) -> str | None:
        log, position = self.broker.log, state.position
        if log.resume_position(p, position.commands).offset < len(log.commands(p, 0)):
            return f"partition {p} has commands from {position.next_command} to decide"
        if position.outbox_sent < state.counters.outbox:
            return f"partition {p} has sent {position.outbox_sent} of {state.counters.outbox} messages"
        for key, _ in state.rows.scan(b"j", b"k"):
            name = key[1:].decode()
            job = state.job(name)
            assert job is not None
            if not job.ended_at:
                return f"{name} is {job.state.name}, attempt {job.attempt}"
        for key, _ in state.rows.scan(b"a", b"b"):
            row = state.schedule(key[1:].decode())
            if row is not None and row.timer_at:
                return f"the schedule {key[1:].decode()} has a timer for {row.timer_at}"
        return None


def judge(cluster: Cluster) -> Verdict:
    """What the checker of histories says of a cluster that has lived through one."""
    return judged(cluster, SESSION_MEMORY_MS if cluster.world.endless else SESSION_MS)


def play(seed: int) -> Cluster:
    """One seed from start to end. Raises Failure."""
    cluster = Cluster(seed)
    try:
        cluster.run()
    except Violation as violation:
        raise Failure(seed, str(violation), cluster.world.story()) from violation
    except Exception as error:
        raise Failure(seed, traceback.format_exc(), cluster.world.story()) from error
    return cluster

"""What goes wrong. Each seed draws which kinds and how often, so that rare ones also come alone."""

from collections.abc import Callable

from tests.simulation.clients import Client
from tests.simulation.group import Group
from tests.simulation.guards import PAUSE_MS_MAX
from tests.simulation.network import Broker
from tests.simulation.scheduler import Instance
from tests.simulation.workers import Supervisor
from tests.simulation.world import Host, Process, World


class Faults:
    """Strikes at random moments until `stop`."""

    def __init__(
        self,
        world: World,
        broker: Broker,
        group: Group,
        instances: list[Instance],
        workers: list[Supervisor],
        clients: list[Client],
    ) -> None:
        self.world = world
        self.broker = broker
        self.group = group
        self.instances = instances
        self.workers = workers
        self.clients = clients
        self.hosts = [process.host for process in (*instances, *workers, *clients)]
        kinds: list[Callable[[], None]] = [
            lambda: self._crash(self.instances),
            lambda: self._pause(self.world.random.choice(self.instances), 100, 5_000),
            lambda: self._cut(self.world.random.choice(self.instances).host),
            lambda: self._crash(self.workers),
            lambda: self._pause_supervisor(self.world.random.choice(self.workers)),
            lambda: self._freeze(self.world.random.choice(self.workers)),
            lambda: self._cut(self.world.random.choice(self.workers).host),
            lambda: self._cut(self.world.random.choice(self.workers).host),
            self._lose_guard,
            self._pause_guard,
            self._drain,
            lambda: self._crash(self.clients),
            self._kafka_away,
            self._deafen,
            self._skew,
            self._garbage,
            self.group.rebalance,
        ]
        if world.leases:
            kinds = [
                lambda: self._pause_supervisor(self._victim()),
                lambda: self._freeze(self._victim()),
                lambda: self._cut(self._victim().host),
                lambda: self._cut(self._victim().host),
                lambda: self._crash(self.instances),
                self._deafen,
                self._deafen,
            ]
        draw = world.random
        some = draw.choice((0.1, 0.3, 0.6))
        self.kinds = [kind for kind in kinds if draw.random() < some] or kinds
        self.every_ms = draw.choice((200, 400) if world.leases else (150, 400, 1_000))

    def _victim(self) -> Supervisor:
        """Mostly the same one, so that there is somebody left to take its work over."""
        return self.workers[0] if self.world.random.random() < 0.85 else self.world.random.choice(self.workers)

    def pause_machines(self) -> None:
        """From time to time a hypervisor pauses a worker's host, whose clock stands still until it wakes."""
        if self.world.healing:
            return
        draw = self.world.pauses
        worker = max(self.workers, key=lambda worker: (len(worker.kernel.running), worker.name))
        stopped = worker.kernel.paused or worker.paused or worker.guard.paused
        if worker.kernel.running and worker.alive and worker.guard.alive and not stopped:
            length = worker.identity.lease_ms + draw.uniform(-500, 2_000)
            worker.say("is paused with its host, whose clock stands still", round(length))
            self._stop_all(worker)
            worker.host.paused_at = self.world.now
            # What it wakes to: heartbeats are taken at once, and the broker of its lane answers late.
            worker.deaf_until = self.world.now + length + draw.choice((0, 9_000))
            self.world.later(length, lambda: self._thaw(worker))
            self.world.later(length + draw.uniform(6_000, 9_000), self.pause_machines)
        else:
            self.world.later(500, self.pause_machines)

    def _stop_all(self, worker: Supervisor) -> None:
        worker.kernel.pause()
        worker.guard.pause()
        worker.pause()

    def strike(self) -> None:
        if self.world.healing:
            return
        self.world.random.choice(self.kinds)()
        self.world.later(self.world.random.expovariate(1 / self.every_ms), self.strike)

    def stop(self) -> None:
        """Everything heals."""
        self.world.healing = True
        self.world.say("world", "everything heals")
        self.broker.away = False
        for host in self.hosts:
            host.cut_in = host.cut_out = False
        for worker in self.workers:
            worker.deaf_until = 0
            self._thaw(worker)
        for process in (*self.instances, *self.clients):
            process.resume()
        for instance in self.instances:
            instance.deaf_until = {}
        self.group.rebalance()

    def _crash(self, processes: list[Instance] | list[Supervisor] | list[Client]) -> None:
        process = self.world.random.choice(processes)
        if isinstance(process, Supervisor) and (process.guard.paused or process.kernel.paused):
            return  # with both out of action nobody can keep the deadline: the guarantee says so
        process.crash()

    def _pause(self, process: Process, low: float, high: float) -> None:
        if not process.paused:
            process.pause()
            self.world.later(self.world.delay(low, high), process.resume)

    def _pause_supervisor(self, worker: Supervisor) -> None:
        if worker.guard.alive and not worker.guard.paused and not worker.kernel.paused:
            self._pause(worker, 100, 6_000)

    def _freeze(self, worker: Supervisor) -> None:
        if worker.kernel.paused or worker.paused or worker.guard.paused or not worker.guard.alive:
            return
        self.world.say(worker.host.name, "freezes")
        self._stop_all(worker)
        self.world.later(self.world.delay(100, 6_000), lambda: self._thaw(worker))

    def _thaw(self, worker: Supervisor) -> None:
        paused = worker.host.unpause()
        worker.kernel.resume()
        if paused:
            # Until its next heartbeat is acknowledged it cannot know, and without one its own deadline comes.
            worker.kernel.excuse(worker.identity.lease_ms, stood_still=True)
        worker.guard.resume()
        worker.resume()

    def _lose_guard(self) -> None:
        worker = self.world.random.choice(self.workers)
        if worker.alive and not worker.paused and worker.guard.alive:
            worker.lose_guard()

    def _pause_guard(self) -> None:
        worker = self.world.random.choice(self.workers)
        if worker.alive and not worker.paused and worker.guard.alive:
            self._pause(worker.guard, 10, PAUSE_MS_MAX)

    def _drain(self) -> None:
        worker = self.world.random.choice(self.workers)
        if worker.alive and not worker.paused:
            worker.drain()

    def _cut(self, host: Host) -> None:
        if host.cut_in or host.cut_out:
            return
        which = self.world.random.randrange(3)
        host.cut_in, host.cut_out = which != 1, which != 0
        self.world.say(host.name, "cut off", "in" if host.cut_in else "", "out" if host.cut_out else "")

        def heal() -> None:
            host.cut_in = host.cut_out = False
            self.world.say(host.name, "reached again")

        self.world.later(self.world.delay(100, 6_000), heal)

    def _kafka_away(self) -> None:
        if not self.broker.away:
            self.broker.away = True
            self.world.say("kafka", "away")
            self.world.later(self.world.delay(100, 4_000), self._kafka_back)

    def _kafka_back(self) -> None:
        self.broker.away = False
        self.world.say("kafka", "back")

    def _deafen(self) -> None:
        """One broker of three is slow: commits work, the heartbeats of a lane come late."""
        owners = [i for i in self.instances if any(seat.role == "owner" for seat in i.seats.values())]
        instance = self.world.random.choice(owners or self.instances)
        if any(until > self.world.now for until in instance.deaf_until.values()):
            return
        lane = self.world.random.choice(instance.lanes)
        instance.deaf_until[lane] = self.world.now + self.world.delay(500, 5_000)
        instance.say("deaf to lane", lane, "until", round(instance.deaf_until[lane]))

    def _skew(self) -> None:
        self.world.random.choice(self.hosts).skew_ms = self.world.random.randint(-2_400, 2_400)

    def _garbage(self) -> None:
        """A record that no owner may choke on."""
        draw = self.world.random
        event = next(iter(self.broker.log.events(0, 0)), None)
        junk = [b"", b"junk", bytes(draw.randrange(256) for _ in range(30))]
        if event is not None:
            junk += [event.value, event.value[:12]]
        value = draw.choice(junk)
        self.broker.log.send(draw.randrange(self.broker.log.partitions), value)

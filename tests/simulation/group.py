"""The consumer group: it nominates, late and sometimes wrongly. The fence decides."""

from tests.simulation.network import Broker
from tests.simulation.scheduler import Instance
from tests.simulation.world import World

SESSION_MS = 750
TICK_MS = 100


class Group:
    """The coordinator's view of who is there, and what it tells whom."""

    def __init__(self, world: World, broker: Broker, instances: list[Instance]) -> None:
        self.world = world
        self.broker = broker
        self.instances = instances
        self.generation = 0
        self.members: list[tuple[str, int]] = []
        self._seen: dict[tuple[str, int], float] = {}
        self._rebalancing = False

    def tick(self) -> None:
        for instance in self.instances:
            if instance.alive and not instance.paused and self.broker.reaches(instance.host):
                self._seen[instance.name, instance.life] = self.world.now
        members = sorted(who for who, at in self._seen.items() if self.world.now - at < SESSION_MS)
        if members != self.members or self.world.chance(self.world.mishap):
            self.members = members
            if not self._rebalancing:
                self._rebalancing = True
                self.world.later(self.world.delay(30, 800), self.rebalance)
        if self.world.chance(self.world.mishap):
            self._nominate_wrongly()
        self.world.later(TICK_MS, self.tick)

    def rebalance(self) -> None:
        self._rebalancing = False
        self.generation += 1
        lives = [i for i in self.instances if (i.name, i.life) in self.members]
        if not lives:
            return
        self.world.random.shuffle(lives)
        shares: dict[str, set[int]] = {instance.name: set() for instance in lives}
        for partition in range(self.broker.log.partitions):
            shares[lives[partition % len(lives)].name].add(partition)
        self.world.say("group", "assigns", self.generation, shares)
        for instance in lives:
            self._tell(instance, shares[instance.name])

    def _tell(self, instance: Instance, partitions: set[int]) -> None:
        generation = self.generation
        instance.later(self.world.delay(1, 500), lambda: instance.nominate(partitions, generation))

    def _nominate_wrongly(self) -> None:
        """Two believe that they own a partition: what stale callbacks and split views lead to."""
        instance = self.world.random.choice(self.instances)
        partition = self.world.random.randrange(self.broker.log.partitions)
        if instance.alive:
            self.world.say("group", "wrongly nominates", instance.name, partition)
            self._tell(instance, {*instance.nominated, partition})

    def proves(self, instance: Instance, generation: int) -> bool:
        """A synchronous commit to the group: whether this life is a member of this generation."""
        if self.world.chance(0.2):
            return True
        return generation == self.generation and (instance.name, instance.life) in self.members

"""Time, hosts and processes of the simulated cluster. One `random.Random`, no threads, no real time."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from heapq import heappop, heappush
from random import Random
from typing import Any

EPOCH_MS = 1_700_000_000_000
TRANSCRIPT_STEPS = 400
STEPS_MAX = 500_000

Act = Callable[[], None]


def utc_date(at: int) -> str:
    """The date of a time in ms since the Unix epoch, in UTC."""
    return datetime.fromtimestamp(at / 1_000, UTC).date().isoformat()


class Violation(Exception):
    """The cluster broke one of its promises."""


def expect(holds: bool, *what: object) -> None:
    """Raises Violation, which tells `what`, unless it holds."""
    if not holds:
        raise Violation(" ".join(str(part) for part in what))


class Crash(Exception):
    """The process dies at this very step."""


class World:
    """A queue of what will happen, in the order of true time (ms)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.losses = Random(f"losses {seed}")  # of its own, so that the rest of a seed's story stays
        self.now = 0.0
        self.healing = False
        """Whether faults are over: from then on everything must come to its end."""
        self.leases = self.random.random() < 0.4
        """Whether this history is about workers and their leases: long attempts, room for them, nothing else."""
        self.mishap = 0.0005 if self.leases else self.random.choice((0.001, 0.005, 0.02))
        """The chance of a crash or a lost answer at each step that matters."""
        self.pauses = Random(f"paused {seed}")  # of its own, as `losses`
        self.virtual = self.pauses.random() < 0.15
        """Whether the hosts of workers are virtual machines, whose clocks stand still while they are paused."""
        self.stops = Random(f"stops {seed}")
        self.endless = self.stops.random() < 0.2 or self.virtual
        """Whether some attempts of this history end only if they are stopped, and lost sessions are soon forgotten."""
        self.crowd = Random(f"crowd {seed}")
        self.crowded = seed % 10 in (2, 3, 8)
        """Whether many jobs come at once in this history, and workers hold attempts ahead of their slots. In the other
        histories the log is of the first level, so that nothing is sent ahead."""
        self.limits = Random(f"limits {seed}")
        self.limited = self.crowded and self.limits.random() < 0.6
        """Whether queues are declared in this history: how many of their jobs run and start at a time, also of one
        concurrency key."""
        self.keys = Random(f"keys {seed}")
        self.resources = Random(f"resources {seed}")
        self.closings = Random(f"closings {seed}")
        self.defaults = Random(f"defaults {seed}")
        self.shares = Random(f"shares {seed}")
        self.shared = self.crowded and self.shares.random() < 0.6
        """Whether jobs belong to shares in this history."""
        self.schedules = Random(f"schedules {seed}")
        self.scheduled = self.crowded and self.schedules.random() < 0.7
        """Whether schedules fire in this history."""
        self.backfills = Random(f"backfills {seed}")
        self.calendars = Random(f"calendars {seed}")
        self.steps = 0
        self.transcript: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=TRANSCRIPT_STEPS)
        self._queue: list[tuple[float, int, Act]] = []
        self._count = 0

    def later(self, delay_ms: float, act: Act) -> None:
        self._count += 1
        heappush(self._queue, (self.now + delay_ms, self._count, act))

    def say(self, who: str, what: str, *about: Any) -> None:
        """A line of the transcript; formatted only if it is ever shown."""
        self.transcript.append((self.now, who, what, about))

    def run(self, until: float) -> None:
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, act = heappop(queue)
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Violation(f"it does not come to rest within {STEPS_MAX} steps")
            act()
        self.now = until

    def chance(self, probability: float) -> bool:
        """Whether something bad happens now; never while healing."""
        return not self.healing and self.random.random() < probability

    def delay(self, low: float, high: float) -> float:
        return low + (high - low) * self.random.random()

    def story(self) -> str:
        lines = []
        for at, who, what, about in self.transcript:
            lines.append(f"{at:9.1f}  {who:<14} {what} {' '.join(str(part) for part in about)}")
        return "\n".join(lines)


class Host:
    """A machine: its clocks, and whether the network reaches it."""

    def __init__(self, world: World, name: str) -> None:
        draw = world.random
        self.name = name
        self.world = world
        self.skew_ms = draw.randint(-2_000, 2_000)
        # Half a percent each way, so that any two differ by at most one.
        self.rate = draw.uniform(0.995, 1.005)
        self._booted = draw.randint(10_000, 10_000_000)
        self.paused_at: float | None = None
        """Since when its hypervisor pauses it, if it does. No clock of the host counts that time."""
        self._paused_ms = 0.0
        self.cut_out = False
        """What it sends does not arrive."""
        self.cut_in = False
        """What is sent to it does not arrive."""

    def wall_ms(self) -> int:
        return EPOCH_MS + int(self.world.now) + self.skew_ms

    def boot_ms(self) -> int:
        """CLOCK_BOOTTIME, ms: goes on while the host sleeps, and not while its hypervisor pauses it."""
        now = self.world.now if self.paused_at is None else self.paused_at
        return self._booted + int((now - self._paused_ms) * self.rate)

    def unpause(self) -> bool:
        """Its hypervisor lets it go on. Returns whether it was paused."""
        if self.paused_at is None:
            return False
        self._paused_ms += self.world.now - self.paused_at
        self.paused_at = None
        return True


class Process:
    """Something that can be killed and stopped (as by SIGSTOP) between any two of its steps."""

    def __init__(self, world: World, host: Host, name: str) -> None:
        self.world = world
        self.host = host
        self.name = name
        self.life = 0
        """Counts its lives: what an earlier one had planned does not happen."""
        self.alive = False
        self.paused = False
        self._waiting: list[Act] = []

    def say(self, what: str, *about: Any) -> None:
        self.world.say(self.name, what, *about)

    def later(self, delay_ms: float, act: Act) -> None:
        """Do `act` then, if this life lasts; after a pause, what was due meanwhile comes in its order."""
        life = self.life

        def run() -> None:
            if life != self.life:
                return
            if self.paused:
                self._waiting.append(run)
                return
            try:
                act()
            except Crash as crash:
                self.say("CRASH", crash)
                self.crash()

        self.world.later(delay_ms, run)

    def start(self) -> None:
        assert not self.alive
        self.alive = True
        self.say("start")
        self.on_start()

    def crash(self) -> None:
        if self.alive:
            self.life += 1
            self.alive = self.paused = False
            self._waiting.clear()
            self.say("dead")
            self.on_crash()

    def pause(self) -> None:
        if self.alive and not self.paused:
            self.paused = True
            self.say("SIGSTOP")

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self.say("SIGCONT")
            waiting, self._waiting = self._waiting, []
            for run in waiting:
                self.world.later(0, run)

    def on_start(self) -> None:
        raise NotImplementedError

    def on_crash(self) -> None:
        """What others notice of its death."""

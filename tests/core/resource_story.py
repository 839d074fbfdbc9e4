"""Several partitions of one cluster as stories, whose messages to each other are delivered, or lost."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide.processes import next_slice
from ftjm.core.decide.resources import after_loss, home_of
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.outbox import TellMessage
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.core.state.state import State
from ftjm.core.state.windows import WindowSpec
from ftjm.engine.told_commands import told_command
from tests.core.story import NOW, POLICY, Story

CALENDAR, WINDOW, CORDON = ResourceKind.CALENDAR, ResourceKind.WINDOW, ResourceKind.CORDON
WORK_DAYS = CalendarSpec("Europe/Berlin", [0, 1, 2, 3, 4], [], ["2026-12-25"])


def of(part: CalendarSpec | WindowSpec | CordonSpec) -> ResourceSpec:
    """The spec of a resource with this part."""
    match part:
        case CalendarSpec():
            return ResourceSpec(calendar=[part])
        case WindowSpec():
            return ResourceSpec(window=[part])
        case CordonSpec():
            return ResourceSpec(cordon=[part])


def apply(name: str, part: CalendarSpec | WindowSpec | CordonSpec, **fields: Any) -> c.ApplyResource:
    spec = of(part)
    return c.ApplyResource(kind=spec.kinds[0], name=name, spec=spec, **fields)


def alone() -> Story:
    """The one partition of a cluster, at the newest level."""
    return Story().evolve(e.UpgradeFinalized(level=LEVEL, state_version=STATE_VERSION, at=NOW)).written()


def work_through(partitions: Partitions) -> None:
    """Do all slices of all processes."""
    for story, policy in zip(partitions.stories, partitions.policies, strict=True):
        while under_way := story.state.processes():
            events = next_slice(story.state, *under_way[0], 1_000, story.now, policy)
            story._record(events, e.Cause.CONTINUATION, "", "")


class Partitions:
    """All partitions of a cluster. Messages go through `deliver`."""

    def __init__(self, count: int = 3) -> None:
        self.policies = [replace(POLICY, partition=p, partitions=count) for p in range(count)]
        self.home = home_of(self.policies[0])
        self.others = [p for p in range(count) if p != self.home]
        self.stories = [alone() for _ in range(count)]
        self.taken = [0] * count
        """Messages of each partition's outbox that were delivered."""

    @property
    def at_home(self) -> Story:
        return self.stories[self.home]

    def when(self, command: c.Command, at: int | None = None) -> Story:
        """A client sends the home a command."""
        return self.at_home.when(command, at, self.policies[self.home])

    def when_due(self, at: int) -> None:
        """Timers of all partitions fire."""
        for story, policy in zip(self.stories, self.policies, strict=True):
            story.when_due(at, policy)

    def deliver(self, *, lose: bool = False) -> int:
        """Deliver what the outboxes hold, and what follows from it, or lose it. Returns how many messages."""
        count = 0
        for number, story in enumerate(self.stories):
            for at, message in list(story.state.outbox(self.taken[number])):
                assert isinstance(message, TellMessage)
                self.taken[number] = at
                count += 1
                if not lose:
                    self._deliver(number, message)
        return count + (self.deliver() if count and not lose else 0)

    def _deliver(self, source: int, message: TellMessage) -> None:
        receiver, policy = self.stories[message.partition], self.policies[message.partition]
        turn = receiver.state.peer(source).received + 1
        if message.number < turn:
            receiver._record(after_loss(receiver.state, source, policy), e.Cause.COMMAND, "0", "")
            return
        receiver.evolve(e.ForwardReceived(source=source, number=message.number, at=receiver.now))
        if message.number > turn:
            receiver._record(after_loss(receiver.state, source, policy), e.Cause.COMMAND, "0", "")
        receiver.when(told_command(self.stories[source].state, message, source), policy=policy)
        receiver.written()

    def remember(self, number: int) -> Any:
        """What the log of a partition holds now, to be taken back by `lose_tail`."""
        store = MemoryStore()
        store.write(list(self.stories[number].written().store.scan(b"", b"\xff")))
        return store

    def lose_tail(self, number: int, store: MemoryStore) -> None:
        """The log of a partition loses everything since `remember`, in a power loss. What it has sent is delivered, and
        the next owner sends again what its outbox holds."""
        story = Story()
        story.store, story.state, story.now = store, State(store), self.stories[number].now
        self.stories[number], self.taken[number] = story, 0

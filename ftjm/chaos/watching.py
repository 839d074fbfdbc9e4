"""What the topics tell while a run goes on: who owns what, what has ended, and when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.checker import Entry, Evidence, Heard, Judge, Name, Report
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.commands import Command
from ftjm.core.errors import UndecodableError
from ftjm.core.messages import WorkerHeartbeat

CLIENT = "chaos"


class Last(NamedTuple):
    """The last batch of a partition."""

    offset: int
    owner: str
    """The scheduler's name."""


class Watch:
    """Reads `events` on from where the last look ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scan = Scan(settings.kafka_settings(CLIENT), settings.topic("events"))
        self._next = dict.fromkeys(range(self._scan.partitions), 0)
        self.ended: set[Name] = set()
        self.ends: Counter[int] = Counter()
        """Ends of jobs, by the second of the wall clock in which the log took them."""
        self.owners: dict[int, list[tuple[int, str]]] = defaultdict(list)
        """By partition: when the log took the first batch of each owner, ms, and who it is."""
        self.next_command: dict[int, int] = {}
        self.last: dict[int, Last] = {}
        """Of each partition, the batch that was read last."""

    def look(self) -> None:
        """Take in what is new."""
        for record in self._scan.read(self._next):
            self._next[record.partition] = record.offset + 1
            self._take(record)

    def _take(self, record: Record) -> None:
        event = codec.decode(record.value)
        if isinstance(event, e.BatchClosed):
            self.next_command[record.partition] = event.next_command
            self.last[record.partition] = Last(record.offset, event.owner.partition("@")[0])
            owners = self.owners[record.partition]
            if not owners or owners[-1][1] != event.owner:
                owners.append((record.time_ms, event.owner))
        elif isinstance(event, e.JobRerun):
            self.ended.discard((event.queue, event.job_id))
        elif isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled):
            self.ended.add((event.queue, event.job_id))
            self.ends[record.time_ms // 1000] += 1

    def all_owned(self) -> bool:
        """Whether every partition has had an owner that writes."""
        self.look()
        return len(self.owners) == self._scan.partitions

    def commands(self) -> dict[int, int]:
        """Where `commands` ends now, by partition."""
        with Scan(self._settings.kafka_settings(CLIENT), self._settings.topic("commands"), committed=False) as scan:
            return {p: scan.bounds(p)[1] for p in range(scan.partitions)}

    def decided(self, ends: Mapping[int, int]) -> bool:
        """Whether every command before these offsets is decided."""
        self.look()
        return all(end <= self.next_command.get(p, 0) for p, end in ends.items())

    def all_decided(self) -> bool:
        """Whether no command waits."""
        return self.decided(self.commands())

    def close(self) -> None:
        self._scan.__exit__()


def judged(settings: Settings, evidence: Evidence, acknowledged: set[Name]) -> Report:
    """The verdict of the history checker on all that the topics hold."""
    commands: dict[int, dict[int, Command | None]] = {p: {} for p in range(settings.partitions)}
    for record in _all(settings, "commands"):
        commands[record.partition][record.offset] = _asked(record.value)
    evidence.commands, evidence.partitions = commands, settings.partitions
    evidence.heard = Heard()
    for record in _all(settings, "heartbeats"):
        heartbeat = codec.decode(record.value)
        if isinstance(heartbeat, WorkerHeartbeat):
            evidence.heard.hear(heartbeat)
    judge = Judge(evidence)
    for record in _all(settings, "events"):
        judge.take(Entry(record.partition, record.offset, codec.decode(record.value), record.time_ms))
    return judge.finish(acknowledged)


def _asked(value: bytes) -> Command | None:
    try:
        found = codec.decode(value)
    except UndecodableError:
        return None
    return found if isinstance(found, Command) else None


def _all(settings: Settings, kind: str) -> Iterator[Record]:
    with Scan(settings.kafka_settings(CLIENT), settings.topic(kind), committed=kind == "events") as scan:
        yield from scan.read(dict.fromkeys(range(scan.partitions), 0))

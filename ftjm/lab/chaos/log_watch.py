"""Reads the topics during and after a run: owners of partitions, jobs that ended, and the verdict of the checker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.records import Record
from ftjm.core.errors import UndecodableError
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.records import events as e
from ftjm.core.records.commands import Command
from ftjm.core.records.messages import WorkerHeartbeat
from ftjm.core.state.model import TERMINAL, JobState
from ftjm.lab.checker import Evidence, JobName, Judge, LogEntry, Verdict, WorkerOffers
from ftjm.runtime.config import Settings

CLIENT = "chaos"
ENDS = frozenset(
    kind
    for kind, moves in LIFECYCLE.items()
    if kind is not e.JobForgotten and frozenset[JobState]().union(*moves.values()) <= TERMINAL
)
"""Events that end a run."""


class LastBatch(NamedTuple):
    """The newest batch of a partition."""

    offset: int
    owner: str
    """Name of the scheduler that wrote it."""


class LogWatch:
    """Follows the topic `events`. Every call of `read_new` reads what was appended since the last one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scan = Scan(settings.kafka_settings(CLIENT), settings.topic("events"))
        self._next = dict.fromkeys(range(self._scan.partitions), 0)
        self.ended: set[JobName] = set()
        self.open: set[JobName] = set()
        """Jobs that have not ended."""
        self.ends: Counter[int] = Counter()
        """Number of jobs that ended in each second, by the time at which the log took the event (s)."""
        self.attempts_ahead = 0
        """Number of attempts that were sent ahead of a free slot."""
        self.owners: dict[int, list[tuple[int, str]]] = defaultdict(list)
        """For each partition: time of the first batch of each owner (ms), and the owner (`name@host:pid`)."""
        self.next_command: dict[int, int] = {}
        self.last: dict[int, LastBatch] = {}
        """The batch of each partition that was read last."""

    def read_new(self) -> None:
        """Read the events that were appended since the last call."""
        for record in self._scan.read(self._next):
            self._next[record.partition] = record.offset + 1
            self._take(record)

    def _take(self, record: Record) -> None:
        event = codec.decode(record.value)
        if isinstance(event, e.BatchClosed):
            self.next_command[record.partition] = event.next_command
            self.last[record.partition] = LastBatch(record.offset, event.owner.partition("@")[0])
            owners = self.owners[record.partition]
            if not owners or owners[-1][1] != event.owner:
                owners.append((record.time_ms, event.owner))
        elif isinstance(event, e.AttemptDispatched):
            self.attempts_ahead += event.ahead
        elif isinstance(event, e.JobSubmitted | e.JobRerun):
            self.ended.discard((event.queue, event.job_id))
            self.open.add((event.queue, event.job_id))
        elif type(event) in ENDS:
            self.ended.add((event.queue, event.job_id))
            self.open.discard((event.queue, event.job_id))
            self.ends[record.time_ms // 1000] += 1

    def all_owned(self) -> bool:
        """Read new events, and return whether every partition has had an owner that wrote a batch."""
        self.read_new()
        return len(self.owners) == self._scan.partitions

    def command_ends(self) -> dict[int, int]:
        """Return the end offset of each partition of `commands`."""
        with Scan(self._settings.kafka_settings(CLIENT), self._settings.topic("commands"), committed=False) as scan:
            return {p: scan.bounds(p)[1] for p in range(scan.partitions)}

    def has_decided(self, ends: Mapping[int, int]) -> bool:
        """Read new events, and return whether every command before these offsets is decided."""
        self.read_new()
        return all(end <= self.next_command.get(p, 0) for p, end in ends.items())

    def has_decided_all(self) -> bool:
        """Read new events, and return whether every command is decided."""
        return self.has_decided(self.command_ends())

    def close(self) -> None:
        """Close the reader."""
        self._scan.__exit__()


def judge_topics(settings: Settings, evidence: Evidence, acknowledged: set[JobName]) -> Verdict:
    """Return the verdict of the history checker on the whole topics.

    Args:
        evidence: evidence beside the topics; commands, partitions and offers are added to it.
        acknowledged: jobs whose submission was acknowledged.
    """
    commands: dict[int, dict[int, Command | None]] = {p: {} for p in range(settings.partitions)}
    for record in _all(settings, "commands"):
        commands[record.partition][record.offset] = _decode_command(record.value)
    evidence.commands, evidence.partitions = commands, settings.partitions
    evidence.offers = WorkerOffers()
    for record in _all(settings, "heartbeats"):
        heartbeat = codec.decode(record.value)
        if isinstance(heartbeat, WorkerHeartbeat):
            evidence.offers.add(heartbeat)
    judge = Judge(evidence)
    for record in _all(settings, "events"):
        judge.take(LogEntry(record.partition, record.offset, codec.decode(record.value), record.time_ms))
    return judge.finish(acknowledged)


def _decode_command(value: bytes) -> Command | None:
    try:
        found = codec.decode(value)
    except UndecodableError:
        return None
    return found if isinstance(found, Command) else None


def _all(settings: Settings, kind: str) -> Iterator[Record]:
    with Scan(settings.kafka_settings(CLIENT), settings.topic(kind), committed=kind == "events") as scan:
        yield from scan.read(dict.fromkeys(range(scan.partitions), 0))

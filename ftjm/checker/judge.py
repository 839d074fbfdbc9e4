"""The judge: one pass over the events, with memory for what is alive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from ftjm.checker.answers import refused
from ftjm.checker.batches import Chain
from ftjm.checker.causes import caused
from ftjm.checker.evidence import Evidence
from ftjm.checker.executions import Executions
from ftjm.checker.life import Life, name_of
from ftjm.checker.partition import Rules
from ftjm.checker.places import placed
from ftjm.checker.report import COUNTED, Entry, Found, Kind, Name, Report
from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import TERMINAL, job_key


def check(history: Iterable[Entry], acknowledged: Iterable[Name] = (), evidence: Evidence | None = None) -> Report:
    """Judge a history from its first batch to a point where all jobs should have ended.

    Args:
        history: records of any number of partitions, each from offset 0 on and in order.
        acknowledged: jobs whose submission the log has taken: each must be there.
    """
    judge = Judge(evidence)
    for entry in history:
        judge.take(entry)
    return judge.finish(acknowledged)


class Judge:
    """Takes a history record by record."""

    def __init__(self, evidence: Evidence | None = None) -> None:
        self._evidence = evidence or Evidence()
        self._report = Report()
        self._chains: dict[int, Chain] = {}
        self._rules: dict[int, Rules] = {}
        self._lives: dict[Name, Life] = {}
        self._executions = Executions(self._evidence)
        self._forwarded: dict[tuple[int, int], int] = defaultdict(int)
        """How many commands went from one partition to another."""
        self._received: dict[tuple[int, int], int] = defaultdict(int)

    def take(self, entry: Entry) -> None:
        """Judge one record."""
        partition, offset, event, time_ms = entry
        chain = self._chains.get(partition)
        if chain is None:
            commands = self._evidence.commands
            chain = self._chains[partition] = Chain(None if commands is None else commands.get(partition, {}))
            self._rules[partition] = Rules(partition, self._evidence)
        for found in chain.take(event, time_ms):
            self._report.blame(f"events[{partition}] at {offset}", found)
        if isinstance(event, e.BatchClosed):
            self._report.batches += 1
            for found in self._rules[partition].close(event, time_ms):
                self._report.blame(f"events[{partition}] at {offset}", found)
            return
        self._report.events += 1
        if (counted := COUNTED.get(type(event))) is not None:
            setattr(self._report, counted, getattr(self._report, counted) + 1)
        partitions = self._evidence.partitions
        for found in (*caused(event), *(placed(event, partition, partitions) if partitions else ())):
            self._report.blame(f"events[{partition}] at {offset}", found)
        if type(event) in LIFECYCLE:
            self._live(partition, offset, event)
        else:
            for found in self._told(partition, event):
                self._report.blame(f"events[{partition}] at {offset}", found)

    def _live(self, partition: int, offset: int, event: e.Event) -> None:
        """What happens to a job."""
        name = (event.queue, event.job_id)
        life = self._lives.get(name)
        if life is None or (life.forgotten and isinstance(event, e.JobSubmitted)):
            # Once its retention is over, the same name is another job.
            life = self._lives[name] = Life(partition)
        where = f"events[{partition}] at {offset}: {job_key(*name)}"
        for kind, text in self._rules[partition].take(name, life, event):
            self._report.blame(where, Found(kind, f"{text}, in {type(event).__name__}"))
        for found in self._executions.take(event):
            self._report.blame(where, found)

    def _told(self, partition: int, event: e.Event) -> Iterator[Found]:
        """What happens to a partition, its sessions and its peers. (A refusal only names a job.)"""
        yield from self._rules[partition].told(event)
        if isinstance(event, e.CommandForwarded):
            self._forwarded[partition, event.partition] += 1
        elif isinstance(event, e.ForwardReceived):
            turn = self._received[event.source, partition] + 1
            self._received[event.source, partition] = event.number
            if event.number != turn:
                text = f"expected message {turn} of partition {event.source}"
                yield Found(Kind.CHAIN, f"{text}, but found {event.number}")
        elif isinstance(event, e.CommandRejected):
            commands, ref = (self._evidence.commands or {}).get(partition, {}), event.cause_ref
            asked = commands.get(int(ref)) if ref.isdecimal() else None
            life = self._lives.get((event.queue, event.job_id))
            for kind, text in (*refused(event, life, asked), *self._rules[partition].refuses(event, asked)):
                yield Found(kind, f"{job_key(event.queue, event.job_id)}: {text}")

    def finish(self, acknowledged: Iterable[Name] = ()) -> Report:
        """The history is over: what is missing, and what ran."""
        report = self._report
        report.timers_judged = sum(rules.timers_judged for rules in self._rules.values())
        for partition in set(self._evidence.commands or ()) - set(self._chains):
            self._chains[partition] = Chain((self._evidence.commands or {})[partition])
        for partition, chain in self._chains.items():
            for found in chain.end():
                report.blame(f"events[{partition}]", found)
        for pair in sorted({*self._forwarded, *self._received}):
            if self._forwarded[pair] != self._received[pair]:
                text = f"expected {self._forwarded[pair]} commands forwarded to {pair[1]} to arrive once"
                report.blame(f"events[{pair[0]}]", Found(Kind.LOST, f"{text}, but found {self._received[pair]}"))
        for name in dict.fromkeys(acknowledged):
            if name not in self._lives:
                text = "expected the acknowledged job in the log, but found no trace of it"
                report.blame(job_key(*name), Found(Kind.LOST, text))
        for name, life in self._lives.items():
            for found in self._ended(name, life):
                report.blame(job_key(*name), found)
        for name, found in self._executions.end():
            report.blame(job_key(*name), found)
        return report

    def _ended(self, name: Name, life: Life) -> Iterator[Found]:
        allowed = self._evidence.ends.get(name)
        if life.state not in TERMINAL:
            yield Found(Kind.LOST, f"expected it to have ended, but found it {name_of(life.state)}")
        elif allowed is not None and life.state not in allowed:
            wanted = " or ".join(sorted(state.name for state in allowed))
            yield Found(Kind.END, f"expected it to end {wanted}, but found it {name_of(life.state)}")

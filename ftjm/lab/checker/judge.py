"""The judge: takes a history record by record, hands each record to the rules, and collects the violations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.records import events as e
from ftjm.core.state.model import TERMINAL, job_key
from ftjm.lab.checker.batches import BatchChain
from ftjm.lab.checker.causes import check_cause
from ftjm.lab.checker.command_answers import check_refusal
from ftjm.lab.checker.evidence import Evidence
from ftjm.lab.checker.executions import Executions
from ftjm.lab.checker.job import CheckedJob, name_of
from ftjm.lab.checker.partition_rules import PartitionRules
from ftjm.lab.checker.partitioning import check_partition
from ftjm.lab.checker.resources import Resources, messages_of
from ftjm.lab.checker.verdict import COUNTED, JobName, LogEntry, Verdict, Violation, ViolationKind


def check(
    history: Iterable[LogEntry], acknowledged: Iterable[JobName] = (), evidence: Evidence | None = None
) -> Verdict:
    """Judge a history from its first batch to a point at which all jobs should have ended, and return the verdict.

    Args:
        history: records of any number of partitions, each from offset 0 on and in order.
        acknowledged: jobs whose submission was acknowledged to the client: each must be in the history.
    """
    judge = Judge(evidence)
    for entry in history:
        judge.take(entry)
    return judge.finish(acknowledged)


class Judge:
    """Judges one history. Feed it with `take`, then call `finish` once."""

    def __init__(self, evidence: Evidence | None = None) -> None:
        self._evidence = evidence or Evidence()
        self._verdict = Verdict()
        self._chains: dict[int, BatchChain] = {}
        self._rules: dict[int, PartitionRules] = {}
        self._jobs: dict[JobName, CheckedJob] = {}
        self._executions = Executions(self._evidence)
        self._resources = Resources()
        self._sent: dict[tuple[int, int], int] = defaultdict(int)
        """Number of commands that one partition has sent another, by source and target."""
        self._received: dict[tuple[int, int], int] = defaultdict(int)

    def take(self, entry: LogEntry) -> None:
        """Judge one record."""
        partition, offset, event, time_ms = entry
        chain = self._chains.get(partition)
        if chain is None:
            commands = self._evidence.commands
            chain = self._chains[partition] = BatchChain(None if commands is None else commands.get(partition, {}))
            self._rules[partition] = PartitionRules(partition, self._evidence, self._jobs)
        for violation in chain.take(event, time_ms):
            self._verdict.add(f"events[{partition}] at {offset}", violation)
        if isinstance(event, e.BatchClosed):
            self._verdict.batches += 1
            for violation in self._rules[partition].close_batch(event, time_ms):
                self._verdict.add(f"events[{partition}] at {offset}", violation)
            return
        self._verdict.events += 1
        if (counted := COUNTED.get(type(event))) is not None:
            setattr(self._verdict, counted, getattr(self._verdict, counted) + 1)
        partitions = self._evidence.partitions
        for violation in (*check_cause(event), *(check_partition(event, partition, partitions) if partitions else ())):
            self._verdict.add(f"events[{partition}] at {offset}", violation)
        if type(event) in LIFECYCLE:
            self._take_job_event(partition, offset, event)
        else:
            for violation in self._take_other_event(partition, event):
                self._verdict.add(f"events[{partition}] at {offset}", violation)

    def _take_job_event(self, partition: int, offset: int, event: e.Event) -> None:
        """Judge an event of a job."""
        name = (event.queue, event.job_id)
        job = self._jobs.get(name)
        if job is None or (job.forgotten and isinstance(event, e.JobSubmitted)):
            # After the retention of a job, a submission of the same name is a new job.
            job = self._jobs[name] = CheckedJob(partition)
        where = f"events[{partition}] at {offset}: {job_key(*name)}"
        for kind, text in self._rules[partition].take_job_event(name, job, event):
            self._verdict.add(where, Violation(kind, f"{text}, in {type(event).__name__}"))
        for violation in self._executions.take(event):
            self._verdict.add(where, violation)

    def _take_other_event(self, partition: int, event: e.Event) -> Iterator[Violation]:
        """Judge an event of a partition, a session or a peer partition. A refusal is one: it only names a job."""
        yield from self._rules[partition].take_other_event(event)
        for target in messages_of(event):
            self._sent[partition, target] += 1
        yield from self._resources.take(partition, event)
        if isinstance(event, e.ForwardReceived):
            expected = self._received[event.source, partition] + 1
            self._received[event.source, partition] = event.number
            if event.number != expected:
                text = f"expected message {expected} of partition {event.source}"
                yield Violation(ViolationKind.CHAIN, f"{text}, but found {event.number}")
        elif isinstance(event, e.CommandRejected):
            commands, ref = (self._evidence.commands or {}).get(partition, {}), event.cause_ref
            command = commands.get(int(ref)) if ref.isdecimal() else None
            job = self._jobs.get((event.queue, event.job_id))
            for kind, text in (
                *check_refusal(event, job, command),
                *self._rules[partition].check_refusal(event, command),
            ):
                yield Violation(kind, f"{job_key(event.queue, event.job_id)}: {text}")

    def finish(self, acknowledged: Iterable[JobName] = ()) -> Verdict:
        """End the history: judge missing events, judge the executions, and return the verdict."""
        verdict = self._verdict
        verdict.timers_judged = sum(rules.timers_judged for rules in self._rules.values())
        for partition in set(self._evidence.commands or ()) - set(self._chains):
            self._chains[partition] = BatchChain((self._evidence.commands or {})[partition])
        for partition, chain in self._chains.items():
            for violation in chain.end():
                verdict.add(f"events[{partition}]", violation)
        for pair in sorted({*self._sent, *self._received}):
            if self._sent[pair] != self._received[pair]:
                text = f"expected {self._sent[pair]} commands sent to {pair[1]} to arrive once"
                verdict.add(
                    f"events[{pair[0]}]", Violation(ViolationKind.LOST, f"{text}, but found {self._received[pair]}")
                )
        for violation in self._resources.finish(self._evidence.partitions or 0):
            verdict.add("resources", violation)
        for name in dict.fromkeys(acknowledged):
            if name not in self._jobs:
                text = "expected the acknowledged job in the log, but found no trace of it"
                verdict.add(job_key(*name), Violation(ViolationKind.LOST, text))
        for name, job in self._jobs.items():
            for violation in self._check_end(name, job):
                verdict.add(job_key(*name), violation)
        for name, violation in self._executions.end():
            verdict.add(job_key(*name), violation)
        return verdict

    def _check_end(self, name: JobName, job: CheckedJob) -> Iterator[Violation]:
        allowed = self._evidence.ends.get(name)
        if job.state not in TERMINAL:
            yield Violation(ViolationKind.LOST, f"expected it to have ended, but found it {name_of(job.state)}")
        elif allowed is not None and job.state not in allowed:
            wanted = " or ".join(sorted(state.name for state in allowed))
            yield Violation(ViolationKind.END, f"expected it to end {wanted}, but found it {name_of(job.state)}")

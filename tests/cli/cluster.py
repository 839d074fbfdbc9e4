"""A whole cluster in memory behind the client and the verbs: real partitions, no Kafka."""

from __future__ import annotations

import math
import signal
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.kafka.errors import LogError, TopicUnknown
from ftjm.adapters.memory import MemoryStore
from ftjm.adapters.records import Receipt, Record
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.core.placement import Offer
from ftjm.core.records.commands import Command, CompleteAttempt, FailAttempt
from ftjm.core.records.events import JobSubmitted
from ftjm.core.state.model import FailureReason
from ftjm.core.state.view import StateView
from ftjm.engine.batch import Lapse
from ftjm.engine.owner import Owner
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommandRecord, Parcel
from ftjm.history.store_rows import LAST

PARTITIONS = 2
LANES = 3
SESSION = "worker-session"


class Writer:
    """A partition's log: every transaction is followed by its marker."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.records: list[Record] = []
        self.end = 0
        self.now = 0

    def commit(self, records: Any) -> int:
        for key, value in records:
            self.records.append(Record(self.partition, self.end, key.encode(), value, self.now, []))
            self.end += 1
        self.end += 1
        return self.end - 2


class Cluster:
    """Decides each command at once, unless `deciding` is off. `work` runs all jobs that can run."""

    def __init__(self) -> None:
        self.now = 1_900_000_000_000
        self.deciding = True
        self.answers_delivery = True
        self.failure: LogError | None = None
        self.commands: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.replies: list[Record] = []
        self.writers = [Writer(p) for p in range(PARTITIONS)]
        policies = [Policy(p, PARTITIONS, calendar=LocalCalendar()) for p in range(PARTITIONS)]
        self.partitions = [Partition(policy, MemoryStore(), codec, "log") for policy in policies]
        self.snapshots: dict[int, list[tuple[bytes, bytes]]] = {}
        self.offers: list[Offer] = []
        self._told: list[int] = []
        """Partitions that another one has told something, and that have not decided on it."""
        self.outcomes: list[tuple[int, bytes, bytes]] = []
        """Exit status (negative for a signal), output and errors of the next attempts; by default 0, b"", b""."""
        self.owners = [
            Owner(partition, writer, "scheduler-1", clock=self, sessions=self.Sessions(self), send=self._deliver)
            for partition, writer in zip(self.partitions, self.writers, strict=True)
        ]

    class Sessions:
        """One worker that is never silent."""

        def __init__(self, cluster: Cluster) -> None:
            self._cluster = cluster

        def lapses(self, _state: StateView, _since: int) -> list[Lapse]:
            return []

        def offers(self, _partition: int, _now: int, _declined: Mapping[str, int]) -> list[Offer]:
            return self._cluster.offers

    def wall_ms(self) -> int:
        return self.now

    def boot_ms(self) -> int:
        return self.now

    def append(self, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        log = self.commands[partition]
        log.append(Record(partition, len(log), key, value, self.now, headers))
        if self.deciding:
            self.decide(partition)

    def trim(self, *, to_end: bool) -> None:
        """Take a snapshot of every partition, and trim the logs of events.

        Args:
            to_end: whether to trim everything before the snapshot; otherwise up to the newest submission only.
        """
        for number, (writer, partition) in enumerate(zip(self.writers, self.partitions, strict=True)):
            self.snapshots[number] = list(partition.store.scan(b"", LAST))
            submissions = [r.offset for r in writer.records if codec.type_of(r.value) is JobSubmitted]
            begin = partition.position.applied_offset if to_end else max(submissions, default=-1) + 1
            writer.records = [record for record in writer.records if record.offset >= begin]

    def restore(self, partition: int, path: Path) -> bool:
        """Write the partition's snapshot into a store at `path`. Returns whether there is one."""
        if partition in self.snapshots:
            store = RocksStore(path)
            store.write(list(self.snapshots[partition]))
            store.close()
        return partition in self.snapshots

    def decide(self, partition: int, offers: list[Offer] | None = None) -> None:
        owner = self.owners[partition]
        self.now += 1_000
        self.writers[partition].now = self.now
        next_command = self.partitions[partition].position.next_command + owner.waiting
        owner.receive(
            CommandRecord(
                r.offset,
                r.value,
                reply_to=(headers := dict(r.headers)).get("ftjm-reply-to", b"").decode(),
                source=int(headers.get("source", b"-1")),
                number=int(headers.get("number", b"0")),
            )
            for r in self.commands[partition][next_command:]
        )
        self.offers = offers or []
        owner.step()
        while self._told:
            self.decide(self._told.pop())

    def _deliver(self, parcel: Parcel, done: Any) -> None:
        if parcel.topic == "replies":
            self.replies.append(Record(parcel.partition, 0, parcel.key.encode(), parcel.value, 0, []))
        elif parcel.topic == "dispatch" and type(codec.decode(parcel.value)).__name__ == "RunAttempt":
            self._run(codec.decode(parcel.value))
        elif parcel.topic == "commands":
            headers = [("source", str(parcel.source).encode()), ("number", str(parcel.number).encode())]
            log = self.commands[parcel.partition]
            log.append(Record(parcel.partition, len(log), b"", parcel.value, self.now, headers))
            self._told.append(parcel.partition)
        done(True)

    def _run(self, run: Any) -> None:
        status, out, err = self.outcomes.pop(0) if self.outcomes else (0, b"", b"")
        about = {"queue": run.queue, "job_id": run.job_id, "run": run.run, "attempt": run.attempt, "session": SESSION}
        about |= {"started_at": self.now, "ended_at": self.now + 5, "exit_code": status, "stdout": out, "stderr": err}
        command: Command
        if status < 0:
            about["exit_code"] = 0
            name = signal.Signals(-status).name if -status < signal.SIGRTMIN else f"signal {-status}"
            command = FailAttempt(**about, reason=FailureReason.SIGNAL, error=f"killed by {name}", signal=-status)
        elif status:
            command = FailAttempt(**about, reason=FailureReason.EXIT_CODE, error=f"exit status {status}", stdout_cut=7)
        else:
            command = CompleteAttempt(**about, result=b'{"ok":true}')
        self.commands[run.partition].append(
            Record(run.partition, len(self.commands[run.partition]), run.queue.encode(), codec.encode(command), 0, [])
        )

    def work(self, *queues: str) -> None:
        """Dispatch and finish the ready jobs of these queues."""
        for partition in range(PARTITIONS):
            self.decide(partition, [Offer(SESSION, "worker-1", 0, 5_000, queues or ("default",), 1, 100)])
            self.decide(partition)


class FakeOutlet:
    """Replaces `ftjm.adapters.kafka.producer.ConfirmingProducer`."""

    fault = None
    forgotten = False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def warm(self, topic: str, timeout_seconds: float = 0) -> int:
        return LANES if topic.endswith("replies") else PARTITIONS

    def send_for_receipt(
        self, topic: str, value: bytes, *, partition: int, key: bytes, headers: Any, received: Any
    ) -> None:
        assert topic.endswith(".commands")
        if self._cluster.failure is not None:
            received(self._cluster.failure)
        elif self._cluster.answers_delivery:
            received(Receipt(partition, len(self._cluster.commands[partition]), 0, 0.0))
            self._cluster.append(partition, key, value, headers)

    def close(self, timeout_seconds: float = 0) -> int:
        return 0


class FakeReader:
    """Replaces `ftjm.adapters.kafka.lane_reader.LaneReader`. Others share its lane."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.replies = [Record(0, 0, b"somebody-else", b"garbage", 0, [])]

    def read(self, timeout_seconds: float) -> list[Record]:
        if self._cluster.deciding and not self._cluster.replies:
            self._cluster.work("default", "q")
        found, self._cluster.replies = self._cluster.replies, []
        return found

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class FakeScan:
    """Replaces `ftjm.adapters.kafka.scan.Scan`."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        kind = topic.rpartition(".")[2]
        logs: dict[str, list[list[Record]]] = {
            "events": [writer.records for writer in cluster.writers],
            "commands": cluster.commands,
            "heartbeats": [[] for _ in range(LANES)],
        }
        if kind not in logs:
            raise TopicUnknown("no such topic")
        self._logs = logs[kind]
        self._cluster = cluster
        self.partitions = len(self._logs)

    def __enter__(self) -> FakeScan:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is nothing to close."""

    def bounds(self, partition: int) -> tuple[int, int]:
        log = self._logs[partition]
        return (log[0].offset, log[-1].offset + 1) if log else (0, 0)

    def offset_at(self, partition: int, time_ms: int) -> int:
        return 0

    def read(
        self,
        starts: Mapping[int, int],
        *,
        follow: bool = False,
        ends: Mapping[int, int] | None = None,
        whole: bool = False,
    ) -> Generator[Record, None, None]:
        if follow:
            yield from self._follow(dict(starts))
            return
        for partition, start in starts.items():
            end = math.inf if ends is None else ends[partition]
            yield from (record for record in self._logs[partition] if start <= record.offset < end)

    def _follow(self, places: dict[int, int]) -> Generator[Record, None, None]:
        """New records, until no step of an owner makes more of them."""
        stepped = False
        while True:
            found = [record for p, start in places.items() for record in self._logs[p] if record.offset >= start]
            for record in found:
                places[record.partition] = record.offset + 1
                yield record
            if not found and (stepped or not self._cluster.deciding):
                return
            if stepped := not found:
                for partition in places:
                    self._cluster.decide(partition)

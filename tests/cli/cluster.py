"""A whole cluster in memory behind the client and the verbs: real partitions, no Kafka."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Record
from ftjm.adapters.memory import MemoryStore
from ftjm.core.commands import Command, CompleteAttempt, FailAttempt
from ftjm.core.decide import Policy
from ftjm.core.matching import Offer
from ftjm.core.model import FailureReason
from ftjm.engine.outbox import Outbox
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommandRecord, Parcel

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


class FakeMessage:
    """As much of a Kafka message as the client looks at."""

    def __init__(self, key: bytes, value: bytes, partition: int = 0, offset: int = 0) -> None:
        self._key, self._value, self._partition, self._offset = key, value, partition, offset

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value


class Cluster:
    """Decides at once, unless `deciding` is off; runs every job that it can when `work` is called."""

    def __init__(self) -> None:
        self.now = 1_900_000_000_000
        self.deciding = True
        self.answers_delivery = True
        self.failure: KafkaError | None = None
        self.commands: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.replies: list[FakeMessage] = []
        self.writers = [Writer(p) for p in range(PARTITIONS)]
        self.partitions = [Partition(Policy(p, PARTITIONS), MemoryStore(), codec, "log") for p in range(PARTITIONS)]
        self.outboxes = [Outbox(p, codec, self._deliver, 0) for p in range(PARTITIONS)]
        self.outcomes: list[tuple[int, bytes, bytes]] = []
        """What the next jobs end with: exit status, output, errors; by default 0, b"", b""."""
        for partition, writer in zip(self.partitions, self.writers, strict=True):
            partition.lead(writer, "scheduler-1")

    def append(self, partition: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        log = self.commands[partition]
        log.append(Record(partition, len(log), key, value, self.now, headers))
        if self.deciding:
            self.decide(partition)

    def decide(self, partition: int, offers: list[Offer] | None = None) -> None:
        owner = self.partitions[partition]
        self.now += 1_000
        self.writers[partition].now = self.now
        waiting = [
            CommandRecord(r.offset, r.value, reply_to=dict(r.headers).get("ftjm-reply-to", b"").decode())
            for r in self.commands[partition][owner.position.next_command :]
        ]
        outbox = self.outboxes[partition]
        owner.work(self.now, waiting, offers=offers or [], outbox_sent=outbox.sent)
        outbox.ship(owner.state, list(owner.state.outbox(outbox.sent)))

    def _deliver(self, parcel: Parcel, done: Any) -> None:
        if parcel.topic == "replies":
            self.replies.append(FakeMessage(parcel.key.encode(), parcel.value))
        elif parcel.topic == "dispatch" and type(codec.decode(parcel.value)).__name__ == "RunAttempt":
            self._run(codec.decode(parcel.value))
        done(True)

    def _run(self, run: Any) -> None:
        status, out, err = self.outcomes.pop(0) if self.outcomes else (0, b"", b"")
        about = {"queue": run.queue, "job_id": run.job_id, "run": run.run, "attempt": run.attempt, "session": SESSION}
        about |= {"started_at": self.now, "ended_at": self.now + 5, "exit_code": status, "stdout": out, "stderr": err}
        command: Command
        if status:
            command = FailAttempt(**about, reason=FailureReason.EXIT_CODE, error=f"exit status {status}", stdout_cut=7)
        else:
            command = CompleteAttempt(**about, result=b'{"ok":true}')
        self.commands[run.partition].append(
            Record(run.partition, len(self.commands[run.partition]), run.queue.encode(), codec.encode(command), 0, [])
        )

    def work(self, *queues: str) -> None:
        """Dispatch and finish what is ready in these queues."""
        for partition in range(PARTITIONS):
            self.decide(partition, [Offer(SESSION, "worker-1", 0, 5_000, queues or ("default",), 1, 100)])
            self.decide(partition)


class FakeOutlet:
    """Stands for `ftjm.adapters.kafka_outlet.Outlet`."""

    fault = None
    forgotten = False

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def warm(self, topic: str, timeout_seconds: float = 0) -> int:
        return LANES if topic.endswith("replies") else PARTITIONS

    def send(self, topic: str, value: bytes, *, partition: int, key: bytes, headers: Any, delivered: Any) -> None:
        assert topic == "ftjm.commands"
        if self._cluster.failure is not None:
            delivered(self._cluster.failure, None)
        elif self._cluster.answers_delivery:
            delivered(None, FakeMessage(key, value, partition, len(self._cluster.commands[partition])))
            self._cluster.append(partition, key, value, headers)

    def close(self, timeout_seconds: float = 0) -> int:
        return 0


class FakeReader:
    """Stands for `ftjm.adapters.kafka.LaneReader`. Others share its lane."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.replies = [FakeMessage(b"somebody-else", b"garbage")]

    def read(self, timeout_seconds: float) -> list[FakeMessage]:
        if self._cluster.deciding and not self._cluster.replies:
            self._cluster.work("default", "q")
        found, self._cluster.replies = self._cluster.replies, []
        return found

    def close(self) -> None:
        """Nothing is held."""


class FakeScan:
    """Stands for `ftjm.adapters.kafka_scan.Scan`."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        kind = topic.rpartition(".")[2]
        logs: dict[str, list[list[Record]]] = {
            "events": [writer.records for writer in cluster.writers],
            "commands": cluster.commands,
            "heartbeats": [[] for _ in range(LANES)],
        }
        if kind not in logs:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        self._logs = logs[kind]
        self._cluster = cluster
        self.partitions = len(self._logs)

    def __enter__(self) -> FakeScan:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def bounds(self, partition: int) -> tuple[int, int]:
        log = self._logs[partition]
        return 0, log[-1].offset + 1 if log else 0

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
        for partition, start in starts.items():
            end = math.inf if ends is None else ends[partition]
            yield from (record for record in self._logs[partition] if start <= record.offset < end)

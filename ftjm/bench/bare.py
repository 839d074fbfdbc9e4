"""The bare pipeline: what this machine and this Kafka allow, with no features at all.

Submit, decide, dispatch, complete: Avro records, one Kafka transaction and one RocksDB write a batch; on each partition
one process that decides, one that works and one that submits. Absolute rates tell little on machines that are shared;
the ratio of ours to these, from the same run against the same brokers, tells more. It uses the same libraries as the
project, and none of the project's code, so that no change of ours moves the measure.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from rocksdict import Options, Rdict, WriteBatch

from ftjm.bench.client import Submitted
from ftjm.bench.options import PAYLOAD

SUBMIT, DONE = 0, 1
SUBMITTED, STARTED, ENDED = 0, 1, 2
TAKE_MAX = 4_000
WAIT_SECONDS = 0.005
POLL_EVERY = 500
READY_SECONDS_MAX = 30.0
QUIET = {"log_level": 2}
KINDS = ("commands", "events", "dispatch")


def _schema(name: str, **fields: str) -> Any:
    return fastavro.parse_schema(
        {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields.items()]}
    )


COMMAND = _schema(
    "Command",
    job_id="string",
    kind="int",
    at="long",
    queue="string",
    priority="int",
    attempt="int",
    worker="string",
    payload="bytes",
)
EVENT = _schema(
    "Event",
    job_id="string",
    kind="int",
    at="long",
    number="long",
    cause="long",
    attempt="int",
    worker="string",
    payload="bytes",
)


class Lane(msgspec.Struct, frozen=True):
    """What one process of the pipeline is about."""

    bootstrap: str
    prefix: str
    partition: int
    jobs: int
    folder: str

    def topic(self, kind: str) -> str:
        return f"{self.prefix}-{kind}"


def make_topics(bootstrap: str, prefix: str, partitions: int) -> None:
    """Topics with the brokers' own settings."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    for made in admin.create_topics([NewTopic(f"{prefix}-{kind}", partitions) for kind in KINDS]).values():
        made.result()


def delete_topics(bootstrap: str, prefix: str) -> None:
    """Delete them."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    for deleted in admin.delete_topics([f"{prefix}-{kind}" for kind in KINDS]).values():
        deleted.result()


def submit(lane: Lane) -> Submitted:
    """The client."""
    producer = _producer(lane)
    began = time.time()
    command = {"kind": SUBMIT, "queue": "default", "priority": 50, "attempt": 0, "worker": "", "payload": PAYLOAD}
    for number in range(lane.jobs):
        record = {**command, "job_id": f"job-{lane.partition}-{number:012}", "at": _now_ms()}
        producer.produce(lane.topic("commands"), _encode(COMMAND, record), partition=lane.partition)
        if number % POLL_EVERY == 0:
            producer.poll(0)
    producer.flush()
    return Submitted(began, time.time())


def decide(lane: Lane) -> Submitted:
    """The scheduler: until all jobs are done."""
    source = _consumer(lane, "commands")
    producer = _producer(lane, **{"transactional.id": f"{lane.prefix}-{lane.partition}", "linger.ms": 0})
    producer.init_transactions()
    store = Rdict(f"{lane.folder}/{lane.prefix}-{lane.partition}", options=Options(raw_mode=True))
    _say_ready(source)
    began, done, number = 0.0, 0, 0
    live: dict[str, int] = {}
    while done < lane.jobs:
        messages = _take(source)
        if not messages:
            continue
        began = began or time.time()
        rows, events, dispatches = WriteBatch(raw_mode=True), [], []
        for message in messages:
            command = _decode(COMMAND, message)
            key = command["job_id"].encode()
            for kind, attempt, payload in _judge(command, live):
                number += 1
                event = {"job_id": command["job_id"], "kind": kind, "at": _now_ms(), "number": number, "worker": ""}
                value = _encode(EVENT, {**event, "cause": message.offset(), "attempt": attempt, "payload": payload})
                events.append({"key": key, "value": value})
                if kind == SUBMITTED:
                    dispatches.append({"value": value})
                if kind != STARTED:
                    rows.put(key, value)
                done += kind == ENDED
        producer.begin_transaction()
        producer.produce_batch(lane.topic("events"), events, partition=lane.partition)
        producer.produce_batch(lane.topic("dispatch"), dispatches, partition=lane.partition)
        producer.commit_transaction()
        store.write(rows)
    ended = time.time()
    store.close()
    source.close()
    return Submitted(began, ended)


def _judge(command: dict[str, Any], live: dict[str, int]) -> Iterator[tuple[int, int, bytes]]:
    job = command["job_id"]
    if command["kind"] == SUBMIT:
        live[job] = 1
        yield SUBMITTED, 0, command["payload"]
        yield STARTED, 1, b""
    else:
        yield ENDED, live.pop(job), command["payload"]


def work(lane: Lane) -> Submitted:
    """The worker: says at once that a job is done."""
    source, producer = _consumer(lane, "dispatch"), _producer(lane)
    _say_ready(source)
    began, done = time.time(), 0
    command = {"kind": DONE, "queue": "default", "priority": 50, "attempt": 1, "worker": "w"}
    while done < lane.jobs:
        for message in _take(source):
            event = _decode(EVENT, message)
            record = {**command, "job_id": event["job_id"], "at": _now_ms(), "payload": event["payload"]}
            producer.produce(lane.topic("commands"), _encode(COMMAND, record), partition=lane.partition)
            done += 1
        producer.poll(0)
    producer.flush()
    source.close()
    return Submitted(began, time.time())


ROLES: dict[str, Callable[[Lane], Submitted]] = {"bare-client": submit, "bare-scheduler": decide, "bare-worker": work}


def _producer(lane: Lane, **more: Any) -> Producer:
    settings: dict[str, Any] = {
        "bootstrap.servers": lane.bootstrap,
        "enable.idempotence": True,
        "linger.ms": 2,
        "batch.size": 256 * 1024,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,
        # The library's 100 ms would be paid by every transaction.
        "retry.backoff.ms": 1,
    }
    return Producer({**settings, **more})


def _consumer(lane: Lane, kind: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": lane.bootstrap,
            "group.id": lane.topic(kind),
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(lane.topic(kind), lane.partition, 0)])
    return consumer


def _say_ready(source: Consumer) -> None:
    """The first line of output, once the brokers have answered."""
    source.list_topics(timeout=READY_SECONDS_MAX)
    sys.stdout.write("null\n")
    sys.stdout.flush()


def _take(source: Consumer) -> list[Message]:
    return [message for message in source.consume(TAKE_MAX, WAIT_SECONDS) if message.error() is None]


def _encode(schema: Any, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def _decode(schema: Any, message: Message) -> dict[str, Any]:
    found: Any = fastavro.schemaless_reader(io.BytesIO(message.value() or b""), schema, None)
    return found  # type: ignore[no-any-return]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

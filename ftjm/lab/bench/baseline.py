"""The bare pipeline: the rate that this machine and this Kafka allow without any feature of ftjm.

On each partition, one process submits jobs, one decides them and one works: Avro records, one Kafka transaction and one
RocksDB write for each batch. Absolute rates vary much on a shared machine; the ratio of ftjm's rate to this one, from
the same run against the same brokers, varies less. The pipeline uses the same libraries as ftjm, and none of its code,
so that a change of ftjm cannot move the measure.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fastavro
import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from rocksdict import Options, Rdict, WriteBatch

from ftjm.lab.bench.client import Elapsed
from ftjm.lab.bench.options import PAYLOAD

SUBMIT, DONE = 0, 1
SUBMITTED, STARTED, ENDED = 0, 1, 2
TAKE_MAX = 4_000
WAIT_SECONDS = 0.005
POLL_EVERY = 500
READY_SECONDS_MAX = 30.0
QUIET = {"log_level": 2}
KAFKA_VARIABLES = "FTJM_KAFKA_"
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


class PipelineLane(msgspec.Struct, frozen=True):
    """The share of one process: its partition, and its number of jobs."""

    bootstrap: str
    prefix: str
    partition: int
    jobs: int
    folder: str

    def topic(self, kind: str) -> str:
        """Return the name of a topic; `kind` is one of `KINDS`."""
        return f"{self.prefix}-{kind}"


def make_topics(kafka: Mapping[str, Any], prefix: str, partitions: int) -> None:
    """Create the topics of the pipeline with the default settings of the brokers; `kafka` says how to reach these."""
    admin = AdminClient({**kafka, **QUIET})
    for made in admin.create_topics([NewTopic(f"{prefix}-{kind}", partitions) for kind in KINDS]).values():
        made.result()


def delete_topics(kafka: Mapping[str, Any], prefix: str) -> None:
    """Delete the topics of the pipeline."""
    admin = AdminClient({**kafka, **QUIET})
    for deleted in admin.delete_topics([f"{prefix}-{kind}" for kind in KINDS]).values():
        deleted.result()


def submit(lane: PipelineLane) -> Elapsed:
    """Run the client: submit all jobs of the lane."""
    producer = _producer(lane)
    began = time.time()
    command = {"kind": SUBMIT, "queue": "default", "priority": 50, "attempt": 0, "worker": "", "payload": PAYLOAD}
    for number in range(lane.jobs):
        record = {**command, "job_id": f"job-{lane.partition}-{number:012}", "at": _now_ms()}
        producer.produce(lane.topic("commands"), _encode(COMMAND, record), partition=lane.partition)
        if number % POLL_EVERY == 0:
            producer.poll(0)
    producer.flush()
    return Elapsed(began, time.time())


def decide(lane: PipelineLane) -> Elapsed:
    """Run the scheduler: decide until all jobs of the lane have ended."""
    source = _consumer(lane, "commands")
    producer = _producer(lane, **{"transactional.id": f"{lane.prefix}-{lane.partition}", "linger.ms": 0})
    producer.init_transactions()
    store = Rdict(f"{lane.folder}/{lane.prefix}-{lane.partition}", options=Options(raw_mode=True))
    _print_ready(source)
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
            for kind, attempt, payload in _decide(command, live):
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
    return Elapsed(began, ended)


def _decide(command: dict[str, Any], live: dict[str, int]) -> Iterator[tuple[int, int, bytes]]:
    job = command["job_id"]
    if command["kind"] == SUBMIT:
        live[job] = 1
        yield SUBMITTED, 0, command["payload"]
        yield STARTED, 1, b""
    else:
        yield ENDED, live.pop(job), command["payload"]


def work(lane: PipelineLane) -> Elapsed:
    """Run the worker: report each job as done when it arrives."""
    source, producer = _consumer(lane, "dispatch"), _producer(lane)
    _print_ready(source)
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
    return Elapsed(began, time.time())


ROLES: dict[str, Callable[[PipelineLane], Elapsed]] = {
    "bare-client": submit,
    "bare-scheduler": decide,
    "bare-worker": work,
}


def _kafka(lane: PipelineLane) -> dict[str, str]:
    """How to reach the brokers. Passwords are in the environment, since every user sees the arguments of a process."""
    kafka = {
        name.removeprefix(KAFKA_VARIABLES).lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(KAFKA_VARIABLES)
    }
    return {**kafka, "bootstrap.servers": lane.bootstrap}


def _producer(lane: PipelineLane, **more: Any) -> Producer:
    settings: dict[str, Any] = {
        **_kafka(lane),
        "enable.idempotence": True,
        "linger.ms": 2,
        "batch.size": 256 * 1024,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,
        # With the library's default of 100 ms, every transaction would wait that long.
        "retry.backoff.ms": 1,
    }
    return Producer({**settings, **more})


def _consumer(lane: PipelineLane, kind: str) -> Consumer:
    consumer = Consumer(
        {
            **_kafka(lane),
            "group.id": lane.topic(kind),
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(lane.topic(kind), lane.partition, 0)])
    return consumer


def _print_ready(source: Consumer) -> None:
    """Print the first line of output once the brokers have answered: it marks the process as ready."""
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

"""Submits a job to ftjm with an ordinary Kafka client and an ordinary Avro library.

    pip install confluent-kafka fastavro
    python producer.py --bootstrap 127.0.0.1:19092 --wait -- echo hello

Copy it as it is: it needs the folder `schemas` and nothing else of the project.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"


class Records:
    """Avro's single-object encoding: a marker, the fingerprint of the schema, and the body."""

    def __init__(self, folder: Path) -> None:
        self._by_header: dict[bytes, Any] = {}
        self._by_name: dict[str, tuple[bytes, Any]] = {}
        for path in sorted(folder.glob("*/*.avsc")):
            text = json.loads(path.read_text())
            header = MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(text), "CRC-64-AVRO"))
            schema: Any = fastavro.parse_schema(text)
            self._by_header[header] = schema
            # Of several versions of a record any will do.
            self._by_name[schema["name"]] = header, schema

    def encode(self, name: str, fields: dict[str, Any]) -> bytes:
        """A record as bytes; fields that have a default may be left out."""
        header, schema = self._by_name[name]
        out = io.BytesIO()
        out.write(header)
        fastavro.schemaless_writer(out, schema, fields)
        return out.getvalue()

    def decode(self, data: bytes) -> dict[str, Any] | None:
        """A record's fields; None for one that these schemas do not know."""
        schema = self._by_header.get(data[:10])
        if schema is None:
            return None
        found: Any = fastavro.schemaless_reader(io.BytesIO(data[10:]), schema, None)
        return {"record": schema["name"].rpartition(".")[2], **found}


class Answers:
    """A lane of the topic of replies: where the decision and the outcome arrive."""

    def __init__(self, kafka: dict[str, Any], topic: str, records: Records) -> None:
        self.session = str(uuid.uuid4())
        self._records = records
        self._consumer = Consumer({**kafka, "group.id": self.session, "enable.auto.commit": False})
        # Any lane will do. It is shared with others; records are keyed by the session that asked.
        lanes = len(self._consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        self._lane = TopicPartition(topic, uuid.UUID(self.session).int % lanes)
        # From its end as of now, so it has to be known before anything is asked.
        self._lane.offset = self._consumer.get_watermark_offsets(self._lane, timeout=10)[1]
        self._consumer.assign([self._lane])

    @property
    def address(self) -> bytes:
        """What the header `ftjm-reply-to` says: lane, session, and a name for this command."""
        return f"{self._lane.partition}/{self.session}/1".encode()

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """The refusal or the outcome, whichever comes; None if neither does in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.2)
            if message is None or message.error() or message.key() != self.session.encode():
                continue
            answer = self._records.decode(message.value() or b"")
            if answer and (answer["record"] == "JobOutcome" or not answer["accepted"]):
                return answer
        return None


def main() -> int:
    """Submit one job; with --wait, the exit status tells whether it succeeded."""
    options = _options()
    records = Records(options.schemas)
    answers = None
    headers: list[tuple[str, str | bytes | None]] = []
    if options.wait:
        answers = Answers(_kafka(options), f"{options.cluster}.replies", records)
        headers.append(("ftjm-reply-to", answers.address))
    fields = {
        "queue": options.queue,
        "job_id": options.job_id,
        "spec": {"command": options.command, "payload": b"", "max_attempts": 3},
        "awaits": options.wait,
    }
    # The partitioner of Kafka's Java client, which ftjm's own clients use too: the job goes where its queue lives.
    producer = Producer({**_kafka(options), "enable.idempotence": True, "partitioner": "murmur2_random"})
    value = records.encode("ftjm.commands.SubmitJob", fields)
    producer.produce(f"{options.cluster}.commands", value, options.queue.encode(), headers=headers or None)
    if producer.flush(30):
        sys.stderr.write("not in the log: Kafka does not answer\n")
        return 1
    print(f"{options.queue}/{options.job_id}")
    if answers is None:
        return 0
    answer = answers.wait(options.wait_seconds)
    print(json.dumps(answer, default=lambda data: data.decode(errors="replace")))
    # A refusal tells the state too: that of the job which has the name already.
    return 0 if answer and answer["record"] == "JobOutcome" and answer["state"] == "SUCCEEDED" else 1


def _kafka(options: argparse.Namespace) -> dict[str, Any]:
    """How to reach Kafka. The Kafka of `ftjm up` asks for a password, which is in the endpoint file of that `up`."""
    sign_on = json.loads(options.endpoint.read_text())["kafka"] if options.endpoint else {}
    return {"bootstrap.servers": options.bootstrap, **sign_on}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Submit a job to ftjm.")
    parser.add_argument("--bootstrap", required=True, help="Kafka, host:port")
    parser.add_argument("--endpoint", type=Path, help="the file endpoint.json in the data directory of `ftjm up`")
    parser.add_argument("--cluster", default="ftjm", help="prefix of the topics")
    parser.add_argument("--schemas", type=Path, default=Path(__file__).parent.parent / "schemas")
    parser.add_argument("--queue", default="default")
    # Submitting the same id with the same content again gives the same job, so a repeat after an error is safe.
    parser.add_argument("--job-id", default=str(uuid.uuid4()))
    parser.add_argument("--wait", action="store_true", help="wait for the outcome")
    parser.add_argument("--wait-seconds", type=float, default=60.0)
    parser.add_argument("command", nargs="+", help="program and arguments")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""Prints ftjm's events as JSON, one a line, with an ordinary Kafka client and an ordinary Avro library.

    pip install confluent-kafka fastavro
    python consumer.py --bootstrap 127.0.0.1:19092 --group my-program

Started again with the same group it goes on where it stopped; several of one group share the partitions.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError
from fastavro.schema import fingerprint, to_parsing_canonical_form


def load_schemas(folder: Path) -> dict[bytes, Any]:
    """Every version of every record, by the first 10 bytes of its records: a marker and the schema's fingerprint."""
    found = {}
    for path in folder.glob("*/*.avsc"):
        text = json.loads(path.read_text())
        header = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(text), "CRC-64-AVRO"))
        found[header] = fastavro.parse_schema(text)
    return found


def decode(schemas: dict[bytes, Any], data: bytes) -> dict[str, Any] | None:
    """A record's name and fields; None for one that is newer than these schemas, which is to be skipped."""
    schema = schemas.get(data[:10])
    if schema is None:
        return None
    fields: Any = fastavro.schemaless_reader(io.BytesIO(data[10:]), schema, None)
    return {"event": schema["name"].rpartition(".")[2], **fields}


def main() -> int:
    """Print events until Ctrl-C, or with --once to the end of the log."""
    options = _options()
    schemas = load_schemas(options.schemas)
    consumer = Consumer(
        {
            **_kafka(options),
            "group.id": options.group,
            # What is not committed did not happen.
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    topic = f"{options.cluster}.events"
    waiting = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.subscribe([topic])
    try:
        while waiting or not options.once:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                elif error.fatal():
                    raise SystemExit(str(error))
                continue
            event = decode(schemas, message.value() or b"")
            # Records of the whole partition (BatchClosed, ...) have no key.
            if event is not None and (message.key() or options.all):
                print(json.dumps(event, default=_shown), flush=True)
            # After the work, so that a crash repeats an event and never loses one.
            consumer.commit(message=message, asynchronous=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    return 0


def _shown(value: Any) -> str:
    """Bytes are JSON in most fields, and a hash in some."""
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return bytes(value).hex()


def _kafka(options: argparse.Namespace) -> dict[str, Any]:
    """How to reach Kafka. The Kafka of `ftjm up` asks for a password, which is in the endpoint file of that `up`."""
    sign_on = json.loads(options.endpoint.read_text())["kafka"] if options.endpoint else {}
    return {"bootstrap.servers": options.bootstrap, **sign_on}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Print ftjm's events.")
    parser.add_argument("--bootstrap", required=True, help="Kafka, host:port")
    parser.add_argument("--endpoint", type=Path, help="the file endpoint.json in the data directory of `ftjm up`")
    parser.add_argument("--cluster", default="ftjm", help="prefix of the topics")
    parser.add_argument("--schemas", type=Path, default=Path(__file__).parent.parent / "schemas")
    parser.add_argument("--group", default="ftjm-example-consumer")
    parser.add_argument("--once", action="store_true", help="stop at the end of the log")
    parser.add_argument("--all", action="store_true", help="also what is about no job")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

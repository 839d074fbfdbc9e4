"""What waits of one partition is bounded in bytes, of which every message takes some."""

from __future__ import annotations

from typing import Any

from ftjm.adapters.kafka.errors import LogRefused
from ftjm.adapters.kafka.messages import event_record
from ftjm.adapters.kafka.partition_buffer import MESSAGE_BYTES, PartitionBuffer


class Message:
    """As much of librdkafka's message as a buffer needs."""

    def __init__(self, offset: int, value: bytes) -> None:
        self.offset = lambda: offset
        self.value = lambda: value
        self.key = lambda: None
        self._length = len(value)

    def __len__(self) -> int:
        return self._length


def test_a_message_of_no_bytes_counts() -> None:
    channel = PartitionBuffer(0, lambda: None, event_record)
    empty: list[Any] = [Message(offset, b"") for offset in range(10)]
    assert channel.put(empty) == 10 * MESSAGE_BYTES
    channel.take(4)
    assert channel.held_bytes == 6 * MESSAGE_BYTES


def test_what_kafka_says_is_no_trouble_any_more_once_something_comes() -> None:
    channel = PartitionBuffer(0, lambda: None, event_record)
    trouble = LogRefused("not authorised")
    channel.trouble = trouble
    record: Any = Message(0, b"x")
    channel.put([record])
    assert channel.trouble is None
    channel.trouble = trouble
    channel.at_end(1)
    assert channel.trouble is None

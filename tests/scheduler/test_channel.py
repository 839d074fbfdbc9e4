"""What waits of one partition is bounded in bytes, of which every message takes some."""

from __future__ import annotations

from typing import Any

from ftjm.adapters.kafka_channel import MESSAGE_BYTES, Channel
from tests.scheduler.seat import Record


def test_a_message_of_no_bytes_counts() -> None:
    channel = Channel(0, lambda: None)
    empty: list[Any] = [Record(offset, b"") for offset in range(10)]
    assert channel.put(empty) == 10 * MESSAGE_BYTES
    channel.take(4)
    assert channel.held_bytes == 6 * MESSAGE_BYTES


def test_what_kafka_says_is_no_trouble_any_more_once_something_comes() -> None:
    channel = Channel(0, lambda: None)
    trouble: Any = "not authorised"
    channel.trouble = trouble
    record: Any = Record(0, b"x")
    channel.put([record])
    assert channel.trouble is None
    channel.trouble = trouble
    channel.at_end(1)
    assert channel.trouble is None

"""librdkafka's messages made into records, receipts, commands and events; and the headers that commands carry.

A command's headers are text. A client that waits for an answer sends where it listens; a partition that forwards a
command to another one numbers it, so that the receiver drops what it has consumed already::

    ftjm-reply-to   3/0198c0de-…/17     lane of the topic `replies`, session, the client's own number
    ftjm-source     2                   the partition that forwards the command
    ftjm-number     41                  its number among all that this partition forwards to the receiver
    ftjm-confirmed  39                  every number up to this one is known to be in the receiver's log
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Message

from ftjm.adapters.records import Receipt, Record
from ftjm.engine.ports import CommandRecord, EventRecord, Parcel

Headers = Sequence[tuple[str, bytes]]

REPLY_TO = re.compile(r"(\d{1,4})/[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def offset_of(message: Message) -> int:
    """The offset of a message that was read or delivered; only messages that are still to be sent have none."""
    offset = message.offset()
    assert offset is not None
    return offset


def epoch_of(message: Message) -> int:
    """Epoch of the leader that took the message; -1 where it is not known."""
    epoch = message.leader_epoch()
    return -1 if epoch is None else epoch


def record_of(message: Message) -> Record:
    """The message as a record."""
    headers: Any = message.headers()  # the library's own annotation fits producers only
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.key() or b"",
        message.value() or b"",
        message.timestamp()[1],
        [(name, value or b"") for name, value in headers] if headers else [],
    )


def receipt_of(message: Message) -> Receipt:
    """The receipt for a message that was delivered."""
    return Receipt(message.partition() or 0, message.offset() or 0, message.timestamp()[1], message.latency() or 0.0)


def event_record(message: Message) -> EventRecord:
    """A committed event."""
    return EventRecord(message.offset() or 0, message.value() or b"", message.key() or b"")


def command_records(lanes: int) -> Callable[[Message], CommandRecord]:
    """A function that makes a command of a message.

    Headers that make no sense are taken as absent: the sender then gets no answer.

    Args:
        lanes: how many lanes of replies there are. An answer to another lane could never be sent.
    """

    def command_record(message: Message) -> CommandRecord:
        headers: dict[str, Any] = dict(message.headers() or ())
        reply_to = (headers.get("ftjm-reply-to") or b"").decode("ascii", "replace")
        found = REPLY_TO.match(reply_to)
        source = _number(headers.get("ftjm-source"))
        epoch = message.leader_epoch()
        return CommandRecord(
            message.offset() or 0,
            message.value() or b"",
            reply_to=reply_to if found and int(found[1]) < lanes else "",
            source=-1 if source is None else source,
            number=_number(headers.get("ftjm-number")) or 0,
            confirmed=_number(headers.get("ftjm-confirmed")) or 0,
            epoch=-1 if epoch is None else epoch,
        )

    return command_record


def _number(header: bytes | None) -> int | None:
    return int(header) if header is not None and header.isdigit() and len(header) < 18 else None


def forward_headers(parcel: Parcel) -> Headers:
    """The headers of a command that one partition sends to another."""
    numbers = {"source": parcel.source, "number": parcel.number, "confirmed": parcel.confirmed}
    headers = [(f"ftjm-{name}", b"%d" % number) for name, number in numbers.items()]
    if parcel.reply_to:
        headers.append(("ftjm-reply-to", parcel.reply_to.encode()))
    return headers

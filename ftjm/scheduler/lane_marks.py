"""Marks: records that a scheduler writes into every lane of heartbeats, and reads up to.

Once it has read the marks, it has read every heartbeat that the log took before them. To request the log's end instead
would not do: a leader that was replaced and does not know it yet reports an end that is too low. The reader must not
skip any record before a mark, because a session whose heartbeat is there is not silent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.records import Receipt, Record
from ftjm.core.records.messages import TakeSnapshot
from ftjm.runtime.clock import boot_ms

USUAL_AGES_MS = range(-1_000, 5_000)
"""After a record of another age, marks are sent soon: perhaps the clock of its lane's leader has changed."""
MARK_SECONDS = 1.0
"""If the marks are in the log and were not read for this long, new ones are sent."""
MARK = codec.encode(TakeSnapshot(partitions=[]))
"""The record of a mark: a request for snapshots of no partition, on which every reader does nothing."""


@dataclass
class Marks:
    """The marks that were sent together: one in each lane."""

    sent_ms: int
    """When they were sent, ms of the boot clock, which also measures leases."""
    sent_at: float
    """When they were sent, seconds of the monotonic clock."""
    ends: dict[int, int] = field(default_factory=dict)
    """For each lane whose log has the mark, the offset behind it."""
    read_by: float = 0.0
    """When they should have been read, seconds of the monotonic clock; 0 until the log has all of them."""


class LaneMarks:
    """Sends marks, finds out when they are read, and tells by them how old a record is.

    One thread calls it. Receipts come from the producer's thread, and only set what that thread reads."""

    def __init__(self, producer: ConfirmingProducer, topic: str, lanes: int, reader: LaneReader) -> None:
        """Begin without marks. `reader` reads all lanes of the topic."""
        self._producer = producer
        self._topic = topic
        self._lanes = lanes
        self._reader = reader
        self._unread: Marks | None = None
        self._times: dict[int, tuple[int, int]] = {}
        """When the log of each lane took the newest mark, ms: by the boot clock of this host, and by the broker."""
        self.saw_unusual_age = False
        """Whether a record since the newest marks had an age that is not in `USUAL_AGES_MS`."""

    @property
    def are_under_way(self) -> bool:
        """Whether marks were sent that are not read yet."""
        return self._unread is not None

    @property
    def are_in_all_lanes(self) -> bool:
        """Whether each lane has had a mark."""
        return len(self._times) == self._lanes

    def send(self) -> None:
        """Write a mark into each lane."""
        marks = self._unread = Marks(boot_ms(), time.monotonic())
        self.saw_unusual_age = False

        def received(receipt: Receipt | LogError) -> None:
            if isinstance(receipt, Receipt):
                marks.ends[receipt.partition] = receipt.offset + 1
                self._times[receipt.partition] = (boot_ms(), receipt.time_ms)
            elif self._unread is marks:
                self._unread = None  # a mark was refused: new ones are sent

        try:
            for lane in range(self._lanes):
                self._producer.send_for_receipt(self._topic, MARK, partition=lane, received=received)
        except BaseException:
            self._unread = None
            raise

    def take_read(self) -> Marks | None:
        """Return the marks if all of them are read now. Send new ones if they are late."""
        marks = self._unread
        if marks is None or len(marks.ends) < self._lanes:
            return None
        marks.read_by = marks.read_by or time.monotonic() + MARK_SECONDS
        if self._reader.reached(marks.ends):
            self._unread = None
            return marks
        if time.monotonic() > marks.read_by:
            self.send()
        return None

    def age_ms(self, record: Record) -> int:
        """Return how long ago the log took a record; 0 until the first mark of the record's lane is in the log.

        Only the clock of the lane's leader is used, which marks compare with the boot clock. A leader whose clock is
        wrong would otherwise make living workers look silent.
        """
        now = boot_ms()
        at, time_ms = self._times.get(record.partition, (now, 0))
        age_ms = now - at + time_ms - record.time_ms if time_ms else 0
        self.saw_unusual_age |= age_ms not in USUAL_AGES_MS
        return max(0, age_ms)

"""One consumer for all partitions that a process reads: commands where it is the owner, events where it follows.

A thread polls the consumer and sorts what arrives into one `PartitionBuffer` for each partition. What is read is
changed on that thread alone, so that no record of an earlier assignment can enter the buffer of a later one.

What librdkafka does that is worked around here:

- It checks for a lost tail of the log (KIP-320) when the leader changes, but not when a consumer begins to read behind
  records that another process has read. So the record before the first is read again, and must be of the same epoch.
- The first message after an assignment may be of an offset behind the one that was asked for. It is asked for once
  more; what comes then is taken for a gap in the log.
- Being paused is a property of the partition and outlives its assignment. A partition is resumed before it is released.
- It forgets a topic without an assigned partition, and the topic's next reader waits for up to half a second, as a new
  owner would for its commands. See `_keep_topics_known`.
- It has one fetch under way to each broker. A partition that comes meanwhile waits for its answer: see `nudge.py`.
- It reports the end of a partition once for each end offset, and an error once. A partition for which an error was
  reported is assigned again every few seconds, so that Kafka reports its state again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, overload

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from ftjm.adapters.kafka.connection import make_watched_consumer, next_messages
from ftjm.adapters.kafka.errors import ClientBroken, OffsetOutOfRange, error_of
from ftjm.adapters.kafka.messages import command_records, epoch_of, event_record, offset_of
from ftjm.adapters.kafka.nudge import Nudge
from ftjm.adapters.kafka.partition_buffer import CommandBuffer, EventBuffer, PartitionBuffer
from ftjm.runtime import logs

log = logs.get(__name__)

Kind = Literal["commands", "events"]
TAKE_MAX = 2_000
POLL_SECONDS = 0.02
"""How long `follow` and `drop` may wait to be carried out, and a paused partition to be resumed."""
CALM_POLL_SECONDS = 0.1
"""The same while no partition is paused, and none was followed for `CALM_SECONDS`. A nudge ends it for `follow`."""
CALM_SECONDS = 5.0
NUDGED_WAIT_MS = 500
"""How long a broker waits for the next record before it answers that there is none, where nudges make it answer."""
LOOK_SECONDS = 0.5
ASK_SECONDS = 5.0
"""After this long without a record since the last error, a partition is assigned again."""
FAULT_SECONDS = 0.5
"""Pause after an unexpected exception, before reading is tried again."""
HELD_BYTES_MAX = 64 * 1024 * 1024
"""Memory that the messages of all buffers may take. Each partition has an equal share; beyond it, it is paused.

A partition gets nothing for up to a second after it is resumed: librdkafka has thrown away what it had fetched, and has
to notice. So half of a share should keep a fold busy for longer than that.
"""


class PartitionReader:
    """Reads partitions of `commands` and `events` by position into buffers, on a thread of its own."""

    def __init__(
        self,
        settings: Mapping[str, object],
        cluster: str,
        *,
        lanes: int = 0,
        held_bytes_max: int = HELD_BYTES_MAX,
        at_hand: Iterable[tuple[Kind, int]] = (),
        nudge: Nudge | None = None,
    ) -> None:
        """Connect, and start the thread.

        Args:
            settings: how to reach Kafka.
            cluster: prefix of the topics' names.
            lanes: number of partitions of `replies`. A command's request for an answer elsewhere is ignored.
            held_bytes_max: memory that buffered messages may take.
            at_hand: two partitions (or the only one) of a topic that may have to be read at any moment, although no
                partition of it is read now.
            nudge: makes brokers answer when a partition is assigned or resumed, and when `nudge_brokers` is called.
                Without it, a broker waits for the next record for `fetch.wait.max.ms`.

        Raises:
            LogError: a setting is wrong.
        """
        self._cluster = cluster
        self._command_record = command_records(lanes)
        self._at_hand = [(f"{cluster}.{kind}", partition) for kind, partition in at_hand]
        self._held_bytes_max = held_bytes_max
        self._settings = {"fetch.wait.max.ms": NUDGED_WAIT_MS, **settings} if nudge else settings
        self._nudge = nudge
        self._nudge_due = False  # whether a partition was assigned or resumed since the last nudge
        self._connect()
        self._changes: deque[Callable[[], None]] = deque()
        """Requests by `follow` and `drop`, which the thread carries out."""
        self._buffers: dict[tuple[str, int], PartitionBuffer[Any]] = {}
        self._paused: set[tuple[str, int]] = set()
        self._spare: set[tuple[str, int]] = set()
        """Partitions that are assigned and paused only to keep their topic known."""
        self._checked_at = 0.0
        self._followed_at = time.monotonic()
        self._throttle = logs.Throttle()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="partition-reader", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        self._consumer, self._watch = make_watched_consumer(self._settings, "feed")
        if self._nudge is not None:
            self._nudge.reconnect()

    def _reconnect(self) -> None:
        """Read all partitions on with a new consumer."""
        self._consumer.close()
        self._connect()
        self._paused.clear()
        self._spare.clear()
        for key, buffer in self._buffers.items():
            buffer.first_checked = not buffer.proves
            self._assign(key, buffer)

    def _assign(self, key: tuple[str, int], buffer: PartitionBuffer[Any]) -> None:
        buffer.proving = buffer.epoch >= 0
        self._consumer.incremental_assign([TopicPartition(*key, buffer.proof if buffer.proving else buffer.reached)])
        self._nudge_due = True

    def nudge_brokers(self) -> None:
        """Have the brokers answer now: records that are in the log arrive, and ends of the log are reported."""
        if self._nudge is not None:
            self._nudge.send()

    @overload
    def follow(
        self, kind: Literal["commands"], partition: int, start: int, wake: Callable[[], None], epoch: int = -1
    ) -> CommandBuffer: ...

    @overload
    def follow(
        self, kind: Literal["events"], partition: int, start: int, wake: Callable[[], None], epoch: int = -1
    ) -> EventBuffer: ...

    def follow(
        self, kind: Kind, partition: int, start: int, wake: Callable[[], None], epoch: int = -1
    ) -> PartitionBuffer[Any]:
        """Begin to read a partition; an earlier buffer of the same partition gets nothing more.

        Args:
            kind: the topic: `events` or `commands`.
            partition: the partition to read.
            start: offset of the first record to read.
            wake: called, from the reader's thread, when something has arrived.
            epoch: epoch of the leader that took the record before `start`; -1 where it is not known.

        Returns:
            The buffer that the records arrive in.
        """
        record: Callable[[Message], Any] = self._command_record if kind == "commands" else event_record
        buffer = PartitionBuffer(start, wake, record, proves=kind == "commands", epoch=epoch)
        self._changes.append(lambda: self._follow((f"{self._cluster}.{kind}", partition), buffer))
        if self._is_calm:
            self.nudge_brokers()
        return buffer

    def drop(self, kind: Kind, partition: int) -> None:
        """Stop reading a partition."""
        self._changes.append(lambda: self._drop((f"{self._cluster}.{kind}", partition)))

    def _keep_topics_known(self) -> None:
        """Keep topics known to librdkafka though none of their partitions is read: two are assigned and paused.

        Two, because one of them is released at the moment in which a reader follows it. They are assigned at an offset,
        not at the log's end: a broker's late answer to where the end is would move a reader that has started meanwhile
        past all records before that end.
        """
        for key in self._at_hand:
            if key not in self._buffers and key not in self._spare:
                self._consumer.incremental_assign([TopicPartition(*key, 0)])
                self._consumer.pause([TopicPartition(*key)])
                self._spare.add(key)

    def _follow(self, key: tuple[str, int], buffer: PartitionBuffer[Any]) -> None:
        self._drop(key)
        if key in self._spare:
            self._spare.remove(key)
            self._release(key, paused=True)
        self._followed_at = time.monotonic()
        self._buffers[key] = buffer
        self._assign(key, buffer)

    def _drop(self, key: tuple[str, int]) -> None:
        if self._buffers.pop(key, None) is not None:
            self._release(key, paused=key in self._paused)
            self._paused.discard(key)

    def _release(self, key: tuple[str, int], *, paused: bool) -> None:
        if paused:
            # The pause outlives the assignment: without this call, the partition would stay silent when it is read
            # again.
            self._consumer.resume([TopicPartition(*key)])
        self._consumer.incremental_unassign([TopicPartition(*key)])

    def _run(self) -> None:
        while self._open:
            try:
                self._step()
            except Exception as error:  # without this thread, all partitions would wait forever
                log.exception("feed_failed", todo="report it; the partitions are opened again")
                fault = ClientBroken(f"reading has failed: {error}")
                for buffer in self._buffers.values():
                    buffer.fail(fault)
                time.sleep(FAULT_SECONDS)

    def _step(self) -> None:
        if self._watch.lost:
            self._reconnect()
        while self._changes:
            self._changes.popleft()()
        self._resume()
        if self._nudge_due:
            self._nudge_due = False
            self.nudge_brokers()
        if time.monotonic() - self._checked_at > LOOK_SECONDS:
            self._checked_at = time.monotonic()
            self._check_buffers()
            self._keep_topics_known()
            if self._nudge is not None:
                self._nudge.choose_lanes(self._consumer)
        self._sort(next_messages(self._consumer, CALM_POLL_SECONDS if self._is_calm else POLL_SECONDS, TAKE_MAX))

    @property
    def _is_calm(self) -> bool:
        return not self._paused and time.monotonic() - self._followed_at > CALM_SECONDS

    def _check_buffers(self) -> None:
        """Note the ends of the logs, which brokers report with records; assign partitions in trouble again."""
        for key, buffer in self._buffers.items():
            if buffer.trouble is not None and time.monotonic() - buffer.asked_at > ASK_SECONDS:
                buffer.first_checked = not buffer.proves
                self._assign_again(key, buffer)
            with suppress(KafkaException):
                _, end = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
                buffer.end = max(buffer.end, buffer.reached, end)

    def _assign_again(self, key: tuple[str, int], buffer: PartitionBuffer[Any]) -> None:
        """Read the partition again from where it is: librdkafka then repeats its error, or reports the log's end."""
        buffer.asked_at = time.monotonic()
        buffer.doubted = False
        self._release(key, paused=key in self._paused)
        self._paused.discard(key)
        self._assign(key, buffer)

    def _sort(self, messages: Sequence[Message]) -> None:
        """Put messages into their buffers: one lock and one wake-up for each partition, not for each message."""
        arrived: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            key = (message.topic() or "", message.partition() or 0)
            if message.error() is None:
                arrived.setdefault(key, []).append(message)
            else:
                self._put(key, arrived.pop(key, []))
                self._note(key, message)
        for key, records in arrived.items():
            self._put(key, records)

    def _skips(self, key: tuple[str, int], buffer: PartitionBuffer[Any], offset: int) -> bool:
        """Whether messages must be dropped because the first one is beyond the expected offset.

        That offset is requested once more, so that no record is passed over. If the answer is the same, it is a gap in
        the log (transactions of a user's own producers make some).
        """
        if not buffer.first_checked:
            buffer.first_checked = True
            if offset > (buffer.proof if buffer.proving else buffer.reached):
                self._request_again(key, buffer, f"offset {offset}")
        return buffer.doubted

    def _request_again(self, key: tuple[str, int], buffer: PartitionBuffer[Any], found: str) -> None:
        """Request the expected offset once more, and drop all messages until then."""
        buffer.doubted = True
        text = f"{found} in place of offset {buffer.reached}"
        log.warning("feed_leapt", topic=key[0], partition=key[1], found=text, todo="asking once more")
        self._changes.append(lambda: self._assign_again(key, buffer) if self._buffers.get(key) is buffer else None)

    def _put(self, key: tuple[str, int], records: Sequence[Message]) -> None:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.fault is not None or not records:
            return
        if self._skips(key, buffer, offset_of(records[0])):
            return
        if buffer.proving and not (records := buffer.proved(records)):
            return
        if offset_of(records[0]) < buffer.reached:  # no record is handed out twice
            records = [record for record in records if offset_of(record) >= buffer.reached]
            if not records:
                return
        if buffer.proves:
            buffer.proof, buffer.epoch = offset_of(records[-1]), epoch_of(records[-1])
        if buffer.put(records) > self._share and key not in self._paused:
            self._paused.add(key)
            self._consumer.pause([TopicPartition(*key)])

    def _note(self, key: tuple[str, int], message: Message) -> None:
        """Note a message that is no record: the end of a partition, or an error."""
        buffer, error = self._buffers.get(key), message.error()
        if error is None:
            return
        is_end = error.code() == KafkaError._PARTITION_EOF
        if self._nudge is not None and not is_end:
            self._nudge.note_error(self._consumer, *key)
        if buffer is None:
            return
        if is_end:
            # An end before the record that is read again proves nothing: a new leader may not know the log's end yet.
            early = buffer.proving and offset_of(message) <= buffer.proof
            if early or not self._skips(key, buffer, offset_of(message)):
                buffer.at_end(offset_of(message))
            return
        problem = error_of(error)
        if isinstance(problem, OffsetOutOfRange):
            if not buffer.first_checked:
                # The error may be of the spare assignment at offset 0, which was trimmed: librdkafka reports it late.
                buffer.first_checked = True
                self._request_again(key, buffer, error.str())
            elif not buffer.doubted:
                buffer.fail(problem)
        else:
            buffer.trouble = problem
            if self._throttle.due():
                log.warning("feed_error", topic=key[0], partition=key[1], error=error.str(), todo="trying again")

    @property
    def _share(self) -> float:
        return self._held_bytes_max / len(self._buffers)

    def _resume(self) -> None:
        for key in list(self._paused):
            if self._buffers[key].held_bytes < self._share / 2:
                self._paused.remove(key)
                self._consumer.resume([TopicPartition(*key)])
                self._nudge_due = True

    def close(self) -> None:
        """Stop reading. The buffers keep what they have."""
        self._open = False
        self._thread.join()
        self._consumer.close()

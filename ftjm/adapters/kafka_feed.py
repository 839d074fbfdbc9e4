"""One consumer for all that a process reads of its partitions: commands where it owns, events where it follows."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ftjm import logs
from ftjm.adapters.kafka import CONSUMER, LOST, Sight, arrived, epoch_of, offset_of
from ftjm.adapters.kafka_channel import Channel

log = logs.get(__name__)

Kind = Literal["commands", "events"]
TAKE_MAX = 2_000
POLL_SECONDS = 0.02
"""How long a change of what is read may wait."""
LOOK_SECONDS = 0.5
ASK_SECONDS = 5.0
"""Between tries to read what Kafka has said an error of, and nothing since."""
FAULT_SECONDS = 0.5
"""Before reading is tried again."""
HELD_BYTES_MAX = 64 * 1024 * 1024
"""What waits in all channels, with what a message takes beside its value, in equal shares; beyond its share a
partition is paused.

A partition that was paused gets nothing for up to a second after it is resumed, since librdkafka throws away what it
had fetched, and has to notice: half of what is held should keep a fold busy for longer than that.
"""


class Feed:
    """Reads partitions by position, on one thread, into channels.

    What is read changes on that thread alone, so that no record of an earlier assignment can enter the channel
    of a later one.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        cluster: str,
        *,
        held_bytes_max: int = HELD_BYTES_MAX,
        at_hand: Iterable[tuple[Kind, int]] = (),
    ) -> None:
        """`at_hand`: two partitions (or the only one) of what may have to be read at any moment, although nothing of it
        is now."""
        self._cluster = cluster
        self._at_hand = [(f"{cluster}.{kind}", partition) for kind, partition in at_hand]
        self._held_bytes_max = held_bytes_max
        self._settings = settings
        self._connect()
        self._orders: deque[Callable[[], None]] = deque()
        self._channels: dict[tuple[str, int], Channel] = {}
        self._paused: set[tuple[str, int]] = set()
        self._spare: set[tuple[str, int]] = set()
        self._looked_at = 0.0
        self._seldom = logs.Seldom()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        sight = Sight("feed")
        self._consumer = Consumer(
            {
                **CONSUMER,
                "group.id": "unused",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                **sight.settings,
                **self._settings,
            }
        )
        self._sight = sight

    def _connect_anew(self) -> None:
        """Go on with all that is read, where it is."""
        self._consumer.close()
        self._connect()
        self._paused.clear()
        self._spare.clear()
        for key, channel in self._channels.items():
            channel.begun = not channel.proves
            self._assign(key, channel)

    def _assign(self, key: tuple[str, int], channel: Channel) -> None:
        """librdkafka looks itself whether the log has lost what was read where the leader changes (KIP-320), and only
        there: not where somebody begins to read behind what another has read."""
        channel.proving = channel.epoch >= 0
        self._consumer.incremental_assign([TopicPartition(*key, channel.proof if channel.proving else channel.reached)])

    def follow(self, kind: Kind, partition: int, start: int, wake: Callable[[], None], epoch: int = -1) -> Channel:
        """Read from `start` on, behind a record of this leader's epoch (-1 where that is not known); replaces what was
        read of this partition before."""
        channel = Channel(start, wake, proves=kind == "commands", epoch=epoch)
        self._orders.append(lambda: self._follow((f"{self._cluster}.{kind}", partition), channel))
        return channel

    def drop(self, kind: Kind, partition: int) -> None:
        """Read this partition no more."""
        self._orders.append(lambda: self._drop((f"{self._cluster}.{kind}", partition)))

    def _keep_at_hand(self) -> None:
        """Keep a topic known to the library, though nothing of it is read.

        A topic of which nothing is assigned is forgotten, and whoever reads it first waits for up to half a second: a
        new owner for its commands. Two partitions are assigned and paused, unless they are read: one, in the moment in
        which it begins to be read, is not. At a number: a broker that is asked for an end, and answers late, moves
        whoever reads the partition by then over all that lies before it.
        """
        for key in self._at_hand:
            if key not in self._channels and key not in self._spare:
                self._consumer.incremental_assign([TopicPartition(*key, 0)])
                self._consumer.pause([TopicPartition(*key)])
                self._spare.add(key)

    def _follow(self, key: tuple[str, int], channel: Channel) -> None:
        self._drop(key)
        if key in self._spare:
            self._spare.remove(key)
            self._release(key, paused=True)
        self._channels[key] = channel
        self._assign(key, channel)

    def _drop(self, key: tuple[str, int]) -> None:
        if self._channels.pop(key, None) is not None:
            self._release(key, paused=key in self._paused)
            self._paused.discard(key)

    def _release(self, key: tuple[str, int], *, paused: bool) -> None:
        if paused:
            # It is a property of the partition, and outlives its assignment: read again, it would stay silent for ever.
            self._consumer.resume([TopicPartition(*key)])
        self._consumer.incremental_unassign([TopicPartition(*key)])

    def _run(self) -> None:
        while self._open:
            try:
                self._turn()
            except Exception as error:  # a thread that died would leave all partitions waiting for ever
                log.exception("feed_failed", todo="report it; what is read is opened anew")
                fault = KafkaError(KafkaError._FAIL, f"reading has failed: {error}")
                for channel in self._channels.values():
                    channel.fail(fault)
                time.sleep(FAULT_SECONDS)

    def _turn(self) -> None:
        if self._sight.lost:
            self._connect_anew()
        while self._orders:
            self._orders.popleft()()
        self._resume()
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._look()
            self._keep_at_hand()
        self._sort(arrived(self._consumer, POLL_SECONDS, TAKE_MAX))

    def _look(self) -> None:
        """How far the logs go, by what the brokers said with the last records: no question is asked."""
        for key, channel in self._channels.items():
            if channel.trouble is not None and time.monotonic() - channel.asked_at > ASK_SECONDS:
                channel.begun = not channel.proves
                self._ask(key, channel)
            with suppress(KafkaException):
                _, end = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
                channel.end = max(channel.end, channel.reached, end)

    def _ask(self, key: tuple[str, int], channel: Channel) -> None:
        """Read it anew from where it is: Kafka then says the same again, or that there is nothing new, which it says of
        the same end only once."""
        channel.asked_at = time.monotonic()
        channel.doubted = False
        self._release(key, paused=key in self._paused)
        self._paused.discard(key)
        self._assign(key, channel)

    def _sort(self, messages: Sequence[Message]) -> None:
        """Hand out what came together: one lock and one wake-up a partition, not a record."""
        arrived: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            key = (message.topic() or "", message.partition() or 0)
            if message.error() is None:
                arrived.setdefault(key, []).append(message)
            else:
                self._put(key, arrived.pop(key, []))
                self._notice(key, message)
        for key, records in arrived.items():
            self._put(key, records)

    def _leapt(self, key: tuple[str, int], channel: Channel, offset: int) -> bool:
        """Whether what comes first lies beyond what should. It is asked for again, and then taken for a gap in the log
        (a user's own transactions make some): what is passed over here nobody would ever miss."""
        if not channel.begun:
            channel.begun = True
            if offset > (channel.proof if channel.proving else channel.reached):
                self._doubt(key, channel, f"offset {offset}")
        return channel.doubted

    def _doubt(self, key: tuple[str, int], channel: Channel, found: str) -> None:
        """Ask once more for what should come first, and leave out all that comes before."""
        channel.doubted = True
        text = f"{found} in place of offset {channel.reached}"
        log.warning("feed_leapt", topic=key[0], partition=key[1], found=text, todo="asking once more")
        self._orders.append(lambda: self._ask(key, channel) if self._channels.get(key) is channel else None)

    def _put(self, key: tuple[str, int], records: Sequence[Message]) -> None:
        channel = self._channels.get(key)
        if channel is None or channel.fault is not None or not records:
            return
        if self._leapt(key, channel, offset_of(records[0])):
            return
        if channel.proving and not (records := self._proved(channel, records)):
            return
        if offset_of(records[0]) < channel.reached:  # what came before is never handed out again
            records = [record for record in records if offset_of(record) >= channel.reached]
            if not records:
                return
        if channel.proves:
            channel.proof, channel.epoch = offset_of(records[-1]), epoch_of(records[-1])
        if channel.put(records) > self._share and key not in self._paused:
            self._paused.add(key)
            self._consumer.pause([TopicPartition(*key)])

    @staticmethod
    def _proved(channel: Channel, records: Sequence[Message]) -> Sequence[Message]:
        """Those behind the one that proves that the log has what was read."""
        first = records[0]
        channel.proving = False
        if (offset_of(first), epoch_of(first)) != (channel.proof, channel.epoch):
            found = f"its record at offset {offset_of(first)} is of epoch {epoch_of(first)}, and not of {channel.epoch}"
            channel.fail(KafkaError(KafkaError._LOG_TRUNCATION, found))
            return ()
        channel.trouble = None
        return records[1:]

    def _notice(self, key: tuple[str, int], message: Message) -> None:
        """Something that is no record: the end of a partition, or an error."""
        channel, error = self._channels.get(key), message.error()
        if channel is None or error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            # Before what would prove it: a leader who was just elected may not know yet how far the log goes.
            early = channel.proving and offset_of(message) <= channel.proof
            if early or not self._leapt(key, channel, offset_of(message)):
                channel.at_end(offset_of(message))
        elif error.code() in LOST:
            if not channel.begun:
                # Perhaps of what was kept at hand, at an offset that was trimmed: librdkafka tells of it late, too.
                channel.begun = True
                self._doubt(key, channel, error.str())
            elif not channel.doubted:
                channel.fail(error)
        else:
            channel.trouble = error
            if self._seldom.due():
                log.warning("feed_error", topic=key[0], partition=key[1], error=error.str(), todo="trying again")

    @property
    def _share(self) -> float:
        return self._held_bytes_max / len(self._channels)

    def _resume(self) -> None:
        for key in list(self._paused):
            if self._channels[key].held_bytes < self._share / 2:
                self._paused.remove(key)
                self._consumer.resume([TopicPartition(*key)])

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._consumer.close()

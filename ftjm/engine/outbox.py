"""The outbox: sends what follows from committed events, and knows how far it was delivered.

A transaction writes `events[p]` only. What must reach workers, clients and other partitions becomes a row of the state,
in the same batch as the event that causes it, and is sent after the commit by a plain producer:

    evolve(event) ─► row: message n ─► commit ─► send ─► delivered: sent = n ─► next batch: outbox_sent = n

Messages of a partition are numbered from 1. `sent` moves only over consecutive numbers that are delivered, and is
written into the log with the next batch, which drops the rows. A new owner sends everything behind the `outbox_sent`
that it finds there, so each message is sent at least once. Receivers make repetition harmless: messages to one
destination carry consecutive numbers of their own, and a receiver takes only the next one.

The log may refuse a message (a topic's access rights). It is sent again by `resend_refused`.

A message that can never be sent (it is too large, its lane does not exist, it cannot even be made) must not stop the
partition under owner after owner. It is skipped: it counts as delivered, and `take_skipped` tells about it. Receivers
already cope with a message that is missing: a session that misses one ends and its attempts go to other workers; a
partition that misses a command is told by the next one that nothing more comes before it.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from itertools import islice

from ftjm.core.records import messages as m
from ftjm.core.state.model import GUARD_LOSSES, LIVE, JobState, job_key
from ftjm.core.state.outbox import (
    CloseMessage,
    ForwardMessage,
    OutboxMessage,
    OutcomeMessage,
    PartitionMessage,
    ReplyMessage,
    RunMessage,
    StopMessage,
    TellMessage,
)
from ftjm.core.state.view import StateView
from ftjm.engine.ports import Codec, Parcel, Send, StoreFailed, Unsendable
from ftjm.engine.told_commands import told_command

GROUP_MAX = 128
"""Most messages whose parcels are made before the first of them is sent."""
STATE_NAMES = {0: "", **{state.value: state.name for state in JobState}}
"""Looked up, since reading a member's name takes as long as the rest of an answer. 0 stands for no job."""
LONG_PAST = 1
"""The deadline of a dispatch whose job was asked to stop before the dispatch was sent: no worker starts it."""


class Outbox:
    """Sends messages in order, and knows up to which number all of them were delivered.

    One for each leadership: a delivery that an earlier leadership waits for must not count for this one.
    """

    def __init__(self, partition: int, codec: Codec, send: Send, sent: int) -> None:
        """`sent` is the `outbox_sent` of the partition's position: everything up to it has been delivered."""
        self.partition = partition
        self._codec = codec
        self._send = send
        self._lock = threading.Lock()
        self._ahead: set[int] = set()
        """Delivered messages behind one that is not delivered yet."""
        self._refused: set[int] = set()
        self._copies: dict[int, int] = {}
        """How often each message was sent. Only the report on the newest copy counts: the receiver may have refused
        the earlier ones."""
        self._under_way: dict[int, set[int]] = defaultdict(set)
        """By partition, the numbers of commands that were sent to it and are not known to be delivered."""
        self._sent = sent
        self._skipped: list[str] = []

    @property
    def refused(self) -> bool:
        """Whether the log has refused messages that were not sent again yet."""
        return bool(self._refused)

    @property
    def sent(self) -> int:
        """Every message up to this number has been delivered."""
        return self._sent

    def settled(self, recorded: int) -> bool:
        """Whether all messages that were sent are delivered, and the log says that by `recorded`."""
        return not self._refused and not self._copies and self._sent == recorded

    def send(self, state: StateView, messages: Iterable[tuple[int, OutboxMessage]]) -> None:
        """Send committed messages. `state` is the partition's, as of their commit or later."""
        waiting = iter(messages)
        while group := list(islice(waiting, GROUP_MAX)):
            # Parcels are made before the first of them is sent: those that are sent right after each other share
            # requests. That of a command says what became of those before it, so it is made when these are sent.
            made = [None if isinstance(one, PartitionMessage) else self._made(state, one) for _, one in group]
            for (number, message), parcel in zip(group, made, strict=True):
                self._send_one(state, number, message, parcel)

    def _send_one(
        self, state: StateView, number: int, message: OutboxMessage, parcel: Parcel | Unsendable | None
    ) -> None:
        with self._lock:
            copy = self._copies[number] = self._copies.get(number, 0) + 1
            self._ahead.discard(number)
            self._refused.discard(number)
        delivered = partial(self._delivered, number, message, copy)
        parcel = parcel or self._made(state, message)
        try:
            if isinstance(parcel, Unsendable):
                raise parcel
            self._send(parcel, delivered)
        except Unsendable as error:
            with self._lock:
                self._skipped.append(f"message {number}, {_described(message)}, can never be sent: {error}")
            delivered(True)

    def take_skipped(self) -> list[str]:
        """Texts about the messages that were skipped since the last call."""
        with self._lock:
            skipped, self._skipped = self._skipped, []
        return skipped

    def resend_refused(self, state: StateView) -> None:
        """Send refused messages again.

        A partition refuses a command that arrives before an earlier one. So after a refused command, every later
        command for the same partition is sent again, too. Messages to workers need no such repeat: a session that
        misses a message ends, and its attempts are declined.
        """
        with self._lock:
            refused = set(self._refused)
            self._refused.clear()
        again, waiting = [], set[int]()
        for number, message in state.outbox(min(refused, default=1) - 1) if refused else ():
            to = message.partition if isinstance(message, PartitionMessage) else None
            if number in refused or to in waiting:
                again.append((number, message))
                if to is not None:
                    waiting.add(to)
        self.send(state, again)

    def _delivered(self, number: int, message: OutboxMessage, copy: int, taken: bool) -> None:
        with self._lock:
            if copy != self._copies.get(number):
                return
            if not taken:
                self._refused.add(number)
                return
            if isinstance(message, PartitionMessage):
                self._under_way[message.partition].discard(message.number)
            if number > self._sent:
                self._ahead.add(number)
            while self._sent + 1 in self._ahead:
                self._sent += 1
                self._ahead.remove(self._sent)
                del self._copies[self._sent]

    def _made(self, state: StateView, message: OutboxMessage) -> Parcel | Unsendable:
        """The parcel of a message; an error if this program fails on it, as every later owner's would."""
        try:
            return self._parcel(state, message)
        except StoreFailed:
            raise  # The disk is at fault, not the message.
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not stop the partition)
            return Unsendable(f"{type(error).__name__}: {error}")

    def _parcel(self, state: StateView, message: OutboxMessage) -> Parcel:
        match message:
            case ForwardMessage():
                return self._to_partition(message, message.body, message.reply_to)
            case TellMessage():
                return self._to_partition(message, self._codec.encode(told_command(state, message, self.partition)))
            case ReplyMessage() | OutcomeMessage():
                return self._answer(message)
            case _:
                value = self._codec.encode(self._dispatch(state, message))
                return Parcel("dispatch", message.lane, message.session, value)

    def _to_partition(self, message: PartitionMessage, body: bytes, reply_to: str = "") -> Parcel:
        with self._lock:
            self._under_way[message.partition].add(message.number)
            confirmed = min(self._under_way[message.partition]) - 1
        return Parcel(
            "commands",
            message.partition,
            "",
            body,
            reply_to=reply_to,
            source=self.partition,
            number=message.number,
            confirmed=confirmed,
        )

    def _dispatch(self, state: StateView, message: RunMessage | StopMessage | CloseMessage) -> m.Dispatch:
        if isinstance(message, CloseMessage):
            return m.SessionClosed(session=message.session, partition=self.partition, number=message.number)
        key = job_key(message.queue, message.job_id)
        job = state.job(key)
        if job is None or job.attempt != message.attempt or job.state not in LIVE:
            return m.Skipped(session=message.session, partition=self.partition, number=message.number)
        if isinstance(message, StopMessage):
            return m.StopAttempt(
                session=message.session,
                partition=self.partition,
                number=message.number,
                queue=message.queue,
                job_id=message.job_id,
                attempt=message.attempt,
                reason=message.reason,
                grace_ms=message.grace_ms,
            )
        # Its fields one by one: this is the message that is sent most, and a dict of names takes as long as the rest.
        return m.RunAttempt(
            session=message.session,
            partition=self.partition,
            number=message.number,
            queue=message.queue,
            job_id=message.job_id,
            attempt=message.attempt,
            shard_key=job.shard_key,
            run=job.run,
            deadline_at=LONG_PAST if job.stopping else job.deadline_at,
            spec=state.spec(key),
            checkpoint=state.checkpoint(key).data if job.checkpoint_at else b"",
            losses=max(1, job.losses) if job.reason in GUARD_LOSSES else 0,
        )

    def _answer(self, message: ReplyMessage | OutcomeMessage) -> Parcel:
        lane, session, correlation = message.reply_to.split("/", 2)
        answer: m.CommandReply | m.JobOutcome
        if isinstance(message, ReplyMessage):
            answer = m.CommandReply(
                session=session,
                correlation=correlation,
                queue=message.queue,
                job_id=message.job_id,
                run=message.run,
                state=STATE_NAMES[message.state],
                accepted=not message.code,
                code=message.code,
                text=message.text,
            )
        else:
            answer = m.JobOutcome(
                session=session,
                correlation=correlation,
                queue=message.queue,
                job_id=message.job_id,
                run=message.run,
                state=STATE_NAMES[message.state],
                reason=message.reason,
                exit_code=message.exit_code,
                error=message.error,
                result=message.result,
            )
        return Parcel("replies", int(lane), session, self._codec.encode(answer))


def _described(message: OutboxMessage) -> str:
    """The message for an operator: its kind, where it goes, and its job."""
    match message:
        case ForwardMessage():
            to, about = f"partition {message.partition}", ""
        case TellMessage():
            to, about = f"partition {message.partition}", f"{message.told} {message.resource}".rstrip()
        case ReplyMessage() | OutcomeMessage():
            to, about = message.reply_to, job_key(message.queue, message.job_id)
        case CloseMessage():
            to, about = f"session {message.session}, lane {message.lane}", ""
        case _:
            to, about = f"session {message.session}, lane {message.lane}", job_key(message.queue, message.job_id)
    return f"{type(message).__name__} to {to}" + (f" about {about}" if about else "")

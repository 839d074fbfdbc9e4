"""What leaves a partition because of its committed events, and how far that has come."""

import threading
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

from ftjm.core import messages as m
from ftjm.core.model import LIVE, JobState, Message, MessageKind, StopReason, job_key
from ftjm.core.state import State
from ftjm.engine.ports import Codec, Parcel, Send


class Outbox:
    """Sends messages in order, and knows up to which number all of them were delivered.

    One for each leadership: what an earlier one still has under way must not count for this one. Sending again
    after a takeover is harmless, since receivers take no number of a partition twice.
    """

    def __init__(self, partition: int, codec: Codec, send: Send, sent: int) -> None:
        self.partition = partition
        self._codec = codec
        self._send = send
        self._lock = threading.Lock()
        self._ahead: set[int] = set()
        self._refused: set[int] = set()
        self._copies: dict[int, int] = {}
        """How often each was sent. Of several copies the newest counts: a partition may have refused the others."""
        self._under_way: dict[str, set[int]] = defaultdict(set)
        """By partition, numbers of commands that were sent to it, and are not known to be delivered."""
        self._sent = sent

    @property
    def refused(self) -> bool:
        """Whether the log has refused some of them."""
        return bool(self._refused)

    @property
    def sent(self) -> int:
        """Every message up to this number has been delivered."""
        return self._sent

    def ship(self, state: State, messages: Iterable[tuple[int, Message]]) -> None:
        """Send committed messages; `state` is the partition's, as of their commit or later."""
        for number, message in messages:
            with self._lock:
                copy = self._copies[number] = self._copies.get(number, 0) + 1
                self._ahead.discard(number)
                self._refused.discard(number)
            self._send(self._parcel(state, message), partial(self._told, number, message, copy))

    def ship_refused(self, state: State) -> None:
        """Send again what was refused; and behind it all that went to the same partition, which took nothing that
        overtook another. (A worker's session declines that.)"""
        with self._lock:
            refused = set(self._refused)
            self._refused.clear()
        again, waiting = [], set[str]()
        for number, message in state.outbox(min(refused, default=1) - 1) if refused else ():
            if number in refused or (message.kind is MessageKind.FORWARD and message.destination in waiting):
                again.append((number, message))
                if message.kind is MessageKind.FORWARD:
                    waiting.add(message.destination)
        self.ship(state, again)

    def _told(self, number: int, message: Message, copy: int, taken: bool) -> None:
        with self._lock:
            if copy != self._copies.get(number):
                return
            if not taken:
                self._refused.add(number)
                return
            if message.kind is MessageKind.FORWARD:
                self._under_way[message.destination].discard(message.number)
            if number > self._sent:
                self._ahead.add(number)
            while self._sent + 1 in self._ahead:
                self._sent += 1
                self._ahead.remove(self._sent)
                del self._copies[self._sent]

    def _parcel(self, state: State, message: Message) -> Parcel:
        if message.kind is MessageKind.FORWARD:
            with self._lock:
                self._under_way[message.destination].add(message.number)
                confirmed = min(self._under_way[message.destination]) - 1
            return Parcel(
                "commands",
                int(message.destination),
                "",
                message.body,
                reply_to=message.reply,
                source=self.partition,
                number=message.number,
                confirmed=confirmed,
            )
        if message.kind is MessageKind.REPLY or message.kind is MessageKind.OUTCOME:
            return self._answer(message)
        value = self._codec.encode(self._dispatch(state, message))
        return Parcel("dispatch", message.lane, message.destination, value)

    def _dispatch(self, state: State, message: Message) -> m.Dispatch:
        to: dict[str, Any] = {"session": message.destination, "partition": self.partition, "number": message.number}
        if message.kind is MessageKind.CLOSE:
            return m.SessionClosed(**to)
        key = job_key(message.queue, message.job_id)
        job = state.job(key)
        if job is None or job.attempt != message.attempt or job.state not in LIVE:
            return m.Skipped(**to)
        about: dict[str, Any] = {"queue": message.queue, "job_id": message.job_id, "attempt": message.attempt}
        if message.kind is MessageKind.STOP:
            return m.StopAttempt(**to, **about, reason=StopReason(message.code), grace_ms=message.grace_ms)
        return m.RunAttempt(
            **to,
            **about,
            shard_key=job.shard_key,
            run=job.run,
            deadline_at=job.deadline_at,
            spec=state.spec(key),
            checkpoint=state.checkpoint(key).data if job.checkpoint_at else b"",
        )

    def _answer(self, message: Message) -> Parcel:
        lane, session, correlation = message.destination.split("/", 2)
        about: dict[str, Any] = {
            "session": session,
            "correlation": correlation,
            "queue": message.queue,
            "job_id": message.job_id,
            "run": message.run,
            "state": JobState(message.state).name if message.state else "",
        }
        answer: m.CommandReply | m.JobOutcome
        if message.kind is MessageKind.REPLY:
            answer = m.CommandReply(**about, accepted=not message.code, code=message.code, text=message.text)
        else:
            answer = m.JobOutcome(
                **about, reason=message.code, exit_code=message.attempt, error=message.text, result=message.body
            )
        return Parcel("replies", int(lane), session, self._codec.encode(answer))

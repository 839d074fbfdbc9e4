"""The answers to the commands of one session: on a lane of the topic `replies`, which other sessions share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.records import Record
from ftjm.client.submissions import names_explicit, to_send_instead
from ftjm.client.ticket import Ticket
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.records.messages import CommandReply, JobOutcome


class Answers:
    """Receives answers, from the time on when it was made, and puts them into their tickets."""

    def __init__(self, settings: Mapping[str, object], topic: str, lanes: int, session: str) -> None:
        """Connect.

        Args:
            settings: the settings of the connection.
            topic: the topic `replies` of the cluster.
            lanes: how many partitions it has.
            session: the session's name, which selects one of them.

        Raises:
            LogError: Kafka does not answer.
        """
        self._session = session
        self._lane = partition_for(session, lanes)
        self._reader = LaneReader(settings, topic, [self._lane])
        self._waiting: dict[str, Ticket] = {}
        self._refused: deque[Ticket] = deque()

    def expect(self, ticket: Ticket) -> str:
        """Take answers for the ticket from now on. Return where the command says that they go."""
        self._waiting[ticket.correlation] = ticket
        return f"{self._lane}/{self._session}/{ticket.correlation}"

    def forget(self, ticket: Ticket) -> None:
        """Take no more answers for the ticket."""
        self._waiting.pop(ticket.correlation, None)

    @property
    def has_refused(self) -> bool:
        """Whether `take_refused` has something to return."""
        return bool(self._refused)

    @property
    def has_undecided(self) -> bool:
        """Whether a command is not decided yet that might have to be sent again in another form."""
        waiting = list(self._waiting.values())
        return bool(self._refused) or any(one.reply is None and names_explicit(one.command) for one in waiting)

    def take_refused(self) -> list[Ticket]:
        """Tickets whose command was refused since the cluster does not know it yet, and is another one now. Each is
        returned once. Each needs another correlation, so that a late answer to the former command is not taken for one
        to the new. May be called by another thread than `receive`."""
        return [self._refused.popleft() for _ in range(len(self._refused))]

    def receive(self, timeout_seconds: float) -> bool:
        """Receive the answers that have arrived. Return whether one of them was for this session."""
        ours = [self._take(record) for record in self._reader.read(timeout_seconds)]
        return any(ours)

    def _take(self, record: Record) -> bool:
        answer = self._answer(record)
        ticket = self._waiting.get(answer.correlation) if answer else None
        if answer is None or ticket is None:
            return False
        if isinstance(answer, CommandReply):
            if (instead := to_send_instead(ticket.command, answer)) is not None:
                ticket.command = instead
                self.forget(ticket)
                self._refused.append(ticket)
                return True
            ticket.reply = answer
        else:
            ticket.outcome = answer
        if ticket.refused or (ticket.reply and (ticket.outcome or not ticket.awaits)):
            self.forget(ticket)
        if ticket.changed:
            ticket.changed(ticket)
        return True

    def _answer(self, record: Record) -> CommandReply | JobOutcome | None:
        # The key distinguishes the answers for other sessions without decoding.
        if record.key != self._session.encode():
            return None
        try:
            answer = codec.decode(record.value)
        except UndecodableError:
            return None
        return answer if isinstance(answer, CommandReply | JobOutcome) else None

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()

"""The chain of batches of one partition: each follows the one before it, and answers the commands that it consumed.

A `BatchClosed` record ends each batch. It holds the number of its events, the owner and its epoch, the next command to
read, and the number of the last message that was sent. None of these may go back, with one exception: if `commands` has
lost its tail by the election of another leader, the next command may go back to the first of the new records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ftjm.core.records import events as e
from ftjm.lab.checker.command_answers import check_answer, check_events_of_command
from ftjm.lab.checker.evidence import CommandsByOffset
from ftjm.lab.checker.verdict import Violation, ViolationKind

AHEAD_MAX_MS = 5_000
"""How far the clock of an owner may be ahead of the brokers' clock. Beyond it, an owner must not decide."""
SHOWN_MAX = 5
"""Number of offsets that one violation names."""

NOTHING = e.BatchClosed(
    batch_no=0, now=0, next_command=0, owner_epoch=0, owner="", outbox_sent=0, events=0, state_version=0, state_hash=b""
)  # fmt: skip


class BatchChain:
    """Judges all records of a partition in order. Its memory is that of one batch."""

    def __init__(self, commands: CommandsByOffset | None = None) -> None:
        """`commands` holds all commands of the partition; `None` where they are not known."""
        self.before = NOTHING
        self.open_events = 0
        self._commands = commands
        self._events_by_command: dict[str, list[e.Event]] = {}
        self._times: set[int] = set()

    def take(self, event: e.Event | e.BatchClosed, time_ms: int) -> Iterator[Violation]:
        """Judge a record that the log took at `time_ms`, by the brokers' clock."""
        if isinstance(event, e.Event):
            self.open_events += 1
            self._times.add(event.at)
            if event.cause is e.Cause.COMMAND:
                self._events_by_command.setdefault(event.cause_ref, []).append(event)
            return
        yield from self._check_chain(event, self.before)
        if event.now - time_ms > AHEAD_MAX_MS:
            text = f"expected batch {event.batch_no}, which the log took at {time_ms}, to be at most {AHEAD_MAX_MS} ms"
            yield Violation(ViolationKind.TIMER, f"{text} ahead of that, but found it of {event.now}")
        yield from self._check_answers(self._first_command(event), event.next_command)
        self.before, self.open_events = event, 0
        self._events_by_command, self._times = {}, set()

    def _check_chain(self, closed: e.BatchClosed, before: e.BatchClosed) -> Iterator[Violation]:
        if closed.batch_no != before.batch_no + 1:
            yield Violation(ViolationKind.CHAIN, f"expected batch {before.batch_no + 1}, but found {closed.batch_no}")
        if closed.events != self.open_events:
            found = f"expected {closed.events} events in batch {closed.batch_no}, but found {self.open_events}"
            yield Violation(ViolationKind.CHAIN, found)
        elected = closed.command_epoch > before.command_epoch >= 0
        for field in ("next_command", "command_epoch", "owner_epoch", "outbox_sent", "now"):
            was, now = getattr(before, field), getattr(closed, field)
            if now < was and not (field == "next_command" and elected):
                text = f"expected {field} of batch {closed.batch_no} never to go back from {was}, but found {now}"
                yield Violation(ViolationKind.CHAIN, text)
        if closed.owner_epoch == before.owner_epoch and closed.owner != before.owner:
            text = f"expected {before.owner} as the owner of epoch {closed.owner_epoch}, but found {closed.owner}"
            yield Violation(ViolationKind.CHAIN, text)
        if unexpected := self._times - {closed.now}:
            text = f"expected events of the time {closed.now} in batch {closed.batch_no}, but found {min(unexpected)}"
            yield Violation(ViolationKind.CHAIN, text)

    def _first_command(self, closed: e.BatchClosed) -> int:
        """Return the offset of the first command that the batch consumed.

        Where `commands` has lost its tail, new commands lie at offsets that an earlier batch has consumed already.
        """
        begin = self.before.next_command
        if closed.command_epoch > self.before.command_epoch >= 0:
            return min({begin, *(int(ref) for ref in self._events_by_command if ref.isdecimal())})
        return begin

    def _check_answers(self, start: int, end: int) -> Iterator[Violation]:
        wanted = {str(offset) for offset in range(start, end) if self._commands is None or offset in self._commands}
        if unanswered := wanted - self._events_by_command.keys():
            text = f"expected an event for each command consumed, but found none for {_offsets(unanswered)}"
            yield Violation(ViolationKind.LOST, text)
        if unexpected := self._events_by_command.keys() - wanted:
            text = (
                f"expected answers to the commands {range(start, end)} only, but found some to {_offsets(unexpected)}"
            )
            yield Violation(ViolationKind.ANSWER, text)
        for ref, events in self._events_by_command.items():
            yield from check_events_of_command(ref, events)
            if self._commands is not None and ref in wanted:
                first = events[isinstance(events[0], e.ForwardReceived) :]
                yield from check_answer(ref, first[0], self._commands[int(ref)]) if first else ()

    def end(self) -> Iterator[Violation]:
        """Judge the end of the log: no batch may be open, and no command may wait."""
        if self.open_events:
            yield Violation(ViolationKind.CHAIN, "expected every event in a closed batch, but the last are not")
        waiting = [offset for offset in self._commands or () if offset >= self.before.next_command]
        if waiting:
            text = f"expected an answer to every command, but found none to {_offsets(map(str, waiting))}"
            yield Violation(ViolationKind.LOST, text)


def _offsets(refs: Iterable[str]) -> str:
    shown = sorted(refs, key=lambda ref: (len(ref), ref))
    more = f" and {len(shown) - SHOWN_MAX} more" if len(shown) > SHOWN_MAX else ""
    return ", ".join(shown[:SHOWN_MAX]) + more

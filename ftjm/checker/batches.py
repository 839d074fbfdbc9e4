"""The batches of one partition: each follows the one before it, and answers the commands that it consumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ftjm.checker.answers import answered, fits
from ftjm.checker.evidence import Asked
from ftjm.checker.report import Found, Kind
from ftjm.core import events as e

AHEAD_MAX_MS = 5_000
"""By how much an owner may be ahead of the brokers: beyond it, it must not decide."""
SHOWN_MAX = 5
"""How many offsets one violation names."""

NOTHING = e.BatchClosed(
    batch_no=0, now=0, next_command=0, owner_epoch=0, owner="", outbox_sent=0, events=0, state_version=0, state_hash=b""
)  # fmt: skip


class Chain:
    """Fed with all records of a partition; memory is that of one batch."""

    def __init__(self, commands: Asked | None = None) -> None:
        self.before = NOTHING
        self.open_events = 0
        self._commands = commands
        self._answered: dict[str, list[e.Event]] = {}
        self._times: set[int] = set()

    def take(self, event: e.Event | e.BatchClosed, time_ms: int) -> Iterator[Found]:
        """Judge a record that the log took at `time_ms`."""
        if isinstance(event, e.Event):
            self.open_events += 1
            self._times.add(event.at)
            if event.cause is e.Cause.COMMAND:
                self._answered.setdefault(event.cause_ref, []).append(event)
            return
        yield from self._follows(event, self.before)
        if event.now - time_ms > AHEAD_MAX_MS:
            text = f"expected batch {event.batch_no}, which the log took at {time_ms}, to be at most {AHEAD_MAX_MS} ms"
            yield Found(Kind.TIMER, f"{text} ahead of that, but found it of {event.now}")
        yield from self._answers(self._begin(event), event.next_command)
        self.before, self.open_events = event, 0
        self._answered, self._times = {}, set()

    def _follows(self, closed: e.BatchClosed, before: e.BatchClosed) -> Iterator[Found]:
        if closed.batch_no != before.batch_no + 1:
            yield Found(Kind.CHAIN, f"expected batch {before.batch_no + 1}, but found {closed.batch_no}")
        if closed.events != self.open_events:
            found = f"expected {closed.events} events in batch {closed.batch_no}, but found {self.open_events}"
            yield Found(Kind.CHAIN, found)
        elected = closed.command_epoch > before.command_epoch >= 0
        for field in ("next_command", "command_epoch", "owner_epoch", "outbox_sent", "now"):
            was, now = getattr(before, field), getattr(closed, field)
            if now < was and not (field == "next_command" and elected):
                text = f"expected {field} of batch {closed.batch_no} never to go back from {was}, but found {now}"
                yield Found(Kind.CHAIN, text)
        if closed.owner_epoch == before.owner_epoch and closed.owner != before.owner:
            text = f"expected {before.owner} as the owner of epoch {closed.owner_epoch}, but found {closed.owner}"
            yield Found(Kind.CHAIN, text)
        if strange := self._times - {closed.now}:
            text = f"expected events of the time {closed.now} in batch {closed.batch_no}, but found {min(strange)}"
            yield Found(Kind.CHAIN, text)

    def _begin(self, closed: e.BatchClosed) -> int:
        """The first command that it consumed. Where `commands` has lost its tail, that came by a leader who was elected
        since, and lies in the place of one that was consumed before."""
        begin = self.before.next_command
        if closed.command_epoch > self.before.command_epoch >= 0:
            return min({begin, *(int(ref) for ref in self._answered if ref.isdecimal())})
        return begin

    def _answers(self, start: int, end: int) -> Iterator[Found]:
        wanted = {str(offset) for offset in range(start, end) if self._commands is None or offset in self._commands}
        if unanswered := wanted - self._answered.keys():
            text = f"expected an event for each command consumed, but found none for {_offsets(unanswered)}"
            yield Found(Kind.LOST, text)
        if strange := self._answered.keys() - wanted:
            text = f"expected answers to the commands {range(start, end)} only, but found some to {_offsets(strange)}"
            yield Found(Kind.ANSWER, text)
        for ref, events in self._answered.items():
            yield from answered(ref, events)
            if self._commands is not None and ref in wanted:
                first = events[isinstance(events[0], e.ForwardReceived) :]
                yield from fits(ref, first[0], self._commands[int(ref)]) if first else ()

    def end(self) -> Iterator[Found]:
        """The log is over: no batch may be open, and no command may wait."""
        if self.open_events:
            yield Found(Kind.CHAIN, "expected every event in a closed batch, but the last are not")
        waiting = [offset for offset in self._commands or () if offset >= self.before.next_command]
        if waiting:
            text = f"expected an answer to every command, but found none to {_offsets(map(str, waiting))}"
            yield Found(Kind.LOST, text)


def _offsets(refs: Iterable[str]) -> str:
    shown = sorted(refs, key=lambda ref: (len(ref), ref))
    more = f" and {len(shown) - SHOWN_MAX} more" if len(shown) > SHOWN_MAX else ""
    return ", ".join(shown[:SHOWN_MAX]) + more

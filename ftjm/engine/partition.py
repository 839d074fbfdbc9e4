"""One partition: every instance that follows it folds its log, and its one owner extends it.

A partition is passive: it is handed records, the time and what is known of workers, and never waits, sends or reads a
clock. `Partition.fold` applies what another owner has committed. `Partition.work` decides a batch and commits it; what
must be sent then is in the `BatchResult` that it returns. `engine/owner.py` drives a partition that leads.

    standby:  events[p] ─► fold ─► rows in the store
    owner:    commands[p], timers, lapses, offers ─► work ─► one transaction of events[p] ─► rows in the store
                                                                                         └─► BatchResult: messages

Both ways go through the same `evolve`, and each batch ends with a `BatchClosed` record that carries a hash of the
state, so a standby's store is equal to the owner's, byte for byte, or the standby stops (`Diverged`).
"""

import traceback
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ftjm.core.decide.decision import Policy
from ftjm.core.evolve.handlers import evolve
from ftjm.core.placement import Offer
from ftjm.core.records import events as e
from ftjm.core.state.model import STATE_VERSION, LogPosition, Position
from ftjm.core.state.outbox import OutboxMessage
from ftjm.core.state.row_cache import encode
from ftjm.core.state.rows import Changes
from ftjm.core.state.state import State
from ftjm.core.state.tables import POSITION_KEY
from ftjm.engine.batch import DISPATCHES_MAX, REJECTED_TEXT_MAX, Batch, BatchResult, Lapse, Slices
from ftjm.engine.lineage import position_of
from ftjm.engine.ports import Codec, CommandRecord, EventRecord, Store, StoreFailed, Writer


class Diverged(Exception):
    """The log and the state here disagree: one of two stores is wrong, or the log is not the one that was folded."""

    def __init__(self, batch_no: int, offset: int, expected: str, found: str) -> None:
        """`expected` is what the log says behind the batch that ends at `offset`; `found` is what is here."""
        super().__init__(batch_no, offset, expected, found)
        self.batch_no = batch_no
        self.offset = offset
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {self.expected} behind batch {self.batch_no} at offset {self.offset}, but found {self.found}"


class Leadership(msgspec.Struct, frozen=True):
    """The right to decide: a writer that has fenced its predecessor, and a number higher than any owner's before."""

    writer: Writer
    owner: str
    epoch: int


class Sealed(NamedTuple):
    """The end of a batch that is ready to be committed."""

    closed: e.BatchClosed
    record: bytes
    """`closed` as a record."""
    changes: Changes
    """The rows to write after the commit."""


class Partition:
    """State, position and, while it leads, the writer of one partition.

    After `work` or `settle` has raised, the state holds decisions that may not be in the log: call `reopen` first.
    """

    def __init__(self, policy: Policy, store: Store, codec: Codec, log_id: str) -> None:
        """`log_id` names the log of which `store` was proved to be a child (see `engine/lineage.py`)."""
        self.policy = policy
        self.store = store
        self.codec = codec
        self.log_id = log_id
        self.reopen()

    @property
    def position(self) -> Position:
        return self.state.position

    def reopen(self) -> None:
        """Stop leading, and forget what was not committed."""
        self.leadership: Leadership | None = None
        self.state = State(self.store)
        self._unclosed: list[e.Event] = []
        self._slices = Slices()

    # -- following

    def fold(self, record: EventRecord) -> e.BatchClosed | None:
        """Apply a committed record. Decides nothing and sends nothing.

        Returns: the end of the batch, if this record closes one.
        Raises:
            Diverged: if the state is not what the owner's was behind this batch.
            UndecodableError, AssertionError: if the log cannot be read; the partition must stop.
        """
        event = self.codec.decode(record.value)
        if isinstance(event, e.BatchClosed):
            for part in self._unclosed:
                evolve(self.state, part)
            self._unclosed = []
            changes, state_hash = self._seal(event.outbox_sent)
            if event.state_version == STATE_VERSION and state_hash != event.state_hash:
                hashes = (f"a state with the hash {each.hex()}" for each in (event.state_hash, state_hash))
                raise Diverged(event.batch_no, record.offset, *hashes)
            self._apply(event, record.offset, changes)
            return event
        assert isinstance(event, e.Event)
        self._unclosed.append(event)
        return None

    def _seal(self, outbox_sent: int) -> tuple[Changes, bytes]:
        self.state.drop_sent(self.position.outbox_sent, outbox_sent)
        return self.state.seal()

    def _apply(self, closed: e.BatchClosed, offset: int, changes: Changes) -> None:
        """Write rows and position at once: a crash leaves both in the store, or neither."""
        position = position_of(closed, offset, self.log_id)
        self.store.write([*changes, (POSITION_KEY, encode(position))])
        self.state.position = position
        self.state.written()

    # -- leading

    def lead(self, writer: Writer, owner: str) -> None:
        """Start to decide.

        Args:
            writer: it must have fenced the owner before, and the log must have been folded to its end since.
            owner: the name of this instance.
        """
        assert not self._unclosed
        self.leadership = Leadership(writer, owner, self.position.owner_epoch + 1)

    def work(
        self,
        now: int,
        commands: Sequence[CommandRecord] = (),
        lapses: Sequence[Lapse] = (),
        offers: Sequence[Offer] = (),
        outbox_sent: int = 0,
    ) -> BatchResult:
        """Decide one batch, commit it and write it to the store. Nothing is written if there is nothing to say.

        Args:
            now: the owner's clock, ms since the Unix epoch. A batch is never earlier than the one before it.
            outbox_sent: every outbox message up to this number has been delivered.

        Returns: what was consumed and committed, and the messages to send now.
        Raises:
            Fenced, CommitUnknown: then `reopen`.
            StoreFailed: the store cannot be read or written.
            Diverged: the log is not the one that was folded.
        """
        drafted = self._draft(max(now, self.position.now), commands, lapses, offers, outbox_sent)
        if isinstance(drafted, BatchResult):
            return drafted
        batch, consumed, sealed = drafted
        messages = self._commit(batch, sealed)
        self._slices = batch.slices
        declined = frozenset(batch.declined)
        return BatchResult(consumed, True, batch.events, messages, declined, batch.alarms, batch.more_at)

    def _draft(
        self,
        now: int,
        commands: Sequence[CommandRecord],
        lapses: Sequence[Lapse],
        offers: Sequence[Offer],
        outbox_sent: int,
    ) -> BatchResult | tuple[Batch, int, Sealed]:
        """All of a batch that happens before its commit. A command that raises anywhere in it is refused.

        If something raises, the drafts of the batch are dropped, and half of its commands are taken, until the command
        that raises is alone. So every batch makes progress, and the others are decided as if it were not there.

        Returns: the batch, how many commands it consumed, and what to commit; or the result if there is nothing.
        """
        assert self.leadership is not None
        broken: dict[int, str] = {}
        while True:
            try:
                batch = Batch(self.state, self.policy, self.codec, now, broken, self._slices)
                consumed = batch.take(commands, lapses, offers)
                new_owner = self.position.owner_epoch != self.leadership.epoch
                done = self.position.commands
                if consumed:
                    done = LogPosition(commands[consumed - 1].offset + 1, commands[consumed - 1].epoch)
                if not (batch.records or new_owner or outbox_sent >= self.position.outbox_sent + DISPATCHES_MAX):
                    return BatchResult(consumed, more_at=batch.more_at)
                return batch, consumed, self._close(batch, done, max(outbox_sent, self.position.outbox_sent))
            except StoreFailed:
                raise  # The disk is at fault, not a command: the next owner may well be able to decide it.
            except Exception:
                if not commands or commands[0].offset in broken:
                    raise
                if len(commands) == 1:
                    text = traceback.format_exc().encode(errors="backslashreplace").decode()
                    broken[commands[0].offset] = text[-REJECTED_TEXT_MAX:]
                commands = commands[: (len(commands) + 1) // 2]
                self.state = State(self.store)

    def settle(self, now: int, outbox_sent: int) -> None:
        """Record how far the outbox was delivered, in a batch of its own. Raises as `work` does."""
        if outbox_sent > self.position.outbox_sent:
            batch = Batch(self.state, self.policy, self.codec, max(now, self.position.now))
            self._commit(batch, self._close(batch, self.position.commands, outbox_sent))

    def _close(self, batch: Batch, done: LogPosition, outbox_sent: int) -> Sealed:
        """Seal the state behind the batch, and make the record that ends it."""
        assert self.leadership is not None
        changes, state_hash = self._seal(outbox_sent)
        closed = e.BatchClosed(
            batch_no=self.position.batch_no + 1,
            now=batch.now,
            next_command=done.offset,
            command_epoch=done.epoch,
            owner_epoch=self.leadership.epoch,
            owner=self.leadership.owner,
            outbox_sent=outbox_sent,
            events=len(batch.records),
            state_version=STATE_VERSION,
            state_hash=state_hash,
        )
        return Sealed(closed, self.codec.encode(closed), changes)

    def _commit(self, batch: Batch, sealed: Sealed) -> list[tuple[int, OutboxMessage]]:
        """Commit the batch and write it to the store. Returns the outbox messages that it adds."""
        assert self.leadership is not None
        closed = sealed.closed
        offset = self.leadership.writer.commit([*batch.records, ("", sealed.record)])
        if offset <= self.position.applied_offset:
            # The commit cannot be undone, but nothing more is written behind it.
            expected = f"a log that goes on behind offset {self.position.applied_offset}"
            raise Diverged(closed.batch_no, offset, expected, "one that has lost it, or was made anew")
        messages = self.state.pushed
        self._apply(closed, offset, sealed.changes)
        return messages

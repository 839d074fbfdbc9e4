"""One partition: folded by everyone who follows it, extended by its one owner.

Passive: it is handed records, time and what was heard, and never waits. What it wants sent is left to the
outbox, after the commit.
"""

import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.decide import Events, Policy, Rejected, decide, decide_lapse, decide_timer, home
from ftjm.core.errors import UndecodableError
from ftjm.core.evolve import evolve
from ftjm.core.keys import POSITION_KEY
from ftjm.core.matching import Offer, match
from ftjm.core.model import STATE_VERSION, Message, Place, Position, job_key
from ftjm.core.rows import encode
from ftjm.core.state import Changes, State
from ftjm.engine.lineage import position_of
from ftjm.engine.ports import Codec, CommandRecord, EventRecord, Store, StoreFailed, Writer

BATCH_BYTES_MAX = 4 * 1024 * 1024
BATCH_ROWS_MAX = 1_000
"""So that one write of the store does not hold the interpreter for long."""
DISPATCHES_MAX = 500
COMMAND_BYTES_MAX = 2 * 1024 * 1024
REJECTED_TEXT_MAX = 4_000
OUT_OF_TURN = "OUT_OF_TURN"
NAME_MAX = 300
"""What a refusal repeats of a name, which may be anything."""


class Diverged(Exception):
    """The log says that the owner's state was another than ours: one of the two stores is wrong."""

    def __init__(self, batch_no: int, offset: int, expected: str, found: str) -> None:
        """What was expected behind the batch that ends at `offset`, by the log, and what was found here."""
        super().__init__(batch_no, offset, expected, found)
        self.batch_no = batch_no
        self.offset = offset
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"expected {self.expected} behind batch {self.batch_no} at offset {self.offset}, but found {self.found}"


class Lapse(msgspec.Struct, frozen=True):
    """A session that has not been heard for `silent_ms`, or that has closed in good order."""

    session: str
    silent_ms: int
    closed: bool = False


class Leadership(msgspec.Struct, frozen=True):
    """The right to decide: a fenced writer, and the number that tells this owner from all before it."""

    writer: Writer
    owner: str
    epoch: int


class Partition:
    """State, position and (while it leads) the writer of one partition.

    After `commit` has raised, the state holds what never happened: `reopen` before anything else.
    """

    def __init__(self, policy: Policy, store: Store, codec: Codec, log_id: str) -> None:
        """`log_id` names the log that `store` was proved to be a child of."""
        self.policy = policy
        self.store = store
        self.codec = codec
        self.log_id = log_id
        self.rejected: Counter[str] = Counter()
        """Refusals that this process wrote, by code."""
        self.alarms: list[str] = []
        """Bugs that were met and survived, for the process to tell of."""
        self.to_ship: list[tuple[int, Message]] = []
        """Outbox entries that have been committed since somebody last emptied this list."""
        self.committed: list[e.Event] = []
        """Events of the last batch that this process committed."""
        self.reopen()

    @property
    def position(self) -> Position:
        return self.state.position

    def reopen(self) -> None:
        """Stop leading, and forget what was not committed."""
        self.leadership: Leadership | None = None
        self.state = State(self.store)
        self.to_ship = []
        self.declined: set[str] = set()
        """Sessions that sent an attempt back, since somebody last emptied this set: they have no room just now."""
        self._unclosed: list[e.Event] = []

    # -- following

    def fold(self, record: EventRecord) -> e.BatchClosed | None:
        """Apply a committed record; the batch that it closes, if it does. Decides nothing and sends nothing.

        Raises:
            Diverged: if our state is not what its owner's was.
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
        """Rows and position in one write: a crash leaves both, or neither."""
        position = position_of(closed, offset, self.log_id)
        self.store.write([*changes, (POSITION_KEY, encode(position))])
        self.state.position = position
        self.state.written()

    # -- leading

    def lead(self, writer: Writer, owner: str) -> None:
        """Begin to decide. The writer must have fenced the owner before, and the log been folded to its end."""
        assert not self._unclosed
        self.leadership = Leadership(writer, owner, self.position.owner_epoch + 1)

    def work(
        self,
        now: int,
        commands: Sequence[CommandRecord] = (),
        lapses: Sequence[Lapse] = (),
        offers: Sequence[Offer] = (),
        outbox_sent: int = 0,
    ) -> int:
        """One batch: decide, record, commit, write. Nothing is written if there is nothing to say.

        Args:
            now: the owner's clock, ms.
            outbox_sent: every outbox entry up to this one has been delivered.

        Returns: how many of `commands` were consumed; less than all if the batch was full.
        Raises: Fenced, CommitUnknown: then `reopen`. StoreFailed: then the store is of no use. Diverged: the log is
            not that which was folded.
        """
        assert self.leadership is not None
        batch = _Batch(self, max(now, self.position.now))
        consumed = batch.take(commands, lapses, offers)
        new_owner = self.position.owner_epoch != self.leadership.epoch
        done = self.position.commands
        if consumed:
            done = Place(commands[consumed - 1].offset + 1, commands[consumed - 1].epoch)
        if batch.records or new_owner or outbox_sent >= self.position.outbox_sent + DISPATCHES_MAX:
            self._commit(batch, done, max(outbox_sent, self.position.outbox_sent))
        return consumed

    def settle(self, now: int, outbox_sent: int) -> None:
        """Record how far the outbox is, where nothing else is to be recorded."""
        if outbox_sent > self.position.outbox_sent:
            self._commit(_Batch(self, max(now, self.position.now)), self.position.commands, outbox_sent)

    def _commit(self, batch: "_Batch", done: Place, outbox_sent: int) -> None:
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
        offset = self.leadership.writer.commit([*batch.records, ("", self.codec.encode(closed))])
        if offset <= self.position.applied_offset:
            # Nobody can take it back; but nothing more is written behind it.
            expected = f"a log that goes on behind offset {self.position.applied_offset}"
            raise Diverged(closed.batch_no, offset, expected, "one that has lost it, or was made anew")
        self.to_ship += self.state.pushed
        self.committed = batch.events
        self._apply(closed, offset, changes)


class _Batch:
    """What one transaction will hold."""

    def __init__(self, partition: Partition, now: int) -> None:
        self.partition = partition
        self.state = partition.state
        self.now = now
        self.records: list[tuple[str, bytes]] = []
        self.events: list[e.Event] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        return self._bytes >= BATCH_BYTES_MAX or self.state.size >= BATCH_ROWS_MAX

    def take(self, commands: Sequence[CommandRecord], lapses: Sequence[Lapse], offers: Sequence[Offer]) -> int:
        """Everything that waits, until the batch is full: time first, so that load cannot hold it up."""
        for timer in list(islice(self.state.due(self.now), BATCH_ROWS_MAX // 4)):
            # One that came before it in this batch may have cleared it.
            if self.state.has_timer(timer):
                self._record(decide_timer(self.state, timer, self.now), e.Cause.TIMER, str(timer.due_at))
        for lapse in lapses:
            happened = decide_lapse(self.state, lapse.session, lapse.silent_ms, self.now, lapse.closed)
            self._record(happened, e.Cause.LAPSE, lapse.session)
        consumed = 0
        for record in commands:
            if self.full:
                break
            self._command(record)
            consumed += 1
        if offers and not self.full:
            # The list is made first: matching reads what recording changes.
            able = [offer for offer in offers if offer.session not in self.partition.declined]
            for dispatched in list(match(self.state, able, DISPATCHES_MAX)):
                self._record([dispatched], e.Cause.OFFER, f"{dispatched.session}/{dispatched.offer}")
        return consumed

    def _command(self, record: CommandRecord) -> None:
        """Every command is answered by at least one event that names its offset."""
        actor, happened = self._judge(record)
        # Of what comes again in its turn, the sender hears then.
        early = isinstance(happened[0], e.CommandRejected) and happened[0].code == OUT_OF_TURN
        self._record(happened, e.Cause.COMMAND, str(record.offset), actor, "" if early else record.reply_to)

    def _judge(self, record: CommandRecord) -> tuple[str, Events]:
        partition = self.partition
        arrived: Events = []
        if record.source >= partition.policy.partitions:
            text = f"expected one of {partition.policy.partitions} partitions as the source, but found {record.source}"
            return "", [e.CommandRejected(code="INVALID", text=text)]
        if record.source >= 0:
            turn, what = self.state.peer(record.source).received + 1, f"{record.number} of partition {record.source}"
            if record.number < turn:
                return "", [e.CommandRejected(code="REPEATED", text=f"number {what} was expected once, and came again")]
            # Those between are on their way; but where all of them were in the log before, it has lost them.
            if record.confirmed < record.number - 1 and record.number > turn:
                return "", [e.CommandRejected(code=OUT_OF_TURN, text=f"number {what} came before number {turn}")]
            arrived = [e.ForwardReceived(source=record.source, number=record.number)]
        try:
            if len(record.value) > COMMAND_BYTES_MAX:
                text = f"expected a command of at most {COMMAND_BYTES_MAX} bytes, but found {len(record.value)}"
                return "", [*arrived, e.CommandRejected(code="TOO_LARGE", text=text)]
            command = partition.codec.decode(record.value)
            if not isinstance(command, c.Command):
                text = f"expected a command, but found a {type(command).__name__}"
                return "", [*arrived, e.CommandRejected(code="NOT_A_COMMAND", text=text)]
        except UndecodableError as error:
            return "", [*arrived, e.CommandRejected(code=error.code, text=error.text[:REJECTED_TEXT_MAX])]
        return command.actor[:NAME_MAX], [*arrived, *self._decide(command, record)]

    def _decide(self, command: c.Command, record: CommandRecord) -> Events:
        policy = self.partition.policy
        name: dict[str, Any] = {
            "queue": command.queue[:NAME_MAX],
            "job_id": command.job_id[:NAME_MAX],
            "shard_key": command.shard_key[:NAME_MAX],
        }
        try:
            to = home(command, policy)
            if to != policy.partition and record.source < 0:
                return [e.CommandForwarded(**name, partition=to, body=record.value, reply_to=record.reply_to)]
            decided = decide(self.state, command, self.now, policy)
        except StoreFailed:
            raise  # the disk's fault and not the command's, which the next owner may well carry out
        except Exception:  # noqa: BLE001  (whatever it raises, the partition goes on)
            # A bug of ours; yet one command must not take down owner after owner.
            text = traceback.format_exc()[-REJECTED_TEXT_MAX:]
            self.partition.alarms.append(f"the command at offset {record.offset} was skipped: {text}")
            decided = Rejected("INTERNAL_ERROR", text)
        if isinstance(decided, Rejected):
            kind = type(command).__name__
            job = self.state.job(job_key(command.queue, command.job_id))
            run = job.run if job else 0
            return [e.CommandRejected(**name, run=run, code=decided.code, text=decided.text, kind=kind)]
        return decided

    def _record(self, happened: Iterable[e.Event], cause: e.Cause, ref: str, actor: str = "", reply: str = "") -> None:
        for event in happened:
            if isinstance(event, e.CommandRejected):
                self.partition.rejected[event.code] += 1
            elif isinstance(event, e.AttemptDeclined):
                self.partition.declined.add(event.session)
            event.at = self.now
            event.cause = cause
            event.cause_ref = ref
            event.actor = actor
            if not isinstance(event, e.CommandForwarded | e.ForwardReceived):
                event.reply, reply = reply, ""
            evolve(self.state, event)
            value = self.partition.codec.encode(event)
            self.records.append((job_key(event.queue, event.job_id) if event.job_id else "", value))
            self.events.append(event)
            self._bytes += len(value)

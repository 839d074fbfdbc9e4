"""One batch of an owner: what one transaction of `events` will hold, and what follows from it once it is committed.

A batch takes what waits in a fixed order: an upgrade that becomes final, timers that are due, sessions that lapsed,
commands in the order of the log, a slice of one process, and at last offers of free slots. Time comes before load, so
that a flood of commands cannot delay a retry or the loss of a worker. Every decision is applied to the draft state at
once, so that the next decision of the batch sees it.

    timers ─┐
    lapses ─┤
    commands┼─► decide ─► events ─► evolve(state, event) ─► records of the transaction
    process ┤                                          └──► outbox messages, kept by the state until the commit
    offers ─┘

A command that raises, wherever in that line, is a fault of the program. It must not stop the partition under owner
after owner: `Partition.work` drops the drafts, and makes a batch in which this one command is refused (`broken`).

A batch is limited in bytes (`BATCH_BYTES_MAX`, of the transaction) and in rows (`BATCH_ROWS_MAX`, of the write to the
store). Commands that do not fit wait for the next batch. One command is never split.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from ftjm.core.decide.decision import Events, Policy, Rejected
from ftjm.core.decide.handlers import TOLD, decide, home_partition
from ftjm.core.decide.keys import follow_up
from ftjm.core.decide.processes import next_slice
from ftjm.core.decide.resources import after_loss
from ftjm.core.decide.sessions import decide_lapse
from ftjm.core.decide.timers import decide_timer
from ftjm.core.decide.upgrades import finalize
from ftjm.core.errors import UndecodableError
from ftjm.core.evolve.handlers import evolve
from ftjm.core.limits import COMMAND_BYTES_MAX, TITLE_CHARACTERS_MAX
from ftjm.core.names import is_name
from ftjm.core.placement import Offer, match
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import Ahead, job_key
from ftjm.core.state.outbox import OutboxMessage
from ftjm.core.state.processes import BackfillTurn, Bulk
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.engine.ports import Codec, CommandRecord

BATCH_BYTES_MAX = 4 * 1024 * 1024
BATCH_ROWS_MAX = 1_000
"""Bounds one write of the store, which holds the interpreter lock for as long as it takes."""
TIMERS_MAX = 250
"""Timers that a batch fires, without those of schedules."""
FIRINGS_MAX = 50
"""Timers of schedules that a batch fires. One that skips a week of missed instants takes some ms."""
TIMERS_LOOKED_MAX = 1_000
ROWS_OF_A_SLICE_MIN = 20
"""With less room in the batch, a process waits for the next one."""
SLICE_PAUSE_MS = 20
"""Least time from the begin of a slice of a process to that of the next one. A slice and its commit take less, so most
commands that come meanwhile find the owner free."""
SLICE_WAIT_MS = 40
"""A slice waits at most this long for a batch without commands. Then its batch does it before the commands, so that no
load of commands stops a process."""
DISPATCHES_MAX = 500
REJECTED_TEXT_MAX = 4_000
OUT_OF_TURN = "OUT_OF_TURN"
ALREADY_RECEIVED = "REPEATED"
"""Codes of the refusals of a forwarded command that came before its turn, and of one that came a second time."""
NAME_MAX = TITLE_CHARACTERS_MAX
"""Characters of a name that a refusal repeats: a name in a command may be anything."""


class Lapse(msgspec.Struct, frozen=True, gc=False):
    """A worker session that has been silent for `silent_ms`, or that has closed in good order."""

    session: str
    silent_ms: int
    closed: bool = False


class BatchResult(msgspec.Struct, frozen=True, gc=False):
    """What one batch did, and what its owner has to do now.

    If `written`, the batch is committed to the log and written to the store. Only then may `messages` be sent: an
    owner that acts before its commit may act on what never happened.
    """

    consumed: int = 0
    """Commands that were decided. Less than all that were handed in if the batch was full."""
    written: bool = False
    events: Sequence[e.Event] = ()
    """The committed events, without the `BatchClosed` that ends the batch."""
    messages: Sequence[tuple[int, OutboxMessage]] = ()
    """New messages of the outbox, with their numbers, to be sent."""
    declined: frozenset[str] = frozenset()
    """Sessions that sent an attempt back which was meant for a free slot: they have no room just now."""
    alarms: Sequence[str] = ()
    """Texts of faults of the program that were met and survived, for the operator: one for each command that was
    refused because of one."""
    more_at: int | None = None
    """When time alone lets more jobs start, ms since the Unix epoch: a batch is due then. None if it does not."""
    skipped: Sequence[str] = ()
    """Texts about outbox messages that can never be sent and were skipped, for the operator."""


class Slices(NamedTuple):
    """The last slice of a process that an owner did. It decides whose turn is next, and is no part of the state."""

    at: int = 0
    """When, ms."""
    of: tuple[int, str] = (0, "")
    """Kind and name of the process."""


class Batch:
    """What one transaction will hold. Used for one batch and then dropped."""

    def __init__(
        self,
        state: State,
        policy: Policy,
        codec: Codec,
        now: int,
        broken: Mapping[int, str] | None = None,
        slices: Slices | None = None,
    ) -> None:
        """Begin an empty batch.

        Args:
            state: is changed as decisions are made.
            now: the batch's time, ms since the Unix epoch.
            broken: commands to refuse, by offset, with the traceback of what each has raised.
            slices: the last slice of a process that this owner did.
        """
        self.now = now
        self.slices = slices or Slices()
        """As the argument; that of this batch, if it does one."""
        self._broken = broken or {}
        self.records: list[tuple[str, bytes]] = []
        """Keys and values for the log."""
        self.events: list[e.Event] = []
        self.declined: set[str] = set()
        self.alarms: list[str] = []
        self.more_at: int | None = None
        """When time alone lets more jobs start, ms; None if it does not."""
        self._state = state
        self._policy = policy
        self._codec = codec
        self._bytes = 0

    @property
    def full(self) -> bool:
        return self._bytes >= BATCH_BYTES_MAX or self._state.size >= BATCH_ROWS_MAX

    def take(self, commands: Sequence[CommandRecord], lapses: Sequence[Lapse], offers: Sequence[Offer]) -> int:
        """Decide what waits, until the batch is full.

        Returns: how many of `commands` were decided.
        """
        final = finalize(self._state.finalized, self._policy, new_log=not self._state.position.batch_no)
        self._record(final, e.Cause.UPGRADE, "", self._policy.finalize or "")
        self._take_timers()
        for lapse in lapses:
            events = decide_lapse(self._state, lapse.session, lapse.silent_ms, self.now, lapse.closed)
            self._record(events, e.Cause.LAPSE, lapse.session)
        self._advance_a_process(SLICE_WAIT_MS if commands else SLICE_PAUSE_MS)
        consumed = 0
        for record in commands:
            if self.full:
                break
            self._take_command(record)
            consumed += 1
        if self._state.has_processes:
            self.more_at = max(self.now, self.slices.at + SLICE_PAUSE_MS)
        if offers and not self.full:
            # Matching is finished before anything is recorded: it reads the rows that recording changes.
            usable = [offer for offer in offers if offer.session not in self.declined]
            placement = match(self._state, usable, DISPATCHES_MAX, self.now)
            if placement.more_at is not None:
                self.more_at = min(placement.more_at, self.more_at or placement.more_at)
            for dispatched in placement.dispatches:
                self._record([dispatched], e.Cause.OFFER, f"{dispatched.session}/{dispatched.offer}")
        return consumed

    def _take_timers(self) -> None:
        """Decide the timers that are due, as far as a batch takes them: more of others than of schedules, since a
        firing makes a job, and one of a series that is caught up sets the next timer to now."""
        left = {True: FIRINGS_MAX, False: TIMERS_MAX}
        taken: list[Timer] = []
        for timer in islice(self._state.due(self.now), TIMERS_LOOKED_MAX):
            is_firing = timer.kind is TimerKind.SCHEDULE
            if left[is_firing]:
                left[is_firing] -= 1
                taken.append(timer)
            elif not is_firing:
                break  # the rest is for the next batch, and need not be read in this one
        for timer in taken:
            if self._bytes >= BATCH_BYTES_MAX:
                break  # a firing has the whole specification of its job
            # An earlier timer of this batch may have cleared it.
            if self._state.has_timer(timer):
                events = decide_timer(self._state, timer, self.now, self._policy)
                self._record(events, e.Cause.TIMER, str(timer.due_at))

    def _advance_a_process(self, pause_ms: int) -> None:
        """Do one slice of one process, in turns, if the last slice was `pause_ms` ago."""
        state = self._state
        if self.now < self.slices.at + pause_ms or not state.has_processes:
            return
        under_way = sorted(one for one in state.processes() if state.process(*one) is not None)
        rows = BATCH_ROWS_MAX - state.size
        if under_way and rows > ROWS_OF_A_SLICE_MIN:
            kind, name = next((one for one in under_way if one > self.slices.of), under_way[0])
            process = state.process(kind, name)
            actor = process.actor if isinstance(process, Bulk | BackfillTurn) else ""
            events = next_slice(state, kind, name, rows, self.now, self._policy)
            self._record(events, e.Cause.CONTINUATION, f"{kind.name}/{name}", actor)
            self.slices = Slices(self.now, (kind, name))

    def _take_command(self, record: CommandRecord) -> None:
        """Decide a command. It leads to at least one event, whose `cause_ref` is the command's offset."""
        actor, events = self._check_and_decide(record)
        self._record(events, e.Cause.COMMAND, str(record.offset), actor, record.reply_to)
        if (text := self._broken.get(record.offset)) is not None:
            self.alarms.append(f"the command at offset {record.offset} was skipped: {text}")

    def _check_and_decide(self, record: CommandRecord) -> tuple[str, Events]:
        """Check a record's turn, size and encoding, and decide its command.

        Returns: the command's actor, "" if it could not be read; and the events, at least one.
        """
        # A forwarded command is the `number`-th that partition `source` sent here. All up to `confirmed` are logged.
        received: Events = []
        lost: Events = []
        if record.source >= self._policy.partitions:
            text = f"expected one of {self._policy.partitions} partitions as the source, but found {record.source}"
            return "", [e.CommandRejected(code="INVALID", text=text)]
        if record.source >= 0:
            turn, name = self._state.peer(record.source).received + 1, f"{record.number} of partition {record.source}"
            if record.number < turn:
                # A sender that has lost the tail of its log gives numbers out twice.
                repeated = e.CommandRejected(code=ALREADY_RECEIVED, text=f"number {name} was already received")
                return "", [repeated, *after_loss(self._state, record.source, self._policy)]
            # Earlier numbers may still arrive, so this one is refused for now. If the sender knows that they were
            # delivered, the log has lost them, and the gap is accepted.
            if record.confirmed < record.number - 1 and record.number > turn:
                return "", [e.CommandRejected(code=OUT_OF_TURN, text=f"number {name} came before number {turn}")]
            received = [e.ForwardReceived(source=record.source, number=record.number)]
            if record.number > turn:
                lost = after_loss(self._state, record.source, self._policy)
        command = self._decoded(record)
        if isinstance(command, e.CommandRejected):
            return "", [*received, command, *lost]
        return command.actor[:NAME_MAX], [*received, *self._decide_or_forward(command, record), *lost]

    def _decoded(self, record: CommandRecord) -> c.Command | e.CommandRejected:
        """The command of a record, or its refusal.

        A report about an attempt is never refused for its size: the attempt would run for ever. The decision cuts its
        outputs, and an attempt with a result that is too large fails.
        """
        size, policy = len(record.value), self._policy
        try:
            command = self._codec.decode(record.value)
        except UndecodableError as error:
            code, text = error.code, error.text[:REJECTED_TEXT_MAX]
        else:
            if isinstance(command, c.Command) and size <= COMMAND_BYTES_MAX:
                return command
            if isinstance(command, c.AttemptReport) and home_partition(command, policy) == policy.partition:
                return command
            code, text = "NOT_A_COMMAND", f"expected a command, but found a {type(command).__name__}"
        if size > COMMAND_BYTES_MAX:
            code, text = "TOO_LARGE", f"expected a command of at most {COMMAND_BYTES_MAX} bytes, but found {size}"
        return e.CommandRejected(code=code, text=text)

    def _decide_or_forward(self, command: c.Command, record: CommandRecord) -> Events:
        """Decide a readable command here, or forward it to the partition of its queue."""
        policy = self._policy
        decided: Events | Rejected
        if record.source < 0 and type(command) in TOLD:
            told = f"expected a command of a client, but a {type(command).__name__} is sent by partitions only"
            decided = Rejected("NOT_ALLOWED", told)
        elif (text := self._broken.get(record.offset)) is not None:
            decided = Rejected("INTERNAL_ERROR", text)
        else:
            to = home_partition(command, policy)
            if to != policy.partition and record.source < 0:
                return [e.CommandForwarded(**_name(command), partition=to, body=record.value, reply_to=record.reply_to)]
            decided = decide(self._state, command, self.now, policy)
        if isinstance(decided, Rejected):
            # A text that is not a name is not looked up: it may be of any size, and the cache would keep it as a key.
            known = is_name(command.queue) and is_name(command.job_id)
            job = self._state.job(job_key(command.queue, command.job_id)) if known else None
            run, kind = job.run if job else 0, type(command).__name__
            return [e.CommandRejected(**_name(command), run=run, code=decided.code, text=decided.text, kind=kind)]
        return decided

    def _record(self, events: Iterable[e.Event], cause: e.Cause, ref: str, actor: str = "", reply: str = "") -> None:
        """Apply events to the state and add them to the transaction.

        The first event that answers a command carries the answer to the command's sender.
        """
        for event in events:
            if type(event) is e.AttemptDeclined and self._was_for_a_free_slot(event):
                self.declined.add(event.session)
            event.at = self.now
            event.cause = cause
            event.cause_ref = ref
            event.actor = actor
            if _answers(event):
                event.reply, reply = reply, ""
            evolve(self._state, event)
            value = self._codec.encode(event)
            self.records.append((job_key(event.queue, event.job_id) if event.job_id else "", value))
            self.events.append(event)
            self._bytes += len(value)
        if self._state.unsettled_keys:
            self._record(follow_up(self._state, self._state.take_unsettled_keys()), cause, ref, actor)

    def _was_for_a_free_slot(self, event: e.AttemptDeclined) -> bool:
        """Whether the attempt was to start at once. One that was sent ahead comes back from workers with room, too."""
        job = self._state.job(job_key(event.queue, event.job_id))
        return job is None or job.ahead is not Ahead.UNSTARTED


def _name(command: c.Command) -> dict[str, Any]:
    """The fields of an event that name the job of a command that may hold anything."""
    return {
        "queue": command.queue[:NAME_MAX],
        "job_id": command.job_id[:NAME_MAX],
        "shard_key": command.shard_key[:NAME_MAX],
    }


def _answers(event: e.Event) -> bool:
    """Whether the sender of the event's command learns by it what became of the command.

    A command that came too early comes again in its turn, and is answered then. One that came twice was answered the
    first time, perhaps with a refusal: to answer "repeated" could be taken for a yes.
    """
    kind = type(event)
    if kind is e.CommandRejected:
        return event.code not in (OUT_OF_TURN, ALREADY_RECEIVED) or bool(event.kind)  # type: ignore[attr-defined]
    return kind is not e.CommandForwarded and kind is not e.ForwardReceived

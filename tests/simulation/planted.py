"""Rules of the design, each switched off at its smallest place: the simulation must notice every one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.memory import MemoryLog
from ftjm.core import attempts, decide
from ftjm.core import commands as c
from ftjm.core.model import Job
from ftjm.core.state import POSITION_KEY, State
from ftjm.engine import partition as engine
from ftjm.engine.liveness import Liveness
from ftjm.engine.outbox import Outbox
from ftjm.engine.ports import CommandRecord, CommitUnknown
from ftjm.worker import session as worker_session
from ftjm.worker.life import Life
from ftjm.worker.session import Session
from tests.simulation.guards import Guard
from tests.simulation.network import SimWriter
from tests.simulation.scheduler import Seat

Patch = Any
"""What `unittest.mock.patch` makes: a context in which one rule does not hold."""
PLANTED: dict[str, Callable[[], list[Patch]]] = {}


def planted(rule: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    PLANTED[rule.__name__.replace("_", " ")] = rule
    return rule


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Within it, the rule of that name does not hold."""
    patches = PLANTED[name]()
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


# -- taking over


@planted
def an_owner_decides_without_fencing() -> list[Patch]:
    real = MemoryLog.append

    def append(self: MemoryLog, partition: int, epoch: int, records: Any) -> int:
        return real(self, partition, self._epochs[partition], records)

    return [patch.object(MemoryLog, "append", append)]


@planted
def an_owner_decides_without_folding_to_the_end() -> list[Patch]:
    def read_end(self: Seat) -> None:
        self.role = "lead" if not self.partition._unclosed else "fold"

    return [patch.object(Seat, "_read_end", read_end)]


@planted
def the_end_of_the_log_is_read_before_the_fence() -> list[Patch]:
    fence, read_end = Seat._fence, Seat._read_end

    def first(self: Seat) -> None:
        read_end(self)
        if self.role == "fold":
            self.role = "end"

    def second(self: Seat) -> None:
        fence(self)
        if self.role == "end" and self.writer is not None:
            self.role = "fold"

    return [patch.object(Seat, "_fence", first), patch.object(Seat, "_read_end", second)]


@planted
def an_unknown_commit_is_taken_for_a_success() -> list[Patch]:
    real = SimWriter.commit

    def commit(self: SimWriter, records: Any) -> int:
        try:
            return real(self, records)
        except CommitUnknown:
            return self._broker.log.end(self._partition) + len(records) - 1

    return [patch.object(SimWriter, "commit", commit)]


@planted
def the_outbox_is_not_sent_again_after_a_takeover() -> list[Patch]:
    return [patch.object(State, "outbox", lambda _self, _sent: iter(()))]


@planted
def the_outbox_counts_as_sent_before_it_is_delivered() -> list[Patch]:
    def ship(self: Outbox, state: State, messages: Any) -> None:
        for number, message in messages:
            self._send(self._parcel(state, message), lambda: None)
            self._delivered(number)

    return [patch.object(Outbox, "ship", ship)]


@planted
def the_store_is_not_checked_for_its_lineage() -> list[Patch]:
    return [patch.object(engine, "lineage", lambda *_: None)]


# -- one batch


@planted
def rows_and_position_are_written_apart() -> list[Patch]:
    real = engine.Partition._apply

    def apply(self: engine.Partition, closed: Any, offset: int, changes: Any) -> None:
        self.store.write(changes)
        real(self, closed, offset, [])

    return [patch.object(engine.Partition, "_apply", apply)]


@planted
def the_position_is_written_before_the_rows() -> list[Patch]:
    real = engine.Partition._apply

    def apply(self: engine.Partition, closed: Any, offset: int, changes: Any) -> None:
        write = self.store.write

        def apart(rows: Any) -> None:
            write([row for row in rows if row[0] == POSITION_KEY])
            write([row for row in rows if row[0] != POSITION_KEY])

        with patch.object(self.store, "write", apart):
            real(self, closed, offset, changes)

    return [patch.object(engine.Partition, "_apply", apply)]


@planted
def an_owner_acts_before_its_commit() -> list[Patch]:
    own, commit = Seat._own, engine.Partition._commit
    outboxes: dict[int, Outbox | None] = {}

    def remember(self: Seat) -> None:
        outboxes[id(self.partition)] = self.outbox
        own(self)

    def act_first(self: engine.Partition, batch: Any, next_command: int, outbox_sent: int) -> None:
        outbox = outboxes[id(self)]
        assert outbox is not None
        outbox.ship(self.state, self.state.pushed)
        commit(self, batch, next_command, outbox_sent)
        self.to_ship = []

    return [patch.object(Seat, "_own", remember), patch.object(engine.Partition, "_commit", act_first)]


@planted
def replay_sends() -> list[Patch]:
    fold = engine.Partition.fold
    follow = Seat._follow
    replayed: dict[int, list[Any]] = {}

    def keep(self: engine.Partition, record: Any) -> Any:
        written = self.state.written

        def note() -> None:
            replayed.setdefault(id(self), []).extend(self.state.pushed)
            written()

        with patch.object(self.state, "written", note):
            return fold(self, record)

    def tell(self: Seat, end: int | None = None) -> bool:
        found = follow(self, end)
        messages = replayed.pop(id(self.partition), [])
        Outbox(self.number, codec, self.instance.send, 0).ship(self.partition.state, messages)
        return found

    return [patch.object(engine.Partition, "fold", keep), patch.object(Seat, "_follow", tell)]


@planted
def an_owners_time_may_go_back() -> list[Patch]:
    # The module's own `max` hides the builtin one, whose only other use there never differs.
    return [patch.object(engine, "max", lambda first, _second: first, create=True)]


@planted
def forwarded_commands_are_not_told_apart_by_number() -> list[Patch]:
    real = engine._Batch._judge

    def judge(self: Any, record: CommandRecord) -> Any:
        if record.source >= 0:
            record = msgspec.structs.replace(record, number=self.state.peer(record.source).received + 1)
        return real(self, record)

    return [patch.object(engine._Batch, "_judge", judge)]


# -- decisions


@planted
def a_stale_attempt_is_accepted() -> list[Patch]:
    real = attempts._reported

    def reported(state: State, command: c.AttemptReport) -> Any:
        job = state.job(f"{command.queue}/{command.job_id}")
        return job if job is not None and job.session else real(state, command)

    return [patch.object(attempts, "_reported", reported)]


@planted
def a_job_may_be_submitted_twice() -> list[Patch]:
    real = decide._HANDLERS[c.SubmitJob]

    def submit(state: State, command: c.SubmitJob, now: int, policy: Any) -> Any:
        with patch.object(state, "job", lambda _key: None):
            return real(state, command, now, policy)

    return [patch.dict(decide._HANDLERS, {c.SubmitJob: submit})]


@planted
def command_ids_are_not_remembered() -> list[Patch]:
    return [patch.object(State, "remembers", lambda _self, _command_id: False)]


@planted
def losses_are_not_counted() -> list[Patch]:
    real = attempts.lost

    def lost(state: State, key: str, job: Job, reason: str, now: int) -> Any:
        return real(state, key, msgspec.structs.replace(job, losses=-9), reason, now)

    return [patch.object(attempts, "lost", lost)]


@planted
def an_attempt_that_may_continue_is_given_up_with_its_session() -> list[Patch]:
    real = decide._lost_with

    def lost_with(state: State, session: str, reason: str, now: int, _past_lease_ms: int | None = None) -> Any:
        return real(state, session, reason, now)

    return [patch.object(decide, "_lost_with", lost_with)]


# -- who is there


@planted
def silence_does_not_start_again_with_a_new_owner() -> list[Patch]:
    def silence(_self: Liveness, heard: Any, until: int, _since: int = 0) -> int:
        return until - (heard.at if heard else 0)

    return [patch.object(Liveness, "_silence", silence)]


@planted
def a_worker_is_given_up_without_reading_the_lanes_to_their_ends() -> list[Patch]:
    def suspects(self: Liveness, now: int) -> bool:
        self.confirm(now)
        return False

    return [patch.object(Liveness, "suspects", suspects)]


# -- workers


@planted
def a_worker_takes_repeated_messages() -> list[Patch]:
    def accept(self: Session, message: Any) -> bool:
        return bool(message.session == self.name)

    return [patch.object(Session, "accept", accept)]


@planted
def a_worker_takes_messages_over_a_gap() -> list[Patch]:
    def accept(self: Session, message: Any) -> bool:
        if message.session != self.name or message.number <= self._last.get(message.partition, 0):
            return False
        self._last[message.partition] = message.number
        return True

    return [patch.object(Session, "accept", accept)]


@planted
def starts_do_not_check_the_deadline() -> list[Patch]:
    return [
        patch.object(Guard, "may_start", lambda _self, _session, _now: True),
        patch.object(Session, "in_lease", lambda _self, _now: True),
        patch.object(Session, "observe", lambda _self, _now: False),
    ]


@planted
def the_guard_does_not_kill_at_the_deadline() -> list[Patch]:
    return [patch.object(Guard, "enforce", lambda _self: None)]


@planted
def a_lapsed_session_goes_on() -> list[Patch]:
    def observe(_self: Session, _now: int) -> bool:
        return False

    return [patch.object(Session, "observe", observe)]


@planted
def the_lease_counts_from_the_acknowledgement() -> list[Patch]:
    real = Session.acknowledged

    def acknowledged(self: Session, _token: int, now: int) -> None:
        real(self, now, now)

    return [patch.object(Session, "acknowledged", acknowledged)]


@planted
def the_deadline_has_no_margin() -> list[Patch]:
    return [patch.object(worker_session, "GUARD_MARGIN_MS", 0)]


@planted
def a_full_worker_does_not_decline() -> list[Patch]:
    real = Life._refusal

    def refusal(self: Life, session: Session, order: Any, now: int) -> str:
        why = real(self, session, order, now)
        return "" if "slots are taken" in why else why

    return [patch.object(Life, "_refusal", refusal)]

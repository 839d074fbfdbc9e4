"""Rules of the design, each switched off at its smallest place: the simulation must notice every one of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryLog
from ftjm.core.state.state import State
from ftjm.core.state.tables import POSITION_KEY
from ftjm.engine import lineage
from ftjm.engine import partition as engine
from ftjm.engine.batch import Batch
from ftjm.engine.outbox import Outbox
from ftjm.engine.owner import Owner
from ftjm.engine.ports import CommandRecord, CommitUnknown
from tests.simulation.network import SimWriter
from tests.simulation.seat import Seat

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
        self.stage = "lead" if not self.partition._unclosed else "fold"

    return [patch.object(Seat, "_read_end", read_end)]


@planted
def the_end_of_the_log_is_read_before_the_fence() -> list[Patch]:
    fence, read_end = Seat._fence, Seat._read_end

    def first(self: Seat) -> None:
        read_end(self)
        if self.stage == "fold":
            self.stage = "end"

    def second(self: Seat) -> None:
        fence(self)
        if self.stage == "end" and self.writer is not None:
            self.stage = "fold"

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
            self._send(self._parcel(state, message), lambda _: None)
            self._copies[number] = 1
            self._delivered(number, message, 1, True)

    return [patch.object(Outbox, "send", ship)]


@planted
def the_store_is_not_checked_for_its_lineage() -> list[Patch]:
    return [patch.object(lineage, "lineage", lambda *_: None)]


@planted
def the_log_of_commands_is_taken_to_lose_nothing() -> list[Patch]:
    return [patch.object(Seat, "_resume_position", lambda self: self.partition.position.next_command)]


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
    step, commit = Owner.step, engine.Partition._commit
    outboxes: dict[int, Outbox] = {}

    def remember(self: Owner) -> Any:
        outboxes[id(self._partition)] = self._outbox
        return step(self)

    def act_first(self: engine.Partition, batch: Any, sealed: Any) -> Any:
        outboxes[id(self)].send(self.state, self.state.pushed)
        commit(self, batch, sealed)
        return []

    return [patch.object(Owner, "step", remember), patch.object(engine.Partition, "_commit", act_first)]


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
        Outbox(self.number, codec, self.instance.send, 0).send(self.partition.state, messages)
        return found

    return [patch.object(engine.Partition, "fold", keep), patch.object(Seat, "_follow", tell)]


@planted
def an_owners_time_may_go_back() -> list[Patch]:
    # The module's own `max` hides the builtin one, whose only other use there never differs.
    return [patch.object(engine, "max", lambda first, _second: first, create=True)]


@planted
def forwarded_commands_are_not_told_apart_by_number() -> list[Patch]:
    real = Batch._check_and_decide

    def judge(self: Any, record: CommandRecord) -> Any:
        if record.source >= 0:
            record = msgspec.structs.replace(record, number=self._state.peer(record.source).received + 1)
        return real(self, record)

    return [patch.object(Batch, "_check_and_decide", judge)]

"""Rows of an earlier version become this version's, whenever they are migrated and wherever a crash breaks it off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.identity import CONTENT_VERSION
from ftjm.core.records import events as e
from ftjm.core.state import migrations
from ftjm.core.state.migrations import (
    MIGRATING,
    MIGRATIONS,
    OLDEST_VERSION,
    can_migrate,
    migrate,
    migrate_store,
    unreadable,
)
from ftjm.core.state.model import STATE_VERSION, Job, JobState
from ftjm.core.state.row_cache import encode
from ftjm.core.state.rows import Changes
from ftjm.core.state.state import State
from ftjm.core.state.tables import (
    ADOPTIONS,
    BACKFILLS,
    BULK_RESULTS,
    CONCURRENCY_KEYS,
    FINALIZED,
    KEY_JOBS,
    MIGRATION,
    OUTBOX,
    PROCESSES,
    QUEUE_DECLARATIONS,
    QUEUE_RATES,
    QUEUE_STATUS,
    RESOURCES,
    SCHEDULES,
    SHARES,
    TABLES,
    load_position,
)
from ftjm.engine.lineage import lineage
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord
from tests.adapters.avro.golden import FOLDER
from tests.core import version_3
from tests.core.consistency import all_rows, check_state
from tests.engine.world import World

LATER = (
    *(MIGRATION, FINALIZED, QUEUE_STATUS, QUEUE_DECLARATIONS, QUEUE_RATES, PROCESSES, BULK_RESULTS, SCHEDULES),
    *(CONCURRENCY_KEYS, KEY_JOBS, BACKFILLS),
    *(ADOPTIONS, RESOURCES, SHARES),
)
"""Tables that programs of the oldest version did not have."""


class Crash(Exception):
    """The process dies before a write."""


class CrashingStore(MemoryStore):
    """Takes some writes, and raises before the next."""

    writes_left = 1 << 30

    def write(self, changes: Changes) -> None:
        if self.writes_left == 0:
            raise Crash
        self.writes_left -= 1
        super().write(changes)


def store_of(rows: dict[bytes, bytes]) -> CrashingStore:
    store = CrashingStore()
    store.write(list(rows.items()))
    return store


def migrated(rows: dict[bytes, bytes], crash_after: int | None = None) -> CrashingStore:
    """A store of version 3 that was opened by this program, which died after some writes and was started again."""
    store = store_of(rows)
    if crash_after is not None:
        store.writes_left = crash_after
        try:
            migrate_store(store)
        except Crash:
            check_no_program_takes_it_for_whole(store, crash_after)
        store.writes_left = 1 << 30
    migrate_store(store)
    return store


def check_no_program_takes_it_for_whole(store: MemoryStore, writes: int) -> None:
    version = load_position(store).state_version
    # Between two steps the rows are whole, and of a version between.
    assert version in range(OLDEST_VERSION + 1, STATE_VERSION) or version == (MIGRATING if writes else OLDEST_VERSION)
    with pytest.raises(AssertionError, match="migrated first"):
        State(store)


# -- golden rows


class Golden:
    """A log, and the rows that the program of an earlier version folded it to."""

    def __init__(self, version: int = OLDEST_VERSION) -> None:
        document = json.loads((FOLDER / "rows" / f"{version}.json").read_text())
        self.log_id: str = document["log_id"]
        self.log = [EventRecord(offset, bytes.fromhex(value)) for offset, value in document["log"]]
        self.rows = {bytes.fromhex(key): bytes.fromhex(value) for key, value in document["rows"].items()}

    def folded(self) -> Partition:
        partition = Partition(World().policy, MemoryStore(), codec, self.log_id)
        for record in self.log:
            partition.fold(record)
        return partition


def test_the_golden_rows_hold_every_kind_of_row_and_of_message():
    golden = Golden()
    came_later = {table.prefix for table in LATER}
    kinds = {table.prefix for table in TABLES} - came_later
    assert {key[:1] for key in golden.rows} == kinds
    messages = [value for key, value in golden.rows.items() if key[:1] == OUTBOX.prefix]
    assert {version_3.Message(*fields).kind for fields in map(migrations._decode, messages)} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("version", range(OLDEST_VERSION, STATE_VERSION))
def test_the_rows_of_each_version_become_what_the_log_is_folded_to(version):
    golden = Golden(version)
    store = migrated(golden.rows)
    assert all_rows(store) == all_rows(golden.folded().store)
    check_state(store)


def test_the_frozen_encoders_write_what_the_program_of_version_3_wrote():
    golden = Golden()
    assert version_3.rows(all_rows(golden.folded().store)) == golden.rows


def test_a_queue_without_jobs_has_no_row_any_more():
    old = Golden(4).rows
    new = dict(migrate(old.items(), 4))
    assert {key for key in old if key not in new and key[:1] == b"q"} == {b"qg7"}
    assert b"qg3" in new


def test_a_store_of_version_3_is_a_child_of_its_log_before_and_after_its_migration():
    golden = Golden()
    store = store_of(golden.rows)
    for _ in range(2):
        last = iter(golden.log[-1:])
        assert lineage(store, golden.log_id, last, codec) is None
        migrate_store(store)


def test_the_hash_of_the_state_goes_on_behind_batches_of_another_version():
    """The owner of this version continues from the hash that is in the log; so does each that folds it."""
    golden = Golden()
    old_owner = migrated(golden.rows)
    world = World()
    world.log.log_id = golden.log_id
    owner = Partition(world.policy, old_owner, codec, golden.log_id)
    standby = Partition(world.policy, migrated(golden.rows, 1), codec, golden.log_id)
    written: list[bytes] = []

    class Log:
        def commit(self, records: Any) -> int:
            written.extend(value for _, value in records)
            return golden.log[-1].offset + len(written)

    owner.lead(Log(), "new")
    owner.work(golden_now(golden) + 200_000)
    owner.work(golden_now(golden) + 10**9)
    begin = golden.log[-1].offset + 1
    closed = [standby.fold(EventRecord(begin + n, value)) for n, value in enumerate(written)]
    assert len([one for one in closed if one is not None]) == 2
    rows = all_rows(standby.store)
    assert rows == all_rows(owner.store)


def golden_now(golden: Golden) -> int:
    closed = codec.decode(golden.log[-1].value)
    assert isinstance(closed, e.BatchClosed)
    return closed.now


@pytest.mark.parametrize("version", [1, CONTENT_VERSION])
def test_the_version_of_a_content_hash_is_taken_from_before_the_hash(version):
    """A program of version 3 that folded an event of a later one kept the packed hash as it was."""
    job = Job(JobState.HELD, content=b"0123456789abcdef", content_version=version)
    old = version_3.row(b"jq/a", encode(job))
    assert list(migrate([(b"jq/a", old)], OLDEST_VERSION)) == [(b"jq/a", encode(job))]


# -- the runner


@pytest.mark.parametrize("crash_after", range(20))
def test_a_migration_that_breaks_off_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch, crash_after: int) -> None:
    monkeypatch.setattr(migrations, "WRITE_ROWS_MAX", 2)
    golden = Golden()
    store = migrated(golden.rows, crash_after)
    assert all_rows(store) == dict(sorted(migrate(golden.rows.items(), OLDEST_VERSION)))


def test_rows_of_this_version_and_an_empty_store_are_left_alone():
    store = CrashingStore()
    store.writes_left = 0
    assert migrate_store(store) is None
    store = migrated(Golden().rows)
    store.writes_left = 0
    assert migrate_store(store) is None
    assert list(migrate(store.scan(b"", b"\xff"), STATE_VERSION)) == list(store.scan(b"", b"\xff"))


def test_the_version_that_was_migrated_is_told():
    assert migrate_store(store_of(Golden().rows)) == OLDEST_VERSION


def test_a_migrated_row_may_not_come_before_the_migration_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield key + b"x", value

    monkeypatch.setattr(migrations, "MIGRATIONS", {3: {OUTBOX.prefix: renamed}, 4: {}, 5: {}})
    with pytest.raises(AssertionError, match="migrated again"):
        migrate_store(store_of(Golden().rows))


def test_a_row_may_become_rows_of_another_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield b"z" + key, value

    monkeypatch.setattr(migrations, "MIGRATIONS", {**{one: {} for one in MIGRATIONS}, 3: {OUTBOX.prefix: moved}})
    golden = Golden()
    store = store_of(golden.rows)
    migrate_store(store)
    outbox = [key for key in golden.rows if key[:1] == OUTBOX.prefix]
    assert [key for key, _ in store.scan(b"z", b"{")] == [b"z" + key for key in outbox]
    assert not list(store.scan(OUTBOX.prefix, OUTBOX.end))


def test_there_is_a_migration_from_each_version_to_the_next():
    assert sorted(MIGRATIONS) == list(range(OLDEST_VERSION, STATE_VERSION))
    assert [version for version in range(-1, STATE_VERSION + 3) if can_migrate(version)] == [
        *range(OLDEST_VERSION, STATE_VERSION + 1),
    ]
    assert unreadable(2) == f"its rows are of version 2, and this program reads versions 3 to {STATE_VERSION}"

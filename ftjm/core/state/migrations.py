"""Migrations: rows of an earlier version become rows of this one, in the store that holds them.

A partition's log is trimmed, so a store cannot always be rebuilt from it. When the meaning of rows changes,
`STATE_VERSION` rises by one and this file gets one migration: for each kind of row that changes, a pure function from
a row, key and value, to the rows that replace it. `migrate` applies them to any rows; `migrate_store` rewrites a
store in place. A migration works on plain values and not on the structs of `model`: those will change again, and a
migration that was shipped must not.

The rule of a migration: it may be applied at any batch. Folding some batches by the old version, migrating, and
folding the remaining ones gives the same bytes as folding all by the old version and then migrating, and as folding all
by the new one. `tests/engine/test_migrated_histories.py` checks that over random histories. So standbys, snapshots and
the read model migrate whenever this program opens them, and need not agree on a moment.

**A crash in the middle.** A store is rewritten in bounded writes. Each is atomic, and after a crash the store holds
some first part of them:

    write 1    position: version 0 (MIGRATING)    cursor: from 3, next key k1    rows up to k1 migrated
    write 2                                       cursor: from 3, next key k2    rows from k1 to k2 migrated
    ...
    last       position: version 4                cursor deleted

and the same from 4 to 5 and on, until the rows are of this version.

A position of version 0 marks rows of mixed versions. No program uses them as they are: this one continues at the
cursor, so that no row is migrated twice, and an earlier one, which does not know version 0, rebuilds its store. No row
is migrated twice only if no migration reads a row that it has written. So a migration writes a row's own key, a key
before it (behind the cursor), or keys of a table that no migration of its version reads; `migrate_store` asserts it.

**The hash of the state.** `BatchClosed` carries the hash of the owner's state, chained to the hash before it, and the
version of the owner's rows. The link is always the hash that the log has for the batch before, whatever version
it is of: `Partition` puts the log's hash into its position after each batch, its own only where it is the owner. So

- the first batch of an owner of version 4 continues from the hash that the last owner, of version 3, wrote;
- a standby of version 4 folds a batch of an owner of version 3 without comparing, since its own rows hash otherwise,
  and continues from that owner's hash too. From the first batch of version 4 on it compares again;
- the migration itself is not part of the chain. It writes the same rows at whichever batch it is made, and a row that
  it had spoilt shows as soon as a batch changes it, as a row that a disk had spoilt.

The cost is one gap: batches of another version are not checked against their owner.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Protocol

import msgspec

from ftjm.core.state.model import STATE_VERSION, MigrationCursor
from ftjm.core.state.rows import Changes, Rows, first_key_after
from ftjm.core.state.tables import (
    JOBS,
    MIGRATION,
    MIGRATION_KEY,
    OUTBOX,
    PEERS,
    POSITION_KEY,
    QUEUE_DECLARATIONS,
    QUEUES,
    READY_JOBS,
    SCHEDULES,
    SPECS,
    load_position,
)

Migration = Callable[[bytes, bytes], Iterable[tuple[bytes, bytes]]]
"""A function from a row, key and value, to the rows that replace it in the next version."""
MIGRATING = 0
"""The version of a position while the store has rows of mixed versions."""
OLDEST_VERSION = 3
"""The oldest version that is migrated. An earlier store is rebuilt from a snapshot or the log."""
WRITE_ROWS_MAX = 2_000
"""Rows of one write."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class WritableRows(Rows, Protocol):
    """Rows that can be written."""

    def write(self, changes: Changes) -> None:
        """Write all of `changes`, or none."""


def _job_3(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The version of the content hash stands beside it.

    A program of version 3 kept the hash as the event had it. An event of a later program has the hash's version in
    front of the hash, as one byte more.
    """
    fields = _decode(value)
    packed = fields[8]
    if len(packed) > 16:
        fields[8] = packed[1:]
    yield key, _encode([*fields, packed[0] if len(packed) > 16 else 1])


def _message_3(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """One struct for each kind of message, in place of one that had the fields of all."""
    fields = _decode(value)
    kind, to, number, queue, job_id, attempt, run, lane, code, text, state, body, reply, grace_ms = fields
    yield (
        key,
        _encode(
            {
                1: lambda: [1, to, number, lane, queue, job_id, attempt],
                2: lambda: [2, to, number, lane, queue, job_id, attempt, code, grace_ms],
                3: lambda: [3, to, number, lane],
                4: lambda: [4, int(to), number, body, reply],
                5: lambda: [5, to, queue, job_id, run, code, text, state],
                6: lambda: [6, to, queue, job_id, run, state, code, attempt, text, body],
            }[kind]()
        ),
    )


def _queue_4(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """A queue without jobs has no row. A program of version 4 kept a row for each name that a queue ever had."""
    (counts,) = _decode(value)
    if any(counts):
        yield key, value


def _job_5(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The mark of an attempt that was sent ahead stands last. A program of version 5 sent none ahead."""
    yield key, _encode([*_decode(value), 0])


def _job_6(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """When the job became eligible, its score and its schedule stand last. A job that waits has the score of its
    priority alone, one point of which was worth any time of waiting."""
    fields = _decode(value)
    state, priority = fields[0], fields[6]
    yield key, _encode([*fields, 0, -priority * 315_360_000_000 if state == 4 else 0, ""])


def _ready_6(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The key holds share, shape, score and order behind the queue. It held 200 less the priority, and the order."""
    queue, _, place = key.partition(b"\0")
    score = -(200 - place[0]) * 315_360_000_000
    yield b"%b\0\0\0\0%b%b" % (queue, (score + (1 << 63)).to_bytes(8), place[1:]), value


def _job_7(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Concurrency key, share, charge, since when it is PENDING, and when its waiting is looked at stand last."""
    yield key, _encode([*_decode(value), "", "", 0, 0, 0])


def _spec_7(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Concurrency key and share stand last."""
    yield key, _encode([*_decode(value), "", ""])


def _declaration_7(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Weight, key concurrency, shares, waiting limits, dead letter and defaults stand last in the declaration."""
    revision, spec, *rest = _decode(value)
    yield key, _encode([revision, [*spec, 1, 1, "wait", [], 600_000, 0, [], 0, []], *rest])


def _queue_7(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Whether it has shares, and how many are active, stand last."""
    yield key, _encode([*_decode(value), False, 0])


def _schedule_7(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The template has the fields of every job, and behind it the names of those that are given, and a calendar. The
    calendar's revision and the backfill stand last."""
    revision, (job, *spec), *rest = _decode(value)
    yield key, _encode([revision, [[*job, "", ""], *spec, [], ""], *rest, 0, ""])


def _peer_7(key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """When it is asked for all resources stands last."""
    yield key, _encode([*_decode(value), 0])


MIGRATIONS: Mapping[int, Mapping[bytes, Migration]] = {
    3: {JOBS.prefix: _job_3, OUTBOX.prefix: _message_3},
    4: {QUEUES.prefix: _queue_4},
    5: {JOBS.prefix: _job_5},
    6: {JOBS.prefix: _job_6, READY_JOBS.prefix: _ready_6},
    7: {
        JOBS.prefix: _job_7,
        SPECS.prefix: _spec_7,
        QUEUES.prefix: _queue_7,
        QUEUE_DECLARATIONS.prefix: _declaration_7,
        SCHEDULES.prefix: _schedule_7,
        PEERS.prefix: _peer_7,
    },
}
"""The migrations, by the version that they start from and the prefix of the rows that they change."""


def can_migrate(version: int) -> bool:
    """Whether `migrate` takes rows of this version; those of this program's version it leaves as they are."""
    return OLDEST_VERSION <= version <= STATE_VERSION


def unreadable(version: int) -> str:
    """The reason, as text, why rows of a version that `can_migrate` refuses cannot be used."""
    return f"its rows are of version {version}, and this program reads versions {OLDEST_VERSION} to {STATE_VERSION}"


def migrate(rows: Iterable[tuple[bytes, bytes]], from_version: int) -> Iterator[tuple[bytes, bytes]]:
    """Rows of this program's version, made from rows of `from_version`, one at a time.

    The position is migrated like every row: it names the new version. Rows come in the order of the old ones, so they
    are sorted only if migrations keep keys, or their order.
    """
    for version in range(from_version, STATE_VERSION):
        rows = _step(rows, version)
    yield from rows


def _step(rows: Iterable[tuple[bytes, bytes]], version: int) -> Iterator[tuple[bytes, bytes]]:
    for key, value in rows:
        if key == POSITION_KEY:
            yield key, _encode(_with_version(value, version + 1))
        elif (migration := MIGRATIONS[version].get(key[:1])) is not None:
            yield from migration(key, value)
        else:
            yield key, value


def _with_version(position: bytes, version: int) -> list[Any]:
    """The position as its values. The version is the first of them in every version."""
    return [version, *_decode(position)[1:]]


def migrate_store(store: WritableRows) -> int | None:
    """Rewrite a store in place, until its rows are of this program's version.

    Every write is atomic and bounded. After a crash, the next call continues behind the store's last write.

    Args:
        store: rows of a version that `can_migrate` allows, or rows whose migration was broken off.

    Returns:
        The version that the rows were of; None if there was nothing to migrate.
    """
    began = None
    while (cursor := _cursor(store)) is not None:
        began = cursor.from_version if began is None else began
        _migrate_once(store, cursor)
    return began


def _cursor(store: Rows) -> MigrationCursor | None:
    """The cursor of the migration; None if the rows are of this version, or if there are none."""
    version = load_position(store).state_version
    if version == MIGRATING:
        found = store.get(MIGRATION_KEY)
        assert found is not None, "the position marks rows of mixed versions, but there is no cursor of the migration"
        return MIGRATION.decode(found)
    return None if version == STATE_VERSION else MigrationCursor(version, b"")


def _migrate_once(store: WritableRows, cursor: MigrationCursor) -> None:
    """Bring the rows from the cursor's version to the next."""
    version = cursor.from_version
    migrations = MIGRATIONS[version]
    position = store.get(POSITION_KEY)
    assert position is not None
    mixed = (POSITION_KEY, _encode(_with_version(position, MIGRATING)))
    while some := list(islice(_rows_from(store, cursor.next_key, migrations), WRITE_ROWS_MAX)):
        changes: dict[bytes, bytes | None] = dict.fromkeys(key for key, _ in some)
        for key, value in some:
            for new_key, new_value in migrations[key[:1]](key, value):
                again = new_key > key and new_key[:1] in migrations
                assert not again, "a migrated row would be migrated again"
                changes[new_key] = new_value
        cursor = MigrationCursor(version, some[-1][0] + b"\0")
        store.write([*changes.items(), (MIGRATION_KEY, _encode(cursor)), mixed])
    store.write([(MIGRATION_KEY, None), (POSITION_KEY, _encode(_with_version(position, version + 1)))])


def _rows_from(rows: Rows, start: bytes, prefixes: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for prefix in sorted(prefixes):
        end = first_key_after(prefix)
        if start < end:
            yield from rows.scan(max(start, prefix), end)

"""The tables of a partition's store: one for each kind of row.

A store is one sorted map of keys to values. The first byte of a key, the prefix, is the table of the row; the bytes
behind it name the row. Everything that reads or shows rows uses the declarations here: the state that `decide` and
`evolve` work on, the migrations, the read model, and `ftjm inspect state`.

| prefix and key | value | sorted so that |
|---|---|---|
| `A` resource, as `kind/name` | its `Adoption`, in the home of such resources | |
| `B` resource, as `kind/name` | a `KnownResource` | |
| `a` schedule, as `queue/name` | `Schedule` | |
| `b` queue/command_id | the `Bulk` of a request that has ended, for a day | |
| `c` request, as `JobRerun.command_id` names it | empty | |
| `d` kind, name | a `Process` | |
| `e` queue | `QueueDeclaration`, if it is declared | |
| `f` partition | `Peer` | |
| `g` queue | `QueueStatus`, if something is set for it | |
| `h` queue | `QueueRate`, if it has a rate and a job was started | |
| `i` queue, 0, share | `ShareUsage` | |
| `j` job | `Job` | |
| `k` job | `Checkpoint`, if the run left one | |
| `l` session, 0, job | empty: the session holds an attempt of the job | a session's attempts are side by side |
| `m` | `MigrationCursor`, while rows are migrated | |
| `n` backfill, as `queue/schedule/command_id` | `Backfill`, until a day after its end | |
| `o` number | an `OutboxMessage` | messages are sent in this order |
| `p` | `Position` | |
| `q` queue | `Queue`, if it has jobs | |
| `r` queue, 0, share, 0, shape, score, order | id of a READY job | jobs of a line are served in this order |
| `s` job | `JobSpec` | |
| `t` due time, kind, key, attempt | `Timer` | timers fall due in this order |
| `u` | `Finalized`, once an upgrade was finalised | |
| `v` job | `Outcome`, if the run left a result or an error | |
| `w` session | `Session` | |
| `x` | `Counters` | |
| `y` concurrency key, as `queue/key` | `ConcurrencyKey`, if jobs have or want it | |
| `z` queue, 0, concurrency key, 0, place, score, order | id of a job that has or wants it | who gets it next is first |

To add a kind of row: declare its table here with a prefix that was never used, read it in `StateView`, write it in
`State`, and raise `STATE_VERSION` with a migration only if rows that exist must change.
"""

from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from ftjm.core.state.backfills import Backfill
from ftjm.core.state.model import (
    Checkpoint,
    Counters,
    Finalized,
    Job,
    JobSpec,
    MigrationCursor,
    Outcome,
    Peer,
    Position,
    Session,
)
from ftjm.core.state.outbox import OutboxMessage
from ftjm.core.state.processes import Bulk, Process, ProcessKind
from ftjm.core.state.queues import ConcurrencyKey, Queue, QueueDeclaration, QueueRate, QueueStatus, ShareUsage
from ftjm.core.state.resources import Adoption, KnownResource
from ftjm.core.state.rows import Rows, first_key_after
from ftjm.core.state.schedules import Schedule
from ftjm.core.state.timers import Timer, TimerKind

Row = TypeVar("Row")
PLACE_BYTES = 16
"""Bytes of score and order, at the end of a key."""
SCORE_ZERO = 1 << 63
"""A key holds this number plus the score, so that negative scores sort first."""


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


def _pair(key: bytes) -> str:
    first, _, second = key.partition(b"\0")
    return f"{_text(first)} {_text(second)}"


def _number(key: bytes) -> str:
    return str(int.from_bytes(key))


def _ready(key: bytes) -> str:
    queue, _, rest = key.partition(b"\0")
    share, _, _ = rest.partition(b"\0")
    line = f"{_text(queue)} share {_text(share)}" if share else _text(queue)
    return f"{line} score {int.from_bytes(key[-16:-8]) - SCORE_ZERO} order {int.from_bytes(key[-8:])}"


def _inverted(number: int) -> int:
    """The number of 64 bits that sorts the other way round."""
    return (1 << 64) - 1 - number


def _key_job(key: bytes) -> str:
    queue, name, rest = key.split(b"\0", 2)
    place, order = KeyPlace(rest[0]), int.from_bytes(rest[-8:])
    return f"{_text(queue)} {_text(name)} {place.name} order {_inverted(order) if place is KeyPlace.READY else order}"


def _process(key: bytes) -> str:
    return f"{ProcessKind(key[0]).name} {_text(key[1:])}"


def _timer(key: bytes) -> str:
    return f"{int.from_bytes(key[:8])} {TimerKind(key[8]).name} {_text(key[9:-5])} attempt {int.from_bytes(key[-4:])}"


class KeyPlace(IntEnum):
    """How a job stands at its concurrency key. The numbers are part of the store's format."""

    PARKED = 0
    """It waits for the key."""
    READY = 1
    """It has the key, and waits for a slot."""
    LIVE = 2
    """It has the key and a worker."""


class Table(Generic[Row]):
    """The declaration of one kind of row."""

    def __init__(
        self,
        prefix: bytes,
        name: str,
        row: Any = None,
        *,
        for_readers: bool = False,
        hashed: bool = True,
        show_key: Callable[[bytes], str] = _text,
    ) -> None:
        """Declare a table.

        Args:
            prefix: one byte, the first of every key.
            name: the name of such a row in `ftjm inspect state`.
            row: type of the value; None where the value is plain bytes.
            for_readers: whether the read model keeps the rows, too. The others serve only the partition's owner.
            hashed: whether the rows are part of the state's hash.
            show_key: makes text of a key without its prefix.
        """
        self.prefix = prefix
        self.name = name
        self.end = first_key_after(prefix)
        """The first key behind all rows of the table."""
        self.for_readers = for_readers
        self.hashed = hashed
        self.show_key = show_key
        decode: Any = bytes if row is None else msgspec.msgpack.Decoder(row).decode
        self.decode: Callable[[bytes], Row] = decode
        """Decodes a stored value to a row. Raises msgspec.MsgspecError for bytes that are no such row."""


JOBS = Table[Job](b"j", "job", Job, for_readers=True)
SPECS = Table[JobSpec](b"s", "spec", JobSpec, for_readers=True)
OUTCOMES = Table[Outcome](b"v", "outcome", Outcome, for_readers=True)
CHECKPOINTS = Table[Checkpoint](b"k", "checkpoint", Checkpoint, for_readers=True)
READY_JOBS = Table[bytes](b"r", "ready", show_key=_ready)
TIMERS = Table[Timer](b"t", "timer", Timer, show_key=_timer)
OUTBOX = Table[OutboxMessage](b"o", "outbox", OutboxMessage, show_key=_number)
SESSIONS = Table[Session](b"w", "session", Session, for_readers=True)
HELD_ATTEMPTS = Table[bytes](b"l", "held", show_key=_pair)
QUEUES = Table[Queue](b"q", "queue", Queue, for_readers=True)
QUEUE_STATUS = Table[QueueStatus](b"g", "queue_status", QueueStatus, for_readers=True)
QUEUE_DECLARATIONS = Table[QueueDeclaration](b"e", "queue_declaration", QueueDeclaration, for_readers=True)
QUEUE_RATES = Table[QueueRate](b"h", "queue_rate", QueueRate, for_readers=True)
SHARES = Table[ShareUsage](b"i", "share", ShareUsage, for_readers=True, show_key=_pair)
SCHEDULES = Table[Schedule](b"a", "schedule", Schedule, for_readers=True)
CONCURRENCY_KEYS = Table[ConcurrencyKey](b"y", "concurrency_key", ConcurrencyKey, for_readers=True)
KEY_JOBS = Table[bytes](b"z", "key_job", show_key=_key_job)
ADOPTIONS = Table[Adoption](b"A", "adoption", Adoption, for_readers=True)
RESOURCES = Table[KnownResource](b"B", "resource", KnownResource, for_readers=True)
BULK_RESULTS = Table[Bulk](b"b", "bulk_result", Bulk, for_readers=True)
BACKFILLS = Table[Backfill](b"n", "backfill", Backfill, for_readers=True)
PROCESSES = Table[Process](b"d", "process", Process, for_readers=True, show_key=_process)
PEERS = Table[Peer](b"f", "peer", Peer, for_readers=True)
COMMAND_IDS = Table[bytes](b"c", "command_id")
COUNTERS = Table[Counters](b"x", "counters", Counters, for_readers=True)
FINALIZED = Table[Finalized](b"u", "finalized", Finalized, for_readers=True)
POSITION = Table[Position](b"p", "position", Position, for_readers=True, hashed=False)
MIGRATION = Table[MigrationCursor](b"m", "migration", MigrationCursor, hashed=False)

TABLES: tuple[Table[Any], ...] = (
    JOBS,
    SPECS,
    OUTCOMES,
    CHECKPOINTS,
    READY_JOBS,
    TIMERS,
    OUTBOX,
    SESSIONS,
    HELD_ATTEMPTS,
    QUEUES,
    QUEUE_STATUS,
    QUEUE_DECLARATIONS,
    QUEUE_RATES,
    CONCURRENCY_KEYS,
    KEY_JOBS,
    SHARES,
    SCHEDULES,
    BACKFILLS,
    ADOPTIONS,
    RESOURCES,
    PROCESSES,
    BULK_RESULTS,
    PEERS,
    COMMAND_IDS,
    COUNTERS,
    FINALIZED,
    POSITION,
    MIGRATION,
)
OWNER_PREFIXES = b"".join(table.prefix for table in TABLES if not table.for_readers)
"""Prefixes of the tables that only a partition's owner reads. The read model keeps none of their rows."""

POSITION_KEY = POSITION.prefix
FINALIZED_KEY = FINALIZED.prefix
MIGRATION_KEY = MIGRATION.prefix
_READY, _TIMER, _OUTBOX = READY_JOBS.prefix, TIMERS.prefix, OUTBOX.prefix


def lines_key(queue: str) -> bytes:
    """The first part of the keys of all READY jobs of a queue."""
    return b"%b%b\0" % (_READY, queue.encode())


@lru_cache(maxsize=1_024)
def line_key(queue: str, share: str = "") -> bytes:
    """The first part of the keys of a line: the READY jobs of a queue that belong to one share, and are of one shape.
    All jobs are of shape number 0."""
    return b"%b%b\0%b\0\0\0" % (_READY, queue.encode(), share.encode())


def ready_key(queue: str, score: int, order: int, share: str = "") -> bytes:
    """The key of a READY job. Keys of a line sort as its jobs are served: by score, then by order."""
    return b"%b%b%b" % (line_key(queue, share), (score + SCORE_ZERO).to_bytes(8), order.to_bytes(8))


def share_name(queue: str, share: str) -> str:
    """The name of a share's row: its key without the table's prefix."""
    return f"{queue}\0{share}"


def key_line(queue: str, key: str, place: KeyPlace) -> bytes:
    """The first part of the keys of rows of the jobs that have this place at a concurrency key."""
    return b"%b%b\0%b\0%c" % (KEY_JOBS.prefix, queue.encode(), key.encode(), place)


def key_job_key(queue: str, key: str, place: KeyPlace, score: int, order: int) -> bytes:
    """The key of a job's row at its concurrency key. PARKED ones sort as they get the key, and READY ones as they give
    it up: the last of the queue first."""
    rank = score + SCORE_ZERO, order
    if place is KeyPlace.READY:
        rank = _inverted(rank[0]), _inverted(order)
    return b"%b%b%b" % (key_line(queue, key, place), rank[0].to_bytes(8), rank[1].to_bytes(8))


def process_key(kind: ProcessKind, name: str) -> bytes:
    """The key of a process."""
    return b"%b%c%b" % (PROCESSES.prefix, kind, name.encode())


def timer_key(timer: Timer) -> bytes:
    """The key of a timer. Keys sort as timers fall due."""
    return b"%b%b%c%b\0%b" % (
        _TIMER,
        timer.due_at.to_bytes(8),
        timer.kind,
        timer.key.encode(),
        timer.attempt.to_bytes(4),
    )


def outbox_key(number: int) -> bytes:
    """The key of an outbox message. Keys sort as messages are sent."""
    return _OUTBOX + number.to_bytes(8)


def load_position(rows: Rows) -> Position:
    """The position of the rows in their log; a fresh `Position` if there are no rows."""
    raw = rows.get(POSITION.prefix)
    return Position() if raw is None else POSITION.decode(raw)


def load_finalized(rows: Rows) -> Finalized:
    """The versions that an upgrade has made final, read from rows of any version."""
    raw = rows.get(FINALIZED.prefix)
    return Finalized() if raw is None else FINALIZED.decode(raw)

"""A partition's state as `decide` sees it: everything can be read, nothing can be written.

Everything that grows with the number of jobs is a sorted key, and is read from a remembered cursor. So the memory that
a state takes does not depend on the number of jobs: it holds the rows that the current batch changed, and a bounded
cache.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from ftjm.core.state.backfills import Backfill
from ftjm.core.state.model import STATE_VERSION, Checkpoint, Counters, Job, JobSpec, Outcome, Peer, Session, job_key
from ftjm.core.state.outbox import OutboxMessage
from ftjm.core.state.processes import Bulk, Process, ProcessKind
from ftjm.core.state.queues import ConcurrencyKey, Queue, QueueDeclaration, QueueRate, QueueStatus, ShareUsage
from ftjm.core.state.ready_lines import ReadyLines
from ftjm.core.state.resource_rows import ResourceRows
from ftjm.core.state.row_cache import Row, RowCache
from ftjm.core.state.rows import Rows, first_key_after
from ftjm.core.state.schedules import Schedule
from ftjm.core.state.tables import (
    BACKFILLS,
    BULK_RESULTS,
    CHECKPOINTS,
    COMMAND_IDS,
    CONCURRENCY_KEYS,
    COUNTERS,
    HELD_ATTEMPTS,
    JOBS,
    OUTBOX,
    OUTCOMES,
    PEERS,
    PROCESSES,
    QUEUE_DECLARATIONS,
    QUEUE_RATES,
    QUEUE_STATUS,
    QUEUES,
    SCHEDULES,
    SESSIONS,
    SHARES,
    SPECS,
    TIMERS,
    Table,
    load_finalized,
    load_position,
    outbox_key,
    process_key,
    share_name,
    timer_key,
)
from ftjm.core.state.timers import Timer, TimerKind

# Read once: an attribute of an object costs more than a global at each of a batch's thousand accesses.
SPEC, OUTCOME, CHECKPOINT = SPECS.prefix, OUTCOMES.prefix, CHECKPOINTS.prefix
COMMAND_ID, HELD, TIMER = COMMAND_IDS.prefix, HELD_ATTEMPTS.prefix, TIMERS.prefix

CACHED_SPECS_MAX = 1_000
CACHED_SPEC_BYTES_MAX = 512
"""A spec may hold a payload of hundreds of kilobytes, so only small ones are cached. A decoded one takes up to twenty
times as much, with many short arguments: 10 MB of a partition at most."""


class StateView(ReadyLines, ResourceRows):
    """Reads through to `rows`, with the changes of the current batch on top.

    `decide` and placement take this type, so that mypy refuses a decision that writes. `State` adds the writers.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.position = load_position(rows)
        version = self.position.state_version
        assert version == STATE_VERSION, f"rows of version {version}, which must be migrated first"
        self._caches: list[RowCache[Any]] = []
        self._jobs = self._cache(JOBS)
        self._sessions = self._cache(SESSIONS)
        self._queues = self._cache(QUEUES)
        # Attributes, because a method of one line takes several times as long, and each event reads several rows.
        self.job: Callable[[str], Job | None] = self._jobs.__getitem__
        """The job of this key, or None if there is none. Only `evolve` may change it."""
        self.session: Callable[[str], Session | None] = self._sessions.__getitem__
        """The worker's session of this name, or None if the partition does not know it."""
        self.queue: Callable[[str], Queue | None] = self._queues.__getitem__
        """The counts of the queue of this name, or None if it has no job."""
        self._queue_status = self._cache(QUEUE_STATUS)
        self.queue_status: Callable[[str], QueueStatus | None] = self._queue_status.__getitem__
        """What was set for the queue of this name; None if nothing was: then it is not paused."""
        self._declarations = self._cache(QUEUE_DECLARATIONS)
        self.declaration: Callable[[str], QueueDeclaration | None] = self._declarations.__getitem__
        """The declaration of the queue of this name; None if it is not declared."""
        self._rates = self._cache(QUEUE_RATES)
        self.queue_rate: Callable[[str], QueueRate | None] = self._rates.__getitem__
        """How much of its rate the queue of this name has used; None if that is nothing."""
        self._shares = self._cache(SHARES)
        self._keys = self._cache(CONCURRENCY_KEYS)
        self.concurrency_key: Callable[[str], ConcurrencyKey | None] = self._keys.__getitem__
        """The concurrency key of this name, `queue/key`; None if no job has or wants it. Only `evolve` changes it."""
        self._schedules = self._cache(SCHEDULES)
        self.schedule: Callable[[str], Schedule | None] = self._schedules.__getitem__
        """The schedule of this key, `queue/name`; None if there is none. Only `evolve` may change it."""
        self._peers = self._cache(PEERS)
        self._counters = self._cache(COUNTERS)
        self._specs: dict[str, JobSpec] = {}
        """Specs that were read lately: placement reads one, and the outbox reads it again behind the commit."""
        self.key_heads: dict[bytes, bytes] = {}
        """The key from which the jobs that wait for a concurrency key are read, by the first part of their keys."""
        self._processes: list[tuple[ProcessKind, str]] | None = None
        """What `processes` returns; None if the rows were not read yet."""
        self._open: dict[str, Session] = {}
        self._timer_head = TIMER
        """The key from which timers are read: none that may fire is set before it."""
        self._head_may_fire = False
        """Whether `_timer_head` is the key of the first timer that may fire, or behind all timers if there is none.
        Then timers need not be read to know that none is due, and when the next one is."""
        self._set_aside: dict[bytes, Timer] = {}
        """Timers of lost sessions that still hold attempts, by their keys. Each waits for the end of these attempts, so
        that the other timers are read from behind it."""
        self.counters = self._counters[""] or Counters()
        self.finalized = load_finalized(rows)

    def _cache(self, table: Table[Row]) -> RowCache[Row]:
        """A cache of the table's rows, which is written with all others when a batch ends."""
        cache = RowCache(self.rows, table)
        self._caches.append(cache)
        return cache

    # -- single rows

    def peer(self, partition: int) -> Peer:
        """The numbers of messages to and from another partition."""
        return self._peers[str(partition)] or Peer()

    def share(self, queue: str, share: str) -> ShareUsage | None:
        """What a share of the queue has used; None if it has no row."""
        return self._shares[share_name(queue, share)]

    def spec(self, key: str) -> JobSpec:
        """The job's spec, as it was submitted. The job must exist."""
        known = self._specs.get(key)
        if known is not None:
            return known
        raw = self._get(SPEC + key.encode())
        assert raw is not None, f"{key} has no spec"
        spec = SPECS.decode(raw)
        if len(raw) <= CACHED_SPEC_BYTES_MAX:
            if len(self._specs) >= CACHED_SPECS_MAX:
                self._specs.clear()
            self._specs[key] = spec
        return spec

    def outcome(self, key: str) -> Outcome:
        """The outcome of the job's run; an empty `Outcome` if the run left none."""
        raw = self._get(OUTCOME + key.encode())
        return Outcome() if raw is None else OUTCOMES.decode(raw)

    def checkpoint(self, key: str) -> Checkpoint:
        """The newest checkpoint of the job's run; an empty `Checkpoint` if the run has reported none."""
        raw = self._get(CHECKPOINT + key.encode())
        return Checkpoint() if raw is None else CHECKPOINTS.decode(raw)

    def remembers(self, request: str) -> bool:
        """Whether a request of this name was carried out in the last 24 h."""
        return self._get(COMMAND_ID + request.encode()) is not None

    def process(self, kind: ProcessKind, name: str) -> Process | None:
        """The process of this kind and name; None if it is not under way."""
        raw = self._get(process_key(kind, name))
        return None if raw is None else PROCESSES.decode(raw)

    def bulk_result(self, name: str) -> Bulk | None:
        """What has become of the bulk request of this name; None if that is not known, or if it has not ended."""
        raw = self._get(BULK_RESULTS.prefix + name.encode())
        return None if raw is None else BULK_RESULTS.decode(raw)

    def backfill(self, name: str) -> Backfill | None:
        """The backfill of this name, `queue/schedule/command_id`; None if it is not known, or no longer."""
        raw = self._get(BACKFILLS.prefix + name.encode())
        return None if raw is None else BACKFILLS.decode(raw)

    # -- ranges of rows

    def job_keys(self, queue: str, start: str) -> Iterator[str]:
        """Keys of a queue's jobs by their ids, from the id `start` on."""
        first = JOBS.prefix + job_key(queue, "").encode()
        for key, _ in self.scan(first + start.encode(), first_key_after(first)):
            yield key[1:].decode()

    def schedule_keys(self, start: str) -> Iterator[str]:
        """Keys of the schedules, `queue/name`, from one on."""
        for key, _ in self.scan(SCHEDULES.prefix + start.encode(), SCHEDULES.end):
            yield key[1:].decode()

    def processes(self) -> list[tuple[ProcessKind, str]]:
        """Kinds and names of the processes that were under way behind the last batch that was written."""
        if self._processes is None:
            found = self.rows.scan(PROCESSES.prefix, PROCESSES.end)
            self._processes = [(ProcessKind(key[1]), key[2:].decode()) for key, _ in found]
        return self._processes

    def has_timer(self, timer: Timer) -> bool:
        """Whether the timer is set."""
        return self._get(timer_key(timer)) is not None

    def due(self, now: int) -> Iterator[Timer]:
        """Timers that are due at `now` (ms) and may fire, oldest first."""
        return self._timers(TIMER + (now + 1).to_bytes(8))

    def next_due(self) -> int | None:
        """When the next timer that may fire is due, ms; None if there is none."""
        self._take_back_timers()
        if not self._head_may_fire:
            next(self._timers(TIMERS.end), None)
        return None if self._timer_head == TIMERS.end else int.from_bytes(self._timer_head[1:9])

    def _timers(self, end: bytes) -> Iterator[Timer]:
        """Timers before `end`. The timer that forgets a session is left out while the session holds attempts.

        The first timer is found even if it is not before `end`, so that it is not searched for again until it is due.
        """
        self._take_back_timers()
        if self._timer_head >= end:
            return
        first = True
        for key, raw in self.scan(self._timer_head, TIMERS.end):
            timer = TIMERS.decode(raw)
            if self._holds_attempts(timer):
                self._set_aside[key] = timer
                continue
            if first:
                self._timer_head, self._head_may_fire, first = key, True, False
            if key >= end:
                return
            yield timer
        if first:
            self._timer_head, self._head_may_fire = TIMERS.end, True

    def _take_back_timers(self) -> None:
        """Read the timers again that were set aside, and whose sessions hold no attempt any more."""
        for key, timer in list(self._set_aside.items()):
            if not self._holds_attempts(timer):
                del self._set_aside[key]
                if key < self._timer_head:
                    # Perhaps it was cleared meanwhile, so it is read.
                    self._timer_head, self._head_may_fire = key, False

    def _holds_attempts(self, timer: Timer) -> bool:
        session = self.session(timer.key) if timer.kind is TimerKind.SESSION else None
        return session is not None and session.live > 0

    def attempts(self, session: str) -> Iterator[str]:
        """Keys of the jobs whose attempts the session holds."""
        prefix = b"%b%b\0" % (HELD, session.encode())
        for key, _ in self.scan(prefix, first_key_after(prefix)):
            yield key[len(prefix) :].decode()

    def held_attempts(self, session: str, job: str) -> Iterator[tuple[str, str]]:
        """All attempts that sessions hold, each as its session and the key of its job, by these, from one on."""
        for key, _ in self.scan(b"%b%b\0%b" % (HELD, session.encode(), job.encode()), HELD_ATTEMPTS.end):
            holder, _, held = key[1:].decode().partition("\0")
            yield holder, held

    def open_sessions(self) -> Mapping[str, Session]:
        """Sessions that were not given up, or still hold attempts, as of the last batch that was written.

        Those that are over are remembered for a day, so there may be many more of them: they are not read again.
        """
        news = self._sessions.take_news()
        if news is None:
            rows = self.rows.scan(SESSIONS.prefix, SESSIONS.end)
            self._open = {key[1:].decode(): row for key, raw in rows if _is_open(row := SESSIONS.decode(raw))}
            return self._open
        for name in sorted(news):  # so that each process walks through them in the same order
            session = self._sessions[name]
            if session is not None and _is_open(session):
                self._open[name] = session
            else:
                self._open.pop(name, None)
        return self._open

    def queues(self) -> Iterator[tuple[str, Queue]]:
        """All queues as of the last batch that was written."""
        for key, raw in self.rows.scan(QUEUES.prefix, QUEUES.end):
            yield key[1:].decode(), QUEUES.decode(raw)

    def paused_queues(self) -> Iterator[str]:
        """Names of the queues that are paused as of the last batch that was written."""
        yield from (key[1:].decode() for key, _ in self.rows.scan(QUEUE_STATUS.prefix, QUEUE_STATUS.end))

    def declared_queues(self) -> Iterator[str]:
        """Names of the queues that are declared as of the last batch that was written."""
        yield from (key[1:].decode() for key, _ in self.rows.scan(QUEUE_DECLARATIONS.prefix, QUEUE_DECLARATIONS.end))

    def changed_queues(self) -> Set[str] | None:
        """Names of queues of which a row was written or deleted since the last call; None at the first call, when all
        are new. For one caller."""
        news = [cache.take_news() for cache in (self._queues, self._queue_status, self._declarations)]
        return None if None in news else set().union(*filter(None, news))

    def outbox(self, sent: int) -> Iterator[tuple[int, OutboxMessage]]:
        """Messages with a number above `sent`, in order."""
        for key, raw in self.scan(outbox_key(sent + 1), OUTBOX.end):
            yield int.from_bytes(key[1:]), OUTBOX.decode(raw)


def _is_open(session: Session) -> bool:
    return not session.lost or session.live > 0

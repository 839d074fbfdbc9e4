"""A partition's state as `evolve` writes it.

A batch's changes stay in memory until the batch is sealed, committed to the log and written to the store:

    evolve(state, event) ...        rows change in memory
    changes, hash = state.seal()    the rows to write, and the hash for `BatchClosed`
    store.write(changes)            rows and position in one write
    state.written()                 the state begins the next batch

If the commit fails, the changes must not be used: the whole State is dropped, and a new one is made from the store.

The state's hash is a chain: the hash of the hash before and of all rows that the batch changed, in the order of their
keys. So two stores of one log that ever differed in a row have different hashes from then on. The position is not part
of it. `ftjm.core.state.migrations` describes how the chain continues when the version of the rows rises.
"""

from collections.abc import Callable
from hashlib import blake2b

from ftjm.core.state.backfills import Backfill
from ftjm.core.state.model import Checkpoint, Finalized, Job, JobSpec, Outcome, Peer, Session
from ftjm.core.state.outbox import OutboxMessage
from ftjm.core.state.processes import Bulk, Process, ProcessKind
from ftjm.core.state.queues import ConcurrencyKey, Queue, QueueDeclaration, QueueRate, QueueStatus, ShareUsage
from ftjm.core.state.resources import Adoption, KnownResource
from ftjm.core.state.row_cache import CACHE_ROWS_MAX, encode
from ftjm.core.state.rows import Changes, Rows
from ftjm.core.state.schedules import Schedule
from ftjm.core.state.tables import (
    ADOPTIONS,
    BACKFILLS,
    BULK_RESULTS,
    FINALIZED_KEY,
    PLACE_BYTES,
    RESOURCES,
    KeyPlace,
    key_job_key,
    outbox_key,
    process_key,
    ready_key,
    share_name,
    timer_key,
)
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.core.state.view import CHECKPOINT, COMMAND_ID, HELD, OUTCOME, SPEC, StateView


class State(StateView):
    """A `StateView` that can also be changed. Only `evolve` and the engine around it use this type."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._fresh: set[bytes] = set()
        """Keys that the batch inserted and that the store does not have."""
        self._processes_changed: dict[tuple[ProcessKind, str], bool] = {}
        """Processes that the batch has begun or advanced, and (False) those that it has ended."""
        self.unsettled_keys: dict[tuple[str, str], list[str]] = {}
        """Queue and concurrency key of which other jobs should perhaps have the key than do, with the jobs (by their
        keys) that have just found it taken. `decide` looks at them behind each decision: see `core/decide/keys.py`."""
        self.pushed: list[tuple[int, OutboxMessage]] = []
        """Outbox messages of the batch with their numbers, to be sent once it is committed."""
        # Attributes, as those of `StateView` that read.
        self.save_job: Callable[[str, Job], None] = self._jobs.save
        """Write the job of this key when the batch ends."""
        self.save_session: Callable[[str, Session], None] = self._sessions.save
        """Write the session of this name when the batch ends."""
        self.save_queue: Callable[[str, Queue], None] = self._queues.save
        """Write the counts of the queue of this name when the batch ends."""
        self.save_queue_status: Callable[[str, QueueStatus], None] = self._queue_status.save
        """Write what was set for the queue of this name when the batch ends."""
        self.save_declaration: Callable[[str, QueueDeclaration], None] = self._declarations.save
        """Write the declaration of the queue of this name when the batch ends."""
        self.save_queue_rate: Callable[[str, QueueRate], None] = self._rates.save
        """Write how much of its rate the queue of this name has used when the batch ends."""
        self.save_concurrency_key: Callable[[str, ConcurrencyKey], None] = self._keys.save
        """Write how many jobs have and want the concurrency key of this name when the batch ends."""
        self.save_schedule: Callable[[str, Schedule], None] = self._schedules.save
        """Write the schedule of this key when the batch ends."""

    # -- rows that are changed in place, and encoded once a batch

    def drop_job(self, key: str) -> None:
        """Delete the job, its spec and its outcome."""
        self._changes[self._jobs.drop(key)] = None
        self._changes[SPEC + key.encode()] = None
        self._specs.pop(key, None)
        self.drop_outcome(key)

    def drop_session(self, session: str) -> None:
        """Delete the session."""
        self._changes[self._sessions.drop(session)] = None

    def drop_queue(self, queue: str) -> None:
        """Delete the counts of a queue that has no job any more."""
        self._changes[self._queues.drop(queue)] = None

    def drop_queue_status(self, queue: str) -> None:
        """Delete what was set for a queue."""
        self._changes[self._queue_status.drop(queue)] = None

    def drop_declaration(self, queue: str) -> None:
        """Delete a queue's declaration."""
        self._changes[self._declarations.drop(queue)] = None

    def drop_queue_rate(self, queue: str) -> None:
        """Forget how much of its rate a queue has used."""
        self._changes[self._rates.drop(queue)] = None

    def drop_concurrency_key(self, name: str) -> None:
        """Delete the row of a concurrency key that no job has or wants any more."""
        self._changes[self._keys.drop(name)] = None

    def save_share(self, queue: str, share: str, row: ShareUsage) -> None:
        """Write what a share of the queue has used when the batch ends."""
        self._shares.save(share_name(queue, share), row)

    def drop_share(self, queue: str, share: str) -> None:
        """Forget what a share of the queue has used."""
        self._changes[self._shares.drop(share_name(queue, share))] = None

    def drop_schedule(self, key: str) -> None:
        """Delete the schedule."""
        self._changes[self._schedules.drop(key)] = None

    def save_peer(self, partition: int, row: Peer) -> None:
        """Write the numbers of messages when the batch ends."""
        self._peers.save(str(partition), row)

    def save_counters(self) -> None:
        """Write `counters`, which the caller has changed."""
        self._counters.save("", self.counters)

    # -- rows that are encoded at once

    def save_finalized(self, finalized: Finalized) -> None:
        """Write the versions that an upgrade has made final."""
        self.finalized = finalized
        self._changes[FINALIZED_KEY] = encode(finalized)

    def save_process(self, kind: ProcessKind, name: str, process: Process) -> None:
        """Begin a process, or write how far it has come."""
        self._processes_changed[kind, name] = True
        self._changes[process_key(kind, name)] = encode(process)

    def drop_process(self, kind: ProcessKind, name: str) -> None:
        """End a process."""
        self._processes_changed[kind, name] = False
        self._changes[process_key(kind, name)] = None

    @property
    def has_processes(self) -> bool:
        """Whether a process is under way behind what the batch has changed so far."""
        known, changed = self.processes(), self._processes_changed
        if not changed:
            return bool(known)
        return any(changed.values()) or any(changed.get(name, True) for name in known)

    def save_adoption(self, key: str, adoption: Adoption) -> None:
        """Write which partitions have the resource of this key."""
        self._changes[ADOPTIONS.prefix + key.encode()] = encode(adoption)

    def drop_adoption(self, key: str) -> None:
        """Forget a resource that is deleted everywhere."""
        self._changes[ADOPTIONS.prefix + key.encode()] = None

    def save_resource(self, key: str, resource: KnownResource) -> None:
        """Write a resource that every partition must know."""
        self._changes[RESOURCES.prefix + key.encode()] = encode(resource)
        self._known = None

    def drop_resource(self, key: str) -> None:
        """Delete a resource that every partition must know."""
        self._changes[RESOURCES.prefix + key.encode()] = None
        self._known = None

    def save_bulk_result(self, name: str, result: Bulk) -> None:
        """Write what has become of a bulk request."""
        self._changes[BULK_RESULTS.prefix + name.encode()] = encode(result)

    def drop_bulk_result(self, name: str) -> None:
        """Delete what has become of a bulk request, if it is there."""
        if self._get(key := BULK_RESULTS.prefix + name.encode()) is not None:
            self._changes[key] = None

    def save_backfill(self, name: str, backfill: Backfill) -> None:
        """Write how far a backfill has come."""
        self._changes[BACKFILLS.prefix + name.encode()] = encode(backfill)

    def drop_backfill(self, name: str) -> None:
        """Delete what has become of a backfill, if it is there."""
        if self._get(key := BACKFILLS.prefix + name.encode()) is not None:
            self._changes[key] = None

    def save_spec(self, key: str, spec: JobSpec) -> None:
        """Write a job's spec."""
        self._specs.pop(key, None)
        self._changes[SPEC + key.encode()] = encode(spec)

    def save_outcome(self, key: str, outcome: Outcome) -> None:
        """Write the outcome of a job's run."""
        self._changes[OUTCOME + key.encode()] = encode(outcome)

    def drop_outcome(self, key: str) -> None:
        """Delete the outcome, if there is one."""
        row = OUTCOME + key.encode()
        if self._get(row) is not None:
            self._remove(row)

    def save_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        """Write the checkpoint of a job's run."""
        self._changes[CHECKPOINT + key.encode()] = encode(checkpoint)

    def drop_checkpoint(self, key: str) -> None:
        """Delete the checkpoint of a job's run."""
        self._remove(CHECKPOINT + key.encode())

    def remember(self, request: str) -> None:
        """Remember the name of a request that was carried out."""
        self._changes[COMMAND_ID + request.encode()] = b""

    def forget(self, request: str) -> None:
        """Forget the name of a request."""
        self._changes[COMMAND_ID + request.encode()] = None

    # -- indexes: sorted keys that come and go

    def _insert(self, key: bytes, value: bytes) -> None:
        if key not in self._changes:
            self._fresh.add(key)
        self._changes[key] = value

    def _remove(self, key: bytes) -> None:
        if key in self._fresh:
            # The key came in this batch, so the store needs no tombstone for it.
            self._fresh.remove(key)
            del self._changes[key]
        else:
            self._changes[key] = None

    def add_ready(self, queue: str, job_id: str, score: int, order: int, share: str = "") -> None:
        """Put a job into its line."""
        key = ready_key(queue, score, order, share)
        self._insert(key, job_id.encode())
        if self._heads or self._first:  # the partition's owner has read lines
            self._added_ready(queue, share, key, (score, order, job_id))

    def remove_ready(self, queue: str, score: int, order: int, share: str = "") -> None:
        """Take a job out of its line."""
        self._remove(ready_key(queue, score, order, share))
        if self._first:
            self._removed_ready(queue, share, order)

    def add_key_job(self, key: str, concurrency_key: str, place: KeyPlace, score: int, order: int) -> None:
        """Note how the job (`queue/job_id`) stands at its concurrency key."""
        queue, _, job_id = key.partition("/")
        row_key = key_job_key(queue, concurrency_key, place, score, order)
        self._insert(row_key, job_id.encode())
        line = row_key[:-PLACE_BYTES]
        if row_key < self.key_heads.get(line, b""):
            self.key_heads[line] = row_key

    def remove_key_job(self, key: str, concurrency_key: str, place: KeyPlace, score: int, order: int) -> None:
        """Delete the note of `add_key_job`."""
        self._remove(key_job_key(key.partition("/")[0], concurrency_key, place, score, order))

    def take_unsettled_keys(self) -> dict[tuple[str, str], list[str]]:
        """`unsettled_keys`, which is empty then."""
        found, self.unsettled_keys = self.unsettled_keys, {}
        return found

    def set_timer(self, timer: Timer) -> None:
        """Set a timer."""
        key = timer_key(timer)
        self._insert(key, encode(timer))
        if key <= self._timer_head:
            # A lost session's timer does not fire while the session holds attempts, so it is read first.
            self._timer_head, self._head_may_fire = key, timer.kind is not TimerKind.SESSION

    def clear_timer(self, timer: Timer) -> None:
        """Remove a timer. It does not have to be set."""
        key = timer_key(timer)
        self._remove(key)
        if key == self._timer_head:
            self._head_may_fire = False

    def hold_attempt(self, session: str, key: str) -> None:
        """Note that the session holds an attempt of the job."""
        self._insert(b"%b%b\0%b" % (HELD, session.encode(), key.encode()), b"")

    def drop_attempt(self, session: str, key: str) -> None:
        """Note that the session holds no attempt of the job any more."""
        self._remove(b"%b%b\0%b" % (HELD, session.encode(), key.encode()))

    def push(self, message: OutboxMessage) -> None:
        """Put a message into the outbox under the next number."""
        self.counters.outbox += 1
        self.save_counters()
        self._insert(outbox_key(self.counters.outbox), encode(message))
        self.pushed.append((self.counters.outbox, message))

    def drop_sent(self, before: int, sent: int) -> None:
        """Delete the outbox messages with numbers above `before` and up to `sent`."""
        for number in range(before + 1, sent + 1):
            self._remove(outbox_key(number))

    # -- the end of a batch

    @property
    def size(self) -> int:
        """About how many rows the batch changes so far."""
        jobs, sessions, queues = self._jobs.changed, self._sessions.changed, self._queues.changed
        return len(self._changes) + len(jobs) + len(sessions) + len(queues) + len(self._schedules.changed)

    def seal(self) -> tuple[Changes, bytes]:
        """Encode the rows that the batch changed.

        Returns:
            The rows, in the order of their keys, and the hash of the state that they lead to.
        """
        changes = self._changes
        for cache in self._caches:
            if cache.changed:
                cache.seal(changes)
        ordered = sorted(changes.items())
        return ordered, blake2b(self.position.state_hash + encode(ordered), digest_size=16).digest()

    def written(self) -> None:
        """The sealed changes are in the store now. Begin the next batch; decoded rows stay as a cache."""
        self._changes = {}
        self._fresh = set()
        self.pushed = []
        self.unsettled_keys = {}  # of a reader, which decides nothing
        if self._processes_changed:
            self._processes_changed = {}
            self._processes = None
        for cache in self._caches:
            if cache.changed or cache.dropped:
                cache.written()
            if len(cache) > CACHE_ROWS_MAX:
                cache.clear()

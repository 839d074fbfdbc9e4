"""One partition's state: rows under sorted keys, and the drafts of those that a batch changes.

Everything that grows with the backlog is a sorted key, read from a remembered cursor; memory holds the drafts
of one batch and a bounded cache.
"""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any

from ftjm.core.keys import COUNTERS_KEY, POSITION_KEY, TOP, Rows, after, outbox_key, ready_key, timer_key
from ftjm.core.model import (
    Checkpoint,
    Counters,
    Job,
    JobSpec,
    Message,
    Outcome,
    Peer,
    Position,
    Queue,
    Session,
    Timer,
)
from ftjm.core.rows import Drafts, decoders, encode

Changes = list[tuple[bytes, bytes | None]]


def load_position(rows: Rows) -> Position:
    """Where the rows stand; a fresh `Position` if they are empty."""
    raw = rows.get(POSITION_KEY)
    found: Position = Position() if raw is None else decoders[Position](raw)
    return found


class State:
    """Reads through to `rows`, and keeps what a batch changes until it is sealed and written.

    Only `evolve` writes to it. A batch that could not be committed leaves drafts that nobody may use: the whole
    State is then dropped and made anew.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.position = load_position(rows)
        self._jobs = Drafts(rows, b"j", Job)
        self._sessions = Drafts(rows, b"w", Session)
        self._queues = Drafts(rows, b"q", Queue)
        self._peers = Drafts(rows, b"f", Peer)
        self._counters = Drafts(rows, COUNTERS_KEY, Counters)
        self._drafts: tuple[Drafts[Any], ...] = (self._jobs, self._sessions, self._queues, self._peers, self._counters)
        self._changes: dict[bytes, bytes | None] = {}
        self._fresh: set[bytes] = set()
        self._heads: dict[str, dict[int, bytes]] = {}
        self._timer_head = b"t"
        self.pushed: list[tuple[int, Message]] = []
        """Outbox entries of the batch, to be sent once it is committed."""
        self.counters = self._counters[""] or Counters()

    # -- drafts: rows that are read, changed in place, and encoded once a batch

    def job(self, key: str) -> Job | None:
        return self._jobs[key]

    def save_job(self, key: str, job: Job) -> None:
        self._jobs.save(key, job)

    def drop_job(self, key: str) -> None:
        self._changes[self._jobs.drop(key)] = None
        self._changes[b"s" + key.encode()] = None
        self.drop_outcome(key)

    def session(self, session: str) -> Session | None:
        return self._sessions[session]

    def save_session(self, session: str, row: Session) -> None:
        self._sessions.save(session, row)

    def drop_session(self, session: str) -> None:
        self._changes[self._sessions.drop(session)] = None

    def queue(self, queue: str) -> Queue | None:
        return self._queues[queue]

    def save_queue(self, queue: str, row: Queue) -> None:
        self._queues.save(queue, row)

    def peer(self, partition: int) -> Peer:
        return self._peers[str(partition)] or Peer()

    def save_peer(self, partition: int, row: Peer) -> None:
        self._peers.save(str(partition), row)

    def save_counters(self) -> None:
        self._counters.save("", self.counters)

    # -- rows that are written once

    def _get(self, key: bytes) -> bytes | None:
        if key in self._changes:
            return self._changes[key]
        return self.rows.get(key)

    def spec(self, key: str) -> JobSpec:
        raw = self._get(b"s" + key.encode())
        assert raw is not None, f"job {key} has no spec"
        spec: JobSpec = decoders[JobSpec](raw)
        return spec

    def save_spec(self, key: str, spec: JobSpec) -> None:
        self._changes[b"s" + key.encode()] = encode(spec)

    def outcome(self, key: str) -> Outcome:
        raw = self._get(b"v" + key.encode())
        outcome: Outcome = Outcome() if raw is None else decoders[Outcome](raw)
        return outcome

    def save_outcome(self, key: str, outcome: Outcome) -> None:
        self._changes[b"v" + key.encode()] = encode(outcome)

    def drop_outcome(self, key: str) -> None:
        row = b"v" + key.encode()
        if self._get(row) is not None:
            self._remove(row)

    def checkpoint(self, key: str) -> Checkpoint:
        raw = self._get(b"k" + key.encode())
        checkpoint: Checkpoint = Checkpoint() if raw is None else decoders[Checkpoint](raw)
        return checkpoint

    def save_checkpoint(self, key: str, checkpoint: Checkpoint) -> None:
        self._changes[b"k" + key.encode()] = encode(checkpoint)

    def drop_checkpoint(self, key: str) -> None:
        self._remove(b"k" + key.encode())

    def remembers(self, command_id: str) -> bool:
        return self._get(b"c" + command_id.encode()) is not None

    def remember(self, command_id: str) -> None:
        self._changes[b"c" + command_id.encode()] = b""

    def forget(self, command_id: str) -> None:
        self._changes[b"c" + command_id.encode()] = None

    # -- indexes: sorted keys that come and go

    def _insert(self, key: bytes, value: bytes) -> None:
        if key not in self._changes:
            self._fresh.add(key)
        self._changes[key] = value

    def _remove(self, key: bytes) -> None:
        if key in self._fresh:
            # It came in this very batch, so the store has never seen it, and needs no tombstone.
            self._fresh.remove(key)
            del self._changes[key]
        else:
            self._changes[key] = None

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in order, with the batch's own changes. Not to be held over a write."""
        changed = sorted(k for k in self._changes if start <= k < end)
        if not changed:
            yield from self.rows.scan(start, end)
            return
        at = 0
        for key, value in self.rows.scan(start, end):
            while at < len(changed) and changed[at] < key:
                if (mine := self._changes[changed[at]]) is not None:
                    yield changed[at], mine
                at += 1
            if at < len(changed) and changed[at] == key:
                continue
            yield key, value
        for mine_key in changed[at:]:
            if (mine := self._changes[mine_key]) is not None:
                yield mine_key, mine

    def add_ready(self, queue: str, job_id: str, priority: int, order: int) -> None:
        key = ready_key(queue, priority, order)
        self._insert(key, job_id.encode())
        heads = self._heads.get(queue)
        if heads is not None:
            heads[priority] = min(heads.get(priority, key), key)

    def remove_ready(self, queue: str, priority: int, order: int) -> None:
        self._remove(ready_key(queue, priority, order))

    def ready(self, queue: str, *, first_only: bool = False) -> Iterator[tuple[int, int, str]]:
        """READY jobs (or the first of each priority) as (priority, order, job id), highest first, then oldest first."""
        heads = self._heads.get(queue)
        if heads is None:
            heads = self._heads[queue] = self._find_heads(queue)
        for priority in sorted(heads, reverse=True):
            end = after(ready_key(queue, priority, 0)[:-8])
            first = True
            for key, job_id in islice(self.scan(heads[priority], end), 1 if first_only else None):
                if first:
                    # What is deleted before the first live key is never passed over again.
                    heads[priority], first = key, False
                yield priority, int.from_bytes(key[-8:]), job_id.decode()
            if first:
                del heads[priority]

    def _find_heads(self, queue: str) -> dict[int, bytes]:
        """The first key of each priority that has one: a seek each, not a scan."""
        heads: dict[int, bytes] = {}
        prefix = b"r%b\0" % queue.encode()
        start = prefix
        while (found := next(self.scan(start, after(prefix)), None)) is not None:
            priority = TOP - found[0][-9]
            heads[priority] = found[0]
            start = after(found[0][:-8])
        return heads

    def set_timer(self, timer: Timer) -> None:
        key = timer_key(timer)
        self._insert(key, encode(timer))
        self._timer_head = min(self._timer_head, key)

    def clear_timer(self, timer: Timer) -> None:
        self._remove(timer_key(timer))

    def has_timer(self, timer: Timer) -> bool:
        return self._get(timer_key(timer)) is not None

    def due(self, now: int) -> Iterator[Timer]:
        """Timers due at `now`, oldest first."""
        yield from self._timers(b"t" + (now + 1).to_bytes(8))

    def next_due(self) -> int | None:
        """When the next timer is due, ms."""
        timer = next(self._timers(b"u"), None)
        return None if timer is None else timer.due_at

    def _timers(self, end: bytes) -> Iterator[Timer]:
        first = True
        for key, raw in self.scan(self._timer_head, end):
            if first:
                self._timer_head, first = key, False
            yield decoders[Timer](raw)

    def hold_attempt(self, session: str, key: str) -> None:
        self._insert(b"l%b\0%b" % (session.encode(), key.encode()), b"")

    def drop_attempt(self, session: str, key: str) -> None:
        self._remove(b"l%b\0%b" % (session.encode(), key.encode()))

    def attempts(self, session: str) -> Iterator[str]:
        """Keys of the jobs whose attempts the session holds."""
        prefix = b"l%b\0" % session.encode()
        for key, _ in self.scan(prefix, after(prefix)):
            yield key[len(prefix) :].decode()

    def sessions(self) -> Iterator[tuple[str, Session]]:
        """All sessions, as of the last batch that was written."""
        for key, raw in self.rows.scan(b"w", b"x"):
            yield key[1:].decode(), decoders[Session](raw)

    def queues(self) -> Iterator[tuple[str, Queue]]:
        """All queues, as of the last batch that was written."""
        for key, raw in self.rows.scan(b"q", b"r"):
            yield key[1:].decode(), decoders[Queue](raw)

    def push(self, message: Message) -> None:
        """Put a message into the outbox under the next number."""
        self.counters.outbox += 1
        self.save_counters()
        self._insert(outbox_key(self.counters.outbox), encode(message))
        self.pushed.append((self.counters.outbox, message))

    def outbox(self, sent: int) -> Iterator[tuple[int, Message]]:
        """Messages behind number `sent`, in order."""
        for key, raw in self.scan(outbox_key(sent + 1), b"p"):
            yield int.from_bytes(key[1:]), decoders[Message](raw)

    def drop_sent(self, before: int, sent: int) -> None:
        for number in range(before + 1, sent + 1):
            self._remove(outbox_key(number))

    # -- the end of a batch

    @property
    def size(self) -> int:
        """How many rows the batch changes so far, about."""
        return len(self._changes) + sum(len(drafts.changed) for drafts in self._drafts)

    def seal(self) -> tuple[Changes, bytes]:
        """Encode what the batch changed, and the hash of the state that it leads to.

        The hash is a chain: of the hash before and all rows as they were changed, in the order of their keys.
        Two stores of one log that ever differed in a row differ in it from then on. It does not hold the
        position.
        """
        changes = self._changes
        for drafts in self._drafts:
            drafts.seal(changes)
        ordered = sorted(changes.items())
        return ordered, blake2b(self.position.state_hash + encode(ordered), digest_size=16).digest()

    def written(self) -> None:
        """The sealed changes are in `rows` now; drafts stay as a cache."""
        self._changes = {}
        self._fresh = set()
        self.pushed = []
        for drafts in self._drafts:
            drafts.written()

"""Invariants of a partition's rows: indexes are recomputed from the jobs and compared with the stored ones.

Tests of stories and of whole histories use it. It reads rows and events, and shares no code with `decide` and `evolve`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from ftjm.core.ageing import score
from ftjm.core.evolve.jobs import WAITERS_MAX
from ftjm.core.evolve.sessions import SESSION_MEMORY_MS
from ftjm.core.records import events as e
from ftjm.core.records.levels import STOP_LEVEL
from ftjm.core.state.backfills import Backfill
from ftjm.core.state.model import (
    LIVE,
    TERMINAL,
    Ahead,
    Checkpoint,
    Counters,
    Finalized,
    Job,
    JobSpec,
    JobState,
    Outcome,
    Peer,
    Position,
    Session,
)
from ftjm.core.state.outbox import OutboxMessage, OutcomeMessage, PartitionMessage, ReplyMessage
from ftjm.core.state.processes import Process, ProcessKind
from ftjm.core.state.queues import ConcurrencyKey, OnConflict, Queue, QueueDeclaration, QueueSpec, ShareUsage
from ftjm.core.state.resources import Adoption, KnownResource
from ftjm.core.state.row_cache import encode
from ftjm.core.state.rows import Rows
from ftjm.core.state.schedules import Overlap, Schedule
from ftjm.core.state.tables import (
    FINALIZED,
    FINALIZED_KEY,
    MIGRATION,
    TABLES,
    KeyPlace,
    key_job_key,
    outbox_key,
    ready_key,
    timer_key,
)
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.core.windows import stops_on, windows_of

OF_JOBS = frozenset({TimerKind.DUE, TimerKind.DEADLINE, TimerKind.RETENTION, TimerKind.WAITING})
KEY_PLACES = {
    JobState.PENDING: KeyPlace.PARKED,
    JobState.READY: KeyPlace.READY,
    JobState.DISPATCHED: KeyPlace.LIVE,
    JobState.RUNNING: KeyPlace.LIVE,
}
FIRST, LAST = b"\0", b"\xff"
PREFIXES = {table.prefix for table in TABLES if table is not MIGRATION}
KINDS: dict[bytes, Any] = {
    b"k": Checkpoint,
    b"j": Job,
    b"s": JobSpec,
    b"v": Outcome,
    b"w": Session,
    b"q": Queue,
    b"a": Schedule,
    b"f": Peer,
    b"t": Timer,
    b"o": OutboxMessage,
    b"e": QueueDeclaration,
    b"i": ShareUsage,
    b"d": Process,
    b"y": ConcurrencyKey,
    b"n": Backfill,
    b"A": Adoption,
    b"B": KnownResource,
}


def all_rows(rows: Rows) -> dict[bytes, bytes]:
    return dict(rows.scan(FIRST, LAST))


def state_rows(rows: Rows) -> dict[bytes, bytes]:
    """All rows except the position, which depends on batches and not on jobs."""
    return {key: value for key, value in all_rows(rows).items() if key != b"p"}


def check_state(rows: Rows) -> None:
    """Check that all rows are consistent.

    Raises:
        AssertionError: Two rows contradict each other.
    """
    _Checker(all_rows(rows)).check()


class _Checker:
    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.rows = rows
        self.jobs: dict[str, Job] = self._decoded(b"j")
        self.sessions: dict[str, Session] = self._decoded(b"w")

    def _keys(self, prefix: bytes) -> set[bytes]:
        return {key for key in self.rows if key.startswith(prefix)}

    def _decoded(self, prefix: bytes) -> dict[str, Any]:
        kind = KINDS[prefix]
        return {key[1:].decode(): msgspec.msgpack.decode(self.rows[key], type=kind) for key in self._keys(prefix)}

    def check(self) -> None:
        strange = {key for key in self.rows if key[:1] not in PREFIXES}
        assert not strange, strange
        for prefix, kind in KINDS.items():
            for key in self._keys(prefix):
                value = msgspec.msgpack.decode(self.rows[key], type=kind)
                assert encode(value) == self.rows[key], f"{key!r} is not encoded canonically"
        for name, job in self.jobs.items():
            self._check_job(name, job)
        names = {name.encode() for name in self.jobs}
        assert {key[1:] for key in self._keys(b"s")} == names, "specs and jobs differ"
        assert {key[1:] for key in self._keys(b"v")} <= names, "outcomes of jobs that do not exist"
        checkpointed = {name.encode() for name, job in self.jobs.items() if job.checkpoint_at}
        assert {key[1:] for key in self._keys(b"k")} == checkpointed, "checkpoints and jobs differ"
        self._check_ready()
        self._check_scores()
        self._check_keys()
        self._check_timers()
        self._check_schedules()
        self._check_backfills()
        self._check_resources()
        self._check_windows()
        self._check_sessions()
        self._check_queues()
        self._check_shares()
        self._check_outbox()

    def _check_job(self, key: str, job: Job) -> None:
        live = job.state in LIVE
        assert bool(job.session) == live, f"{key} is {job.state.name} with session {job.session!r}"
        assert live or not job.stopping, f"{key} is {job.state.name} and is being stopped"
        assert not (job.is_ending and job.deadline_at), f"{key} ends with its attempt and has a deadline"
        assert bool(job.ended_at) == (job.state in TERMINAL), f"{key} is {job.state.name}, ended {job.ended_at}"
        assert job.attempt >= live, f"{key} runs its attempt 0"
        assert job.attempt >= job.failures + job.losses, f"{key} failed more often than it was dispatched"
        assert len(job.waiters) <= WAITERS_MAX, f"{key} has {len(job.waiters)} waiters"
        assert not (job.waiters and job.state in TERMINAL), f"{key} has ended, and a client waits"
        assert not (job.checkpoint_at and job.state is JobState.SUCCEEDED), f"{key} succeeded and has a checkpoint"
        assert job.state is not JobState.READY or job.due_at == 0, f"{key} is ready and not due"
        in_line = job.state in {JobState.READY, JobState.PENDING}
        assert in_line or job.score == 0, f"{key} is {job.state.name} with a score"
        assert bool(job.pending_at) == (job.state is JobState.PENDING), f"{key} is {job.state.name} and pending"
        assert job.eligible_at == 0 or job.eligible_at >= job.submitted_at, f"{key} was eligible before it was there"
        unstarted = job.ahead is Ahead.UNSTARTED
        assert not unstarted or job.state is JobState.DISPATCHED, f"{key} is ahead and {job.state.name}"
        assert not (job.ahead and job.continue_for_ms), f"{key} may continue, and was sent ahead"

    def _check_ready(self) -> None:
        expected = {}
        for key, job in self.jobs.items():
            if job.state is JobState.READY:
                queue, _, job_id = key.partition("/")
                expected[ready_key(queue, job.score, job.order, job.share)] = job_id.encode()
        assert {key: self.rows[key] for key in self._keys(b"r")} == expected, "the ready queue differs from the jobs"
        orders = [job.order for job in self.jobs.values()]
        assert len(set(orders)) == len(orders), "two jobs have the same place in a queue"

    def _check_scores(self) -> None:
        """A job that waits has the score that follows from its row, unless a process is about to give it that."""
        raw = self.rows.get(FINALIZED_KEY)
        finalized = Finalized() if raw is None else FINALIZED.decode(raw)
        declared = self._decoded(b"e")
        under_way = {key[2:].decode() for key in self._keys(b"d") if key[1] == ProcessKind.REORDER}
        for key, job in self.jobs.items():
            queue = key.partition("/")[0]
            if job.state in {JobState.READY, JobState.PENDING} and not under_way & {"", queue}:
                assert job.score == score(finalized, declared.get(queue), job), f"{key} has the score {job.score}"
                limits = declared[queue].spec.waiting_limits if queue in declared else []
                assert bool(job.look_at) == bool(limits), (
                    f"{key} is looked at at {job.look_at}, and has limits {limits}"
                )

    def _check_keys(self) -> None:
        """Notes and counts of concurrency keys are what the jobs imply, and no job waits for a key that is free."""
        noted: dict[bytes, bytes] = {}
        at_key: dict[str, list[tuple[str, Job]]] = {}
        for name, job in self.jobs.items():
            if not job.concurrency_key or (place := KEY_PLACES.get(job.state)) is None:
                continue
            queue, _, job_id = name.partition("/")
            noted[key_job_key(queue, job.concurrency_key, place, job.score, job.order)] = job_id.encode()
            at_key.setdefault(f"{queue}/{job.concurrency_key}", []).append((name, job))
        assert {key: self.rows[key] for key in self._keys(b"z")} == noted, "notes at concurrency keys differ"
        stored = {name: (row.admitted, row.parked) for name, row in self._decoded(b"y").items()}
        states = {name: [job.state for _, job in jobs] for name, jobs in at_key.items()}
        parked = {name: found.count(JobState.PENDING) for name, found in states.items()}
        assert stored == {name: (len(found) - parked[name], parked[name]) for name, found in states.items()}
        declared = self._decoded(b"e")
        processes = {(key[1], key[2:].decode()) for key in self._keys(b"d")}
        for name, jobs in at_key.items():
            queue = name.partition("/")[0]
            spec = declared[queue].spec if queue in declared else QueueSpec()
            if (ProcessKind.KEYS, queue) in processes:
                continue
            admitted = len(jobs) - parked[name]
            assert admitted >= spec.key_concurrency or not parked[name], f"a job waits for {name}, which is free"
            if spec.on_conflict is OnConflict.WAIT and admitted <= spec.key_concurrency and parked[name]:
                waits = min((job.score, job.order) for _, job in jobs if job.state is JobState.PENDING)
                has = [(job.score, job.order) for _, job in jobs if job.state is JobState.READY]
                assert all(rank < waits for rank in has), f"a job waits for {name} that comes first"

    def _check_timers(self) -> None:
        expected = set()
        for key, job in self.jobs.items():
            if job.state in TERMINAL:
                expected.add(Timer(job.ended_at + job.retention_ms, TimerKind.RETENTION, key, job.run))
                continue
            if job.deadline_at:
                expected.add(Timer(job.deadline_at, TimerKind.DEADLINE, key, job.run))
            if job.look_at:
                assert job.state in {JobState.READY, JobState.PENDING}, f"{key} is {job.state.name} and looked at"
                expected.add(Timer(job.look_at, TimerKind.WAITING, key))
            if job.state in {JobState.SCHEDULED, JobState.RETRY_WAIT}:
                assert job.due_at, f"{key} waits, but has no due time"
                expected.add(Timer(job.due_at, TimerKind.DUE, key, job.attempt))
        stored: list[Timer] = []
        for key_bytes in self._keys(b"t"):
            timer = msgspec.msgpack.decode(self.rows[key_bytes], type=Timer)
            assert timer_key(timer) == key_bytes, f"{timer} is stored elsewhere"
            stored.append(timer)
        of_jobs = {t for t in stored if t.kind in OF_JOBS}
        assert of_jobs == expected, f"timers differ from the jobs: {of_jobs ^ expected}"
        remembered = [key[1:].decode() for key in self._keys(b"c")]
        remembered = sorted(remembered + [name for name, row in self._decoded(b"n").items() if row.ended_at])
        assert sorted(t.key for t in stored if t.kind is TimerKind.COMMAND_ID) == remembered, (
            "command ids and timers differ"
        )
        lost = sorted(name for name, session in self.sessions.items() if session.lost)
        assert sorted(t.key for t in stored if t.kind is TimerKind.SESSION) == lost, "lost sessions and timers differ"
        assert all(t.due_at > SESSION_MEMORY_MS for t in stored if t.kind is TimerKind.SESSION)

    def _check_resources(self) -> None:
        """Timers are those of partitions that lag, of windows, and of a question to the home."""
        expected = []
        for key, adoption in self._decoded(b"A").items():
            telling = b"d\x04" + key.encode() in self.rows
            assert bool(adoption.timer_at) == bool(adoption.lagging) or telling, f"{key} lags and has no timer"
            assert adoption.deleted != (b"B" + key.encode() in self.rows), f"{key} is deleted and known, or neither"
            assert adoption.lagging or not adoption.deleted, f"{key} is deleted everywhere, and has a row"
            assert adoption.lagging == sorted(set(adoption.lagging)), f"{key} lags in {adoption.lagging}"
            expected += [Timer(adoption.timer_at, TimerKind.ADOPTION, key)] * bool(adoption.timer_at)
        for key, known in self._decoded(b"B").items():
            assert known.spec.kinds == [key.partition("/")[0]], f"{key} is {known}"
            if known.turns_at:
                expected.append(Timer(known.turns_at, TimerKind.WINDOW, key.partition("/")[2]))
        expected += [Timer(p.ask_at, TimerKind.ADOPTION, "") for p in self._decoded(b"f").values() if p.ask_at]
        stored = [msgspec.msgpack.decode(self.rows[key], type=Timer) for key in self._keys(b"t")]
        found = [timer for timer in stored if timer.kind in {TimerKind.ADOPTION, TimerKind.WINDOW}]
        assert sorted(found, key=timer_key) == sorted(expected, key=timer_key), "timers of resources differ"

    def _check_windows(self) -> None:
        """An attempt that its queue's windows stop is being stopped, unless a process is about to ask for that."""
        raw = self.rows.get(FINALIZED_KEY)
        windows = {
            key.partition("/")[2]: known for key, known in self._decoded(b"B").items() if key.startswith("Window/")
        }
        under_way = any(key[1] == ProcessKind.WINDOW_STOP for key in self._keys(b"d"))
        if not windows or under_way or raw is None or FINALIZED.decode(raw).level < STOP_LEVEL:
            return
        for key, job in self.jobs.items():
            if job.state in LIVE and not job.stopping:
                told = windows_of(windows, key.partition("/")[0])
                assert not stops_on(told, self.sessions[job.session].worker), f"{key} runs, and its windows stop it"

    def _check_schedules(self) -> None:
        """A schedule has a timer exactly while something of it is to come, and what waits does so for a reason."""
        expected: set[bytes] = set()
        for key, row in self._decoded(b"a").items():
            job = self.jobs.get(f"{key.partition('/')[0]}/{row.last_job}")
            name = key.partition("/")[2]
            under_way = job is not None and job.schedule == name and job.state not in TERMINAL
            waits = under_way and row.spec.overlap is not Overlap.ALLOW
            if row.paused_at:
                assert not any((row.next_at, row.waiting_instant, row.timer_at)), (
                    f"{key} is paused, and something waits"
                )
            elif row.waiting_instant and not waits:
                assert row.timer_at, f"{key} has an instant that may fire, and no timer"
            else:
                assert bool(row.timer_at) == bool(row.next_at), f"{key}: timer {row.timer_at}, next {row.next_at}"
                assert row.timer_at >= row.next_at, f"the timer of {key} comes before its instant"
            assert not row.next_at or row.next_at > row.decided_to, f"the next instant of {key} is decided"
            assert not row.next_at or row.next_at >= row.interval_start, f"{key} has an interval that ends first"
            assert row.waiting_instant <= row.decided_to, f"{key} waits with an instant that is not decided"
            assert row.last_instant <= row.decided_to, f"{key} fired an instant that is not decided"
            if row.timer_at:
                expected.add(timer_key(Timer(row.timer_at, TimerKind.SCHEDULE, key)))
        stored = {key for key in self._keys(b"t") if key[9] == TimerKind.SCHEDULE}
        assert stored == expected, "timers and schedules differ"

    def _check_backfills(self) -> None:
        """A backfill that is under way is that of its schedule, has a turn if it can go on, and waits for runs."""
        schedules, turns = self._decoded(b"a"), set()
        under_way = {name: row for name, row in self._decoded(b"n").items() if not row.ended_at}
        assert set(under_way) == {f"{key}/{row.backfill}" for key, row in schedules.items() if row.backfill}
        for name, row in under_way.items():
            key = f"{row.queue}/{row.name}"
            active = [self.jobs[f"{row.queue}/{job_id}"] for job_id in row.active]
            assert all(job.state not in TERMINAL for job in active), f"{name} waits for a run that has ended"
            assert len(set(row.active)) == len(row.active) <= row.max_active, f"{name} has {row.active}"
            has_turn = b"d%c%b" % (ProcessKind.BACKFILL, key.encode()) in self.rows
            assert has_turn or (row.active and not row.has_turn), f"{name} does not go on"
            turns.add(key)
        processes = {key[2:].decode() for key in self._keys(b"d") if key[1] == ProcessKind.BACKFILL}
        assert processes <= turns, "a turn of a backfill that is not under way"

    def _check_sessions(self) -> None:
        held = {(job.session, key) for key, job in self.jobs.items() if job.state in LIVE}
        assert self._keys(b"l") == {b"l%b\0%b" % (s.encode(), k.encode()) for s, k in held}, "live attempts differ"
        live = Counter(session for session, _ in held)
        assert live == +Counter({name: session.live for name, session in self.sessions.items()}), "slots differ"
        assert all(session.live >= 0 for session in self.sessions.values())

    def _check_queues(self) -> None:
        counted: dict[str, list[int]] = {}
        for key, job in self.jobs.items():
            counted.setdefault(key.partition("/")[0], [0] * (max(JobState) + 1))[job.state] += 1
        stored = {name: row.counts for name, row in self._decoded(b"q").items()}
        assert stored == counted, "counts differ, or a queue without jobs has a row"

    def _check_shares(self) -> None:
        queues = self._decoded(b"q")
        shares: dict[tuple[str, str], ShareUsage] = {}
        for name, row in self._decoded(b"i").items():
            queue, _, share = name.partition("\0")
            shares[queue, share] = row
            assert queues[queue].shared, f"{queue} has usage of shares, and no share"
            assert min(row.usage, row.mean - 1, row.live) >= 0, f"{name}: {row}"
        members: Counter[tuple[str, str]] = Counter()
        charged: Counter[tuple[str, str]] = Counter()
        for key, job in self.jobs.items():
            queue = key.partition("/")[0]
            members[queue, job.share] += bool(job.share)
            charged[queue, job.share] += bool(job.charged)
            assert not job.charged or job.state in LIVE, f"{key} is {job.state.name}, and charged"
            assert job.charged or not job.share or job.state not in LIVE, f"{key} has a worker, and is not charged"
        assert +members == {name: row.jobs for name, row in shares.items() if name[1]}, "jobs of shares differ"
        assert +charged == {name: row.live for name, row in shares.items() if row.live}, "attempts of shares differ"
        active = Counter(queue for (queue, _), row in shares.items() if row.live)
        assert active == Counter({name: row.active_shares for name, row in queues.items() if row.active_shares})

    def _check_outbox(self) -> None:
        counters = msgspec.msgpack.decode(self.rows.get(b"x", encode(Counters())), type=Counters)
        position = msgspec.msgpack.decode(self.rows.get(b"p", encode(Position())), type=Position)
        numbers = range(position.outbox_sent + 1, counters.outbox + 1)
        assert sorted(self._keys(b"o")) == [outbox_key(n) for n in numbers], "the outbox has gaps"
        messages = [msgspec.msgpack.decode(self.rows[outbox_key(n)], type=OutboxMessage) for n in numbers]
        last: dict[tuple[bool, str], int] = {}
        for message in messages:
            if isinstance(message, ReplyMessage | OutcomeMessage):
                continue
            forward = isinstance(message, PartitionMessage)
            to = (forward, str(message.partition) if isinstance(message, PartitionMessage) else message.session)
            assert message.number == last.get(to, message.number - 1) + 1, f"numbers to {to} are not consecutive"
            last[to] = message.number
        for (forward, name), number in last.items():
            if forward:
                peer = msgspec.msgpack.decode(self.rows[b"f" + name.encode()], type=Peer)
                assert peer.sent == number, f"the last number to partition {name}"
            elif name in self.sessions:
                assert self.sessions[name].sent == number, f"the last number to session {name}"


def check_history(events: Iterable[e.Event | e.BatchClosed], commands: int | None = None) -> None:
    """Check the invariants of a partition's whole history.

    Args:
        events: All events of the partition, in order.
        commands: Number of consumed commands, if each must have been answered.
    """
    attempts: dict[tuple[str, str], int] = {}
    ended: set[tuple[str, str, int]] = set()
    outcomes: set[tuple[str, str, int]] = set()
    answered: set[str] = set()
    batch, in_batch, epoch, now, next_command = 0, 0, 0, 0, 0
    for event in events:
        if isinstance(event, e.BatchClosed):
            assert event.batch_no == batch + 1, f"batch {event.batch_no} follows batch {batch}"
            assert event.events == in_batch, f"batch {event.batch_no} holds {in_batch} events, not {event.events}"
            assert event.owner_epoch >= epoch, "an owner of an earlier epoch decided"
            assert event.now >= now, "time went back"
            assert event.next_command >= next_command, "the position went back"
            batch, in_batch = event.batch_no, 0
            epoch, now, next_command = event.owner_epoch, event.now, event.next_command
            continue
        in_batch += 1
        if event.cause is e.Cause.COMMAND:
            answered.add(event.cause_ref)
        about = (event.queue, event.job_id)
        match event:
            case e.JobForgotten():
                # The identity is free again: the next submission is another job.
                attempts.pop(about, None)
                ended -= {run for run in ended if run[:2] == about}
                outcomes -= {outcome for outcome in outcomes if outcome[:2] == about}
            case e.AttemptDispatched():
                assert event.attempt == attempts.get(about, 0) + 1, f"{about}: attempt {event.attempt} again"
                attempts[about] = event.attempt
                assert (*about, event.run) not in ended, f"{about}: dispatched after the end of run {event.run}"
            case e.AttemptSucceeded() | e.AttemptFailed() | e.AttemptLost() | e.AttemptStopped() | e.AttemptDeclined():
                assert event.attempt == attempts[about], f"{about}: an outcome of an old attempt"
                assert (*about, event.attempt) not in outcomes, f"{about}: attempt {event.attempt} has two outcomes"
                outcomes.add((*about, event.attempt))
            case _:
                pass
        if isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled | e.JobSkipped):
            assert (*about, event.run) not in ended, f"{about}: run {event.run} ended twice"
            ended.add((*about, event.run))
    if commands is not None:
        assert answered >= {str(offset) for offset in range(commands)}, "commands without an answer"

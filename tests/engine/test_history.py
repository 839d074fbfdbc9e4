"""Random histories: at every prefix, a follower's rows are the owner's, byte for byte, and agree with themselves."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide import upgrades
from ftjm.core.evolve.sessions import SESSION_MEMORY_MS
from ftjm.core.limits import CONTINUE_FOR_MAX_MS
from ftjm.core.records import commands as c
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.model import LIVE, LOSSES, TERMINAL, FailureReason, Job, JobSpec, JobState, OnWorkerLoss
from ftjm.core.state.queues import OnConflict, QueueSpec, WaitingAction, WaitingLimit
from ftjm.engine.batch import Lapse
from ftjm.engine.partition import Partition
from ftjm.engine.ports import Fenced, Store
from tests.core.consistency import all_rows, check_history, check_state
from tests.engine.world import NOW, OTHER_QUEUE, QUEUE, Broken, World, offer

JOBS = st.sampled_from(["a", "b", "c", "d"])
SESSIONS = st.sampled_from(["s1", "s2"])
ADDRESSES = st.sampled_from(["", "0/client/1", "1/client/2"])
REPORTS = st.sampled_from(
    [c.StartAttempt, c.CheckpointAttempt, c.CompleteAttempt, c.FailAttempt, c.FailAttempt, c.DeclineAttempt]
)
REASONS = st.sampled_from([FailureReason.EXIT_CODE, FailureReason.STOPPED, *sorted(LOSSES)])
RESULTS = st.sampled_from([b"", b"42", b"x" * 1_001])
ERRORS = st.sampled_from(["", "sad"])
SPECS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.sampled_from([10, 90, 101]),
        "held": st.booleans(),
        "delay_ms": st.sampled_from([10, 1_000]),
        "deadline_ms": st.sampled_from([500, 5_000]),
        "max_attempts": st.integers(1, 3),
        "backoff_ms": st.sampled_from([0, 1_000]),
        "on_worker_loss": st.sampled_from(OnWorkerLoss),
        "worker_losses_max": st.integers(0, 2),
        "continue_for_ms": st.sampled_from([60_000, CONTINUE_FOR_MAX_MS]),
        "retention_ms": st.sampled_from([1, 10**9]),
        "concurrency_key": st.sampled_from(["k1", "k1", "k2"]),
    },
)


class Histories(RuleBasedStateMachine):
    """Rules send and let time pass; `work` decides one batch; every batch is compared."""

    level = LEVEL
    """The record level of the log."""
    ahead_max = 2
    """The most that a session holds ahead of its slots."""

    def make_store(self) -> Store:
        return MemoryStore()

    @initialize(specs=st.tuples(SPECS, SPECS, SPECS), slots=st.integers(0, 3))
    def begin(self, specs: tuple[dict[str, Any], ...], slots: int) -> None:
        self.world = World(self.make_store)
        self.follower = Partition(self.world.policy, MemoryStore(), codec, self.world.log.log_id)
        self.wishes = 0
        for job_id, spec in zip("abc", specs, strict=True):
            self.world.submit(job_id, **spec)
        with patch.object(upgrades, "LEVEL", self.level):
            self.world.work(offers=[offer(self.alive("s1"), slots), offer(self.alive("s2"), 1)])

    @rule(
        spec=st.builds(
            QueueSpec,
            concurrency=st.integers(0, 2),
            rate_limit=st.integers(0, 2),
            ageing_ms=st.sampled_from([1, 10, 60_000]),
            key_concurrency=st.integers(1, 2),
            dead_letter_ms=st.sampled_from([0, 10**9]),
            on_conflict=st.sampled_from(OnConflict),
            waiting_limits=st.lists(
                st.builds(
                    WaitingLimit,
                    st.sampled_from(["", "ConcurrencyLimit", "Resources"]),
                    st.sampled_from([1_000, 3_000]),
                    st.sampled_from(WaitingAction),
                ),
                max_size=2,
            ),
        ),
        delete=st.booleans(),
    )
    def declare(self, spec: QueueSpec, delete: bool) -> None:
        declared = c.DeleteQueue(queue=QUEUE) if delete else c.ApplyQueue(queue=QUEUE, spec=spec)
        self.world.send(declared)

    @rule(
        job=JOBS,
        spec=SPECS,
        queue=st.sampled_from([QUEUE, QUEUE, QUEUE, OTHER_QUEUE]),
        to=ADDRESSES,
        awaits=st.booleans(),
    )
    def submit(self, job: str, spec: dict[str, Any], queue: str, to: str, awaits: bool) -> None:
        self.world.submit(job, queue=queue, reply_to=to, awaits=awaits, **spec)

    @rule(
        kind=st.sampled_from([c.CancelJob, c.HoldJob, c.ReleaseJob, c.RerunJob]),
        job=JOBS,
        wish=st.sampled_from(["w1", "w2", "w3", ""]),
        to=ADDRESSES,
    )
    def want(self, kind: type[c.Command], job: str, wish: str, to: str) -> None:
        self.world.send(kind(queue=QUEUE, job_id=job, command_id=wish), to)

    @rule(pick=st.integers(0, 9), other=st.booleans(), to=ADDRESSES)
    def want_what_may_be(self, pick: int, other: bool, to: str) -> None:
        """What the state of some job allows, so that histories go deep."""
        jobs = self.jobs()
        if not jobs:
            return
        job_id, job = jobs[pick % len(jobs)]
        kind: type[c.Command] = c.CancelJob
        if job.state in TERMINAL:
            kind = c.RerunJob
        elif job.state is JobState.HELD:
            kind = c.CancelJob if other else c.ReleaseJob
        elif job.state not in LIVE and other:
            kind = c.HoldJob
        self.wishes += 1
        self.world.send(kind(queue=QUEUE, job_id=job_id, command_id=f"wish-{self.wishes}"), to)

    @rule(kind=REPORTS, pick=st.integers(0, 9), reason=REASONS, result=RESULTS, error=ERRORS, more=st.booleans())
    def report_current(
        self, kind: type[c.Command], pick: int, reason: FailureReason, result: bytes, error: str, more: bool
    ) -> None:
        live = [(job_id, job) for job_id, job in self.jobs() if job.state in LIVE]
        if live:
            job_id, job = live[pick % len(live)]
            self.tell(kind, job_id, job.attempt, job.session, reason, result, error)
            if more:
                self.world.work(offers=[offer(self.alive("s1"))])

    @rule(
        kind=REPORTS,
        job=JOBS,
        attempt=st.integers(0, 4),
        session=SESSIONS,
        reason=REASONS,
        result=RESULTS,
        error=ERRORS,
    )
    def report(
        self,
        kind: type[c.Command],
        job: str,
        attempt: int,
        session: str,
        reason: FailureReason,
        result: bytes,
        error: str,
    ) -> None:
        """Of any attempt: most are stale."""
        self.tell(kind, job, attempt, self.alive(session), reason, result, error)

    def tell(
        self,
        kind: type[c.Command],
        job: str,
        attempt: int,
        session: str,
        reason: FailureReason,
        result: bytes,
        error: str,
    ) -> None:
        fields: dict[str, Any] = {"run": 1, "attempt": attempt, "session": session}
        if kind not in {c.DeclineAttempt, c.CheckpointAttempt}:
            fields["started_at"] = self.world.now
        more: dict[type[c.Command], dict[str, Any]] = {
            c.CompleteAttempt: {"ended_at": self.world.now, "result": result},
            c.FailAttempt: {"ended_at": self.world.now, "reason": reason, "error": error, "exit_code": len(error)},
            c.CheckpointAttempt: {"data": result[:9], "progress": min(1.0, len(result) / 10), "text": error},
            c.DeclineAttempt: {"reason": error},
        }
        self.world.send(kind(queue=QUEUE, job_id=job, **fields, **more.get(kind, {})))

    def alive(self, worker: str) -> str:
        """The session of a worker: one that is over may be forgotten after a day, and its name never comes again."""
        return f"{worker}-{(self.world.now - NOW) // SESSION_MEMORY_MS}"

    def jobs(self) -> list[tuple[str, Job]]:
        found = [(job_id, self.world.owner.state.job(f"{QUEUE}/{job_id}")) for job_id in "abcd"]
        return [(job_id, job) for job_id, job in found if job is not None]

    @rule(number=st.sampled_from([0, 0, 0, -1, 1]), job=JOBS, source=st.sampled_from([1, 3]), to=ADDRESSES)
    def forward(self, number: int, job: str, source: int, to: str) -> None:
        """From another partition: in its turn, or again, or with a gap."""
        command = c.SubmitJob(queue=QUEUE, job_id=job, spec=JobSpec(command=["true"]))
        turn = self.world.owner.state.peer(source).received + 1
        self.world.log.send(0, codec.encode(command), reply_to=to, source=source, number=turn + number)

    @rule(value=st.one_of(st.binary(max_size=20), st.just(codec.encode(c.HoldJob(queue="?", job_id="")))), to=ADDRESSES)
    def garbage(self, value: bytes, to: str) -> None:
        self.world.log.send(0, value, reply_to=to)

    @rule(by=st.sampled_from([1, 500, 500, 2_000, 5_000, 10**6, SESSION_MEMORY_MS]))
    def wait(self, by: int) -> None:
        self.world.now += by

    @rule(
        slots=st.dictionaries(SESSIONS, st.integers(0, 3), min_size=1),
        silent=st.dictionaries(SESSIONS, st.sampled_from([4_999, 5_000, 70_000])),
        closed=st.booleans(),
        delivered=st.booleans(),
    )
    def work(self, slots: dict[str, int], silent: dict[str, int], closed: bool, delivered: bool) -> None:
        """Offers come of sessions that are heard, and lapses of the others."""
        lapses = [Lapse(self.alive(session), ms, closed) for session, ms in sorted(silent.items())]
        old = [name for name in self.world.owner.state.open_sessions() if name not in map(self.alive, ("s1", "s2"))]
        self.world.work(
            offers=[offer(self.alive(session), n) for session, n in sorted(slots.items()) if session not in silent],
            lapses=[*lapses, *(Lapse(name, 10**7) for name in old)],
            outbox_sent=self.world.owner.state.counters.outbox if delivered else 0,
        )

    @rule(slots=st.integers(0, 3), by=st.sampled_from([0, 1_000]), ahead=st.integers(0, 2))
    def dispatch(self, slots: int, by: int, ahead: int) -> None:
        self.world.now += by
        ahead = min(ahead, self.ahead_max)
        self.world.work(offers=[offer(self.alive("s1"), slots, ahead=ahead), offer(self.alive("s2"), slots)])
        if by:
            self.world.owner.settle(self.world.now, self.world.owner.state.counters.outbox)

    @rule(when=st.sampled_from(["before", "after"]))
    def commit_breaks(self, when: str) -> None:
        """The batch is in the log, or it is not: either way nothing of it is in the store until it is folded."""
        before = self.world.rows()
        self.world.writer.breaks = when
        try:
            self.world.work(offers=[offer(self.alive("s2"))])
        except Broken:
            self.world.owner.reopen()
            assert self.world.rows() == before
        self.world.lead()

    @rule()
    def another_takes_over(self) -> None:
        old = self.world.owner
        self.world.owner = self.world.partition()
        self.world.lead()
        self.world.work()
        rows = all_rows(old.store)
        with pytest.raises(Fenced):
            old.settle(self.world.now, old.position.outbox_sent + 1)
        old.reopen()
        assert all_rows(old.store) == rows

    @invariant()
    def the_follower_has_the_owners_rows(self) -> None:
        """It folds batch by batch, and its own check of each batch's hash compares every prefix."""
        if not hasattr(self, "world"):
            return
        self.world.catch_up(self.follower)
        assert all_rows(self.follower.store) == self.world.rows()
        check_state(self.world.owner.store)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.writer.breaks = ""
        self.world.work_all()
        self.world.check()
        check_history(self.world.events(), len(self.world.log.commands(0, 0)))


class HistoriesOnRocks(Histories):
    """The owner's store on RocksDB, the follower's in memory: the same bytes."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._stores: list[RocksStore] = []

    def make_store(self) -> Store:
        store = RocksStore(self._folder / str(len(self._stores)))
        self._stores.append(store)
        return store

    def teardown(self) -> None:
        super().teardown()
        for store in self._stores:
            store.close()
        shutil.rmtree(self._folder)


# Finding a short history that fails takes longer than finding one.
TestHistories = pytest.mark.timeout(600)(Histories.TestCase)
TestHistories.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestHistoriesOnRocks = pytest.mark.timeout(600)(HistoriesOnRocks.TestCase)
TestHistoriesOnRocks.settings = settings(
    max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

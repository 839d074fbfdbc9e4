"""Faults as they happen: each begins, lasts, and is healed, in a thread of its own."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random

import msgspec
import psutil

from ftjm import logs
from ftjm.chaos.cluster import Cluster
from ftjm.chaos.damage import damage, damage_newest, made_anew
from ftjm.chaos.links import Link
from ftjm.chaos.members import Member, limit_files
from ftjm.chaos.plan import WAYS, Fault, Kind, Role
from ftjm.chaos.skewed import set_offset
from ftjm.clock import boot_ms, wall_ms

GUARD_MS = 500
"""For how long a host that was frozen and woken may run an old attempt: G of the guarantee."""
SKEW_MS_MAX = 4_000
SKEW_FAR_MS = 20_000
"""Beyond what owners are allowed to be wrong by."""

NOBODY, NOTHING = "nobody was there to be hit", "there was nothing to damage"

log = logs.get(__name__)


class Happened(msgspec.Struct):
    """A fault as it was."""

    fault: Fault
    member: str
    began_ms: int
    """Wall clock."""
    healed_ms: int = 0
    pid: int = 0
    """Of what was killed."""
    detail: str = ""
    problem: str = ""
    """Why it could not be done."""


class Breaker:
    """Follows a plan."""

    def __init__(self, cluster: Cluster, plan: Sequence[Fault]) -> None:
        self.happened: list[Happened] = []
        self.woken: dict[str, list[tuple[float, float]]] = {}
        """When old attempts may have run, by worker: CLOCK_BOOTTIME ms."""
        self._damaged: dict[tuple[str, int], int] = {}
        """Schedulers and partitions whose stores were damaged, and the life of the scheduler that is given them."""
        self._cluster = cluster
        self._plan = plan
        self._threads: list[threading.Thread] = []
        self._locks: defaultdict[tuple[Role, int], threading.Lock] = defaultdict(threading.Lock)
        self._failure: Exception | None = None

    def run(self, until: Callable[[float], None]) -> None:
        """Do all that is planned, and heal it; `until` waits for a moment, s since the load began.

        Raises what kept a fault from being healed.
        """
        for fault in self._plan:
            until(fault.at_seconds)
            thread = threading.Thread(target=self._happen, args=[fault], name=f"fault-{fault.number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def left_damaged(self, scheduler: str, partition: int) -> bool:
        """Whether a store was damaged, and nobody has made it anew since."""
        life = self._damaged.get((scheduler, partition))
        [member] = (each for each in self._cluster.members[Role.SCHEDULER] if each.name == scheduler)
        return life is not None and not any(made_anew(line, partition) for line in member.said(life))

    def _happen(self, fault: Fault) -> None:
        role = WAYS[fault.kind].role
        name = f"{role}-{fault.target}"
        happened = Happened(fault, name, wall_ms())
        self.happened.append(happened)
        lock = self._locks[role, 0 if role is Role.BROKER else fault.target]
        if not lock.acquire(blocking=False):
            # A broker, above all, may take longer to come back than was planned.
            happened.problem, happened.healed_ms = "the fault before it was not healed yet", wall_ms()
            return
        log.info("breaking", kind=fault.kind, member=name, seconds=fault.seconds)
        try:
            with _WAYS[fault.kind](self, happened):
                time.sleep(fault.seconds)
        except (OSError, psutil.Error) as error:
            # What was to be broken had just ended by itself.
            happened.problem = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001  (told by `run`, in the caller's own thread)
            self._failure = error
        finally:
            lock.release()
        happened.healed_ms = wall_ms()

    def _member(self, happened: Happened) -> Member:
        return self._cluster.members[WAYS[happened.fault.kind].role][happened.fault.target]

    # -- the ways; each is healed when its block is left

    @contextmanager
    def _killed(self, happened: Happened) -> Iterator[None]:
        member = self._member(happened)
        happened.began_ms = wall_ms()
        happened.pid = member.kill()
        _require(happened, happened.pid, NOBODY)
        yield
        member.start()

    @contextmanager
    def _stopped(self, happened: Happened) -> Iterator[None]:
        member = self._member(happened)
        _require(happened, member.send(signal.SIGSTOP), NOBODY)
        try:
            yield
        finally:
            member.send(signal.SIGCONT)

    def _cut(self, happened: Happened) -> AbstractContextManager[None]:
        return _all_cut(self._member(happened).links, happened)

    @contextmanager
    def _skewed(self, happened: Happened) -> Iterator[None]:
        draw = _chance(happened)
        far = draw.random() < 0.2
        offset = draw.choice((-1, 1)) * (SKEW_FAR_MS if far else draw.randint(200, SKEW_MS_MAX))
        happened.detail = f"{offset:+} ms"
        clock = self._cluster.clock(happened.fault.target)
        set_offset(clock, offset)
        try:
            yield
        finally:
            set_offset(clock, 0)

    @contextmanager
    def _full(self, happened: Happened) -> Iterator[None]:
        member = self._member(happened)
        _require(happened, member.limit_files(full=True), NOBODY)
        try:
            self._cluster.wish_snapshots()  # which write much at once
            yield
        finally:
            member.limit_files(full=False)

    @contextmanager
    def _corrupted(self, happened: Happened) -> Iterator[None]:
        draw = _chance(happened)
        with self._killed(happened):
            if (store := self._store(happened, draw)) and (done := damage(store, draw)):
                happened.detail = done
                self._damaged[happened.member, _partition(store)] = self._member(happened).lives + 1
            _require(happened, happened.detail, NOTHING)
            yield

    @contextmanager
    def _wiped(self, happened: Happened) -> Iterator[None]:
        with self._killed(happened):
            if store := self._store(happened, _chance(happened)):
                self._wipe(store, happened)
            yield

    @contextmanager
    def _snapshot_corrupted(self, happened: Happened) -> Iterator[None]:
        draw = _chance(happened)
        with self._killed(happened):
            if store := self._store(happened, draw):
                told = damage_newest(self._cluster.snapshots, _partition(store), draw)
                _require(happened, told, NOTHING)
                self._wipe(store, happened)
                happened.detail = f"{told}, {happened.detail}"
            yield

    def _store(self, happened: Happened, draw: Random) -> Path | None:
        stores = self._cluster.stores(happened.fault.target)
        _require(happened, stores, NOTHING)
        return draw.choice(stores) if stores else None

    def _wipe(self, store: Path, happened: Happened) -> None:
        shutil.rmtree(store)
        self._damaged.pop((happened.member, _partition(store)), None)
        happened.detail = store.name

    @contextmanager
    def _guard_killed(self, happened: Happened) -> Iterator[None]:
        _require(happened, self._member(happened).signal_guard(signal.SIGKILL), NOBODY)
        yield

    @contextmanager
    def _guard_stopped(self, happened: Happened) -> Iterator[None]:
        stopped = self._member(happened).signal_guard(signal.SIGSTOP)
        _require(happened, stopped, NOBODY)
        try:
            yield
        finally:
            Member.wake(stopped)

    @contextmanager
    def _frozen(self, happened: Happened) -> Iterator[None]:
        member = self._member(happened)
        frozen = member.freeze()
        _require(happened, frozen, NOBODY)
        try:
            yield
        finally:
            at = boot_ms()
            Member.wake(frozen)
            self.woken.setdefault(member.name, []).append((at, at + GUARD_MS))

    # -- brokers

    @contextmanager
    def _broker_killed(self, happened: Happened) -> Iterator[None]:
        self._cluster.kafka.kill_broker(happened.fault.target)
        yield
        self._cluster.kafka.start_broker(happened.fault.target)

    @contextmanager
    def _broker_stopped(self, happened: Happened) -> Iterator[None]:
        self._cluster.kafka.pause(happened.fault.target)
        try:
            yield
        finally:
            self._cluster.kafka.resume(happened.fault.target)

    def _broker_cut(self, happened: Happened) -> AbstractContextManager[None]:
        return _all_cut([member.links[happened.fault.target] for member in self._cluster.everybody], happened)

    @contextmanager
    def _broker_full(self, happened: Happened) -> Iterator[None]:
        kafka, pid = self._cluster.kafka, self._cluster.kafka.pid(happened.fault.target)
        limit_files(pid, full=True)
        yield
        # A broker whose only disk has failed ends, as it should; it is started again where there is room.
        kafka.kill_broker(happened.fault.target)
        kafka.start_broker(happened.fault.target)


@contextmanager
def _all_cut(links: Sequence[Link], happened: Happened) -> Iterator[None]:
    forget = bool(happened.fault.draw & 1)
    happened.detail = "connections forgotten" if forget else ""
    for link in links:
        link.cut(forget=forget)
    try:
        yield
    finally:
        for link in links:
            link.mend()


def _partition(store: Path) -> int:
    return int(store.name.rpartition("-")[2])


def _require(happened: Happened, hit: object, problem: str) -> None:
    """A fault that hit nothing was not survived."""
    if not hit:
        happened.problem = happened.problem or problem


def _chance(happened: Happened) -> Random:
    return Random(happened.fault.draw)  # noqa: S311  (a seed is meant to be repeated)


_WAYS = {
    Kind.KILL_SCHEDULER: Breaker._killed,
    Kind.STOP_SCHEDULER: Breaker._stopped,
    Kind.CUT_SCHEDULER: Breaker._cut,
    Kind.SKEW_CLOCK: Breaker._skewed,
    Kind.FILL_DISK: Breaker._full,
    Kind.CORRUPT_STORE: Breaker._corrupted,
    Kind.WIPE_STORE: Breaker._wiped,
    Kind.CORRUPT_SNAPSHOT: Breaker._snapshot_corrupted,
    Kind.KILL_SUPERVISOR: Breaker._killed,
    Kind.STOP_SUPERVISOR: Breaker._stopped,
    Kind.KILL_GUARD: Breaker._guard_killed,
    Kind.STOP_GUARD: Breaker._guard_stopped,
    Kind.FREEZE_WORKER: Breaker._frozen,
    Kind.CUT_WORKER: Breaker._cut,
    Kind.KILL_API: Breaker._killed,
    Kind.STOP_API: Breaker._stopped,
    Kind.CUT_API: Breaker._cut,
    Kind.KILL_BROKER: Breaker._broker_killed,
    Kind.STOP_BROKER: Breaker._broker_stopped,
    Kind.CUT_BROKER: Breaker._broker_cut,
    Kind.FILL_BROKER_DISK: Breaker._broker_full,
}

"""Injects the faults of a plan: each fault begins, lasts and is healed in a thread of its own.

Every kind of fault is a context manager in `_INJECTIONS`: entering it injects the fault, leaving it heals the fault. A
fault that had no effect, since its target did not run or there was nothing to damage, is recorded with its `problem`,
and does not count as survived.
"""

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

from ftjm.lab.chaos.cluster import ChaosCluster
from ftjm.lab.chaos.corruption import damage, damage_newest, reports_new_store
from ftjm.lab.chaos.members import Member, limit_files
from ftjm.lab.chaos.plan import FAULT_RULES, FaultKind, PlannedFault, TargetRole
from ftjm.lab.chaos.process_trees import send
from ftjm.lab.chaos.proxies import Link
from ftjm.lab.chaos.skewed_clock import set_offset
from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms, wall_ms

GUARD_MS = 500
"""How long an old attempt may still run after its frozen host wakes: the guard kills it within this time."""
SKEW_MS_MAX = 4_000
SKEW_FAR_MS = 20_000
"""More than the clock of an owner is allowed to be wrong."""
PART_SECONDS_MAX, PART_POLL_SECONDS = 2.0, 0.1
"""How long, and how often, a fault looks for a process of a worker."""

NOT_RUNNING, NOTHING_TO_DAMAGE = "the target did not run", "there was nothing to damage"

log = logs.get(__name__)


class InjectedFault(msgspec.Struct):
    """A fault as it was injected."""

    fault: PlannedFault
    member: str
    began_ms: int
    """Wall clock, ms."""
    healed_ms: int = 0
    pid: int = 0
    """Process that was killed; 0 if none."""
    detail: str = ""
    problem: str = ""
    """The reason why the fault had no effect; empty if it had one."""


class FaultInjector:
    """Injects the faults of a plan, and keeps a record of them."""

    def __init__(self, cluster: ChaosCluster, plan: Sequence[PlannedFault]) -> None:
        self.injected: list[InjectedFault] = []
        self.woken: dict[str, list[tuple[float, float]]] = {}
        """Intervals of each worker after a freeze in which old attempts may have run (CLOCK_BOOTTIME, ms)."""
        self._damaged: dict[tuple[str, int], int] = {}
        """Damaged stores, by scheduler and partition: number of the scheduler's first start with the damage."""
        self._cluster = cluster
        self._plan = plan
        self._threads: list[threading.Thread] = []
        self._locks: defaultdict[tuple[TargetRole, int], threading.Lock] = defaultdict(threading.Lock)
        self._failure: Exception | None = None

    def run(self, until: Callable[[float], None]) -> None:
        """Inject all faults of the plan, and return when all are healed.

        Args:
            until: waits until a moment, in seconds since the load began.

        Raises:
            Exception: the error that kept a fault from being healed.
        """
        for fault in self._plan:
            until(fault.at_seconds)
            thread = threading.Thread(target=self._inject, args=[fault], name=f"fault-{fault.number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def has_damaged_store(self, scheduler: str, partition: int) -> bool:
        """Return whether a store was damaged, and the scheduler has not replaced it since."""
        first_start = self._damaged.get((scheduler, partition))
        [member] = (each for each in self._cluster.members[TargetRole.SCHEDULER] if each.name == scheduler)
        if first_start is None:
            return False
        return not any(reports_new_store(line, partition) for line in member.log_lines(first_start))

    def _inject(self, fault: PlannedFault) -> None:
        role = FAULT_RULES[fault.kind].role
        name = f"{role}-{fault.target}"
        injected = InjectedFault(fault, name, wall_ms())
        self.injected.append(injected)
        lock = self._locks[role, 0 if role is TargetRole.BROKER else fault.target]
        if not lock.acquire(blocking=False):
            # The previous fault lasts longer than planned: a broker may take long to start.
            injected.problem, injected.healed_ms = "the fault before it was not healed yet", wall_ms()
            return
        log.info("breaking", kind=fault.kind, member=name, seconds=fault.seconds)
        try:
            with _INJECTIONS[fault.kind](self, injected):
                time.sleep(fault.seconds)
        except (OSError, psutil.Error) as error:
            # The target had just ended without this fault.
            injected.problem = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001  (raised by `run`, in the thread of its caller)
            self._failure = error
        finally:
            lock.release()
        injected.healed_ms = wall_ms()

    def _member(self, injected: InjectedFault) -> Member:
        return self._cluster.members[FAULT_RULES[injected.fault.kind].role][injected.fault.target]

    # -- kinds of faults; leaving the block heals the fault

    @contextmanager
    def _killed(self, injected: InjectedFault) -> Iterator[None]:
        member = self._member(injected)
        injected.began_ms = wall_ms()
        injected.pid = member.kill()
        _require_effect(injected, injected.pid, NOT_RUNNING)
        yield
        member.start()

    @contextmanager
    def _stopped(self, injected: InjectedFault) -> Iterator[None]:
        member = self._member(injected)
        _require_effect(injected, member.send(signal.SIGSTOP), NOT_RUNNING)
        try:
            yield
        finally:
            member.send(signal.SIGCONT)

    def _connections_cut(self, injected: InjectedFault) -> AbstractContextManager[None]:
        return _links_cut(self._member(injected).links, injected)

    @contextmanager
    def _clock_skewed(self, injected: InjectedFault) -> Iterator[None]:
        draw = _random(injected)
        far = draw.random() < 0.2
        offset = draw.choice((-1, 1)) * (SKEW_FAR_MS if far else draw.randint(200, SKEW_MS_MAX))
        injected.detail = f"{offset:+} ms"
        clock = self._cluster.clock_file(injected.fault.target)
        set_offset(clock, offset)
        try:
            yield
        finally:
            set_offset(clock, 0)

    @contextmanager
    def _disk_filled(self, injected: InjectedFault) -> Iterator[None]:
        member = self._member(injected)
        _require_effect(injected, member.limit_files(full=True), NOT_RUNNING)
        try:
            self._cluster.request_snapshots()  # a snapshot writes many files at once
            yield
        finally:
            member.limit_files(full=False)

    @contextmanager
    def _store_corrupted(self, injected: InjectedFault) -> Iterator[None]:
        draw = _random(injected)
        with self._killed(injected):
            if (store := self._store(injected, draw)) and (done := damage(store, draw)):
                injected.detail = done
                self._damaged[injected.member, _partition(store)] = self._member(injected).start_count + 1
            _require_effect(injected, injected.detail, NOTHING_TO_DAMAGE)
            yield

    @contextmanager
    def _store_wiped(self, injected: InjectedFault) -> Iterator[None]:
        with self._killed(injected):
            if store := self._store(injected, _random(injected)):
                self._wipe(store, injected)
            yield

    @contextmanager
    def _snapshot_corrupted(self, injected: InjectedFault) -> Iterator[None]:
        draw = _random(injected)
        with self._killed(injected):
            if store := self._store(injected, draw):
                done = damage_newest(self._cluster.snapshots, _partition(store), draw)
                _require_effect(injected, done, NOTHING_TO_DAMAGE)
                self._wipe(store, injected)
                injected.detail = f"{done}, {injected.detail}"
            yield

    def _store(self, injected: InjectedFault, draw: Random) -> Path | None:
        stores = self._cluster.stores(injected.fault.target)
        _require_effect(injected, stores, NOTHING_TO_DAMAGE)
        return draw.choice(stores) if stores else None

    def _wipe(self, store: Path, injected: InjectedFault) -> None:
        shutil.rmtree(store)
        self._damaged.pop((injected.member, _partition(store)), None)
        injected.detail = store.name

    @contextmanager
    def _worker_frozen(self, injected: InjectedFault) -> Iterator[None]:
        member = self._member(injected)
        frozen = member.freeze()
        _require_effect(injected, frozen, NOT_RUNNING)
        try:
            yield
        finally:
            at = boot_ms()
            send(frozen, signal.SIGCONT)
            self.woken.setdefault(member.name, []).append((at, at + GUARD_MS))

    def _part(self, injected: InjectedFault, find: Callable[[Member], list[psutil.Process]]) -> list[psutil.Process]:
        """Return one of the worker's processes that `find` finds; none if there is none in time.

        A worker that was hit just before is starting them.
        """
        until = time.monotonic() + PART_SECONDS_MAX
        while not (found := find(self._member(injected))) and time.monotonic() < until:
            time.sleep(PART_POLL_SECONDS)
        return [_random(injected).choice(found)] if found else []

    # -- brokers

    @contextmanager
    def _broker_killed(self, injected: InjectedFault) -> Iterator[None]:
        self._cluster.kafka.kill_broker(injected.fault.target)
        yield
        self._cluster.kafka.start_broker(injected.fault.target)

    @contextmanager
    def _broker_stopped(self, injected: InjectedFault) -> Iterator[None]:
        self._cluster.kafka.pause(injected.fault.target)
        try:
            yield
        finally:
            self._cluster.kafka.resume(injected.fault.target)

    def _broker_cut(self, injected: InjectedFault) -> AbstractContextManager[None]:
        return _links_cut([member.links[injected.fault.target] for member in self._cluster.all_members], injected)

    @contextmanager
    def _broker_disk_filled(self, injected: InjectedFault) -> Iterator[None]:
        kafka, pid = self._cluster.kafka, self._cluster.kafka.pid(injected.fault.target)
        limit_files(pid, full=True)
        yield
        # A broker ends when its only disk fails. It is started again with room on the disk.
        kafka.kill_broker(injected.fault.target)
        kafka.start_broker(injected.fault.target)


@contextmanager
def _links_cut(links: Sequence[Link], injected: InjectedFault) -> Iterator[None]:
    forget = bool(injected.fault.draw & 1)
    injected.detail = "connections forgotten" if forget else ""
    for link in links:
        link.cut(forget=forget)
    try:
        yield
    finally:
        for link in links:
            link.mend()


def _partition(store: Path) -> int:
    return int(store.name.rpartition("-")[2])


def _require_effect(injected: InjectedFault, effect: object, problem: str) -> None:
    """Record `problem` if the fault had no effect: such a fault does not count as survived."""
    if not effect:
        injected.problem = injected.problem or problem


def _random(injected: InjectedFault) -> Random:
    return Random(injected.fault.draw)  # noqa: S311  (a seed is meant to be repeated)


Injection = Callable[[FaultInjector, InjectedFault], AbstractContextManager[None]]


def _part_killed(find: Callable[[Member], list[psutil.Process]]) -> Injection:
    @contextmanager
    def inject(injector: FaultInjector, injected: InjectedFault) -> Iterator[None]:
        _require_effect(injected, send(injector._part(injected, find), signal.SIGKILL), NOT_RUNNING)
        yield

    return inject


def _part_stopped(find: Callable[[Member], list[psutil.Process]]) -> Injection:
    @contextmanager
    def inject(injector: FaultInjector, injected: InjectedFault) -> Iterator[None]:
        stopped = send(injector._part(injected, find), signal.SIGSTOP)
        _require_effect(injected, stopped, NOT_RUNNING)
        try:
            yield
        finally:
            send(stopped, signal.SIGCONT)

    return inject


_INJECTIONS: dict[FaultKind, Injection] = {
    FaultKind.KILL_SCHEDULER: FaultInjector._killed,
    FaultKind.STOP_SCHEDULER: FaultInjector._stopped,
    FaultKind.CUT_SCHEDULER: FaultInjector._connections_cut,
    FaultKind.SKEW_CLOCK: FaultInjector._clock_skewed,
    FaultKind.FILL_DISK: FaultInjector._disk_filled,
    FaultKind.CORRUPT_STORE: FaultInjector._store_corrupted,
    FaultKind.WIPE_STORE: FaultInjector._store_wiped,
    FaultKind.CORRUPT_SNAPSHOT: FaultInjector._snapshot_corrupted,
    FaultKind.KILL_SUPERVISOR: FaultInjector._killed,
    FaultKind.STOP_SUPERVISOR: FaultInjector._stopped,
    FaultKind.KILL_GUARD: _part_killed(Member.guards),
    FaultKind.STOP_GUARD: _part_stopped(Member.guards),
    FaultKind.KILL_ZYGOTE: _part_killed(Member.zygotes),
    FaultKind.STOP_ZYGOTE: _part_stopped(Member.zygotes),
    FaultKind.KILL_TASK_PROCESS: _part_killed(Member.task_processes),
    FaultKind.STOP_TASK_PROCESS: _part_stopped(Member.task_processes),
    FaultKind.FREEZE_WORKER: FaultInjector._worker_frozen,
    FaultKind.CUT_WORKER: FaultInjector._connections_cut,
    FaultKind.KILL_API: FaultInjector._killed,
    FaultKind.STOP_API: FaultInjector._stopped,
    FaultKind.CUT_API: FaultInjector._connections_cut,
    FaultKind.KILL_BROKER: FaultInjector._broker_killed,
    FaultKind.STOP_BROKER: FaultInjector._broker_stopped,
    FaultKind.CUT_BROKER: FaultInjector._broker_cut,
    FaultKind.FILL_BROKER_DISK: FaultInjector._broker_disk_filled,
}

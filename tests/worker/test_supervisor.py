"""The supervisor with a real guard and a log made of lists; and with a guard that misbehaves."""

import ctypes
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftjm.core.commands import AttemptReport, CompleteAttempt, FailAttempt, StartAttempt
from ftjm.core.messages import RunAttempt, SessionState, StopAttempt, WorkerHeartbeat
from ftjm.core.model import FailureReason, JobSpec, StopReason
from ftjm.errors import FtjmError
from ftjm.worker import supervisor as module
from ftjm.worker.guardlink import GuardLink
from ftjm.worker.inbox import Acknowledged, Asked, Confirmed, Inbox, Opened
from ftjm.worker.life import Life
from ftjm.worker.processes import become_subreaper
from ftjm.worker.scratch import Scratch
from ftjm.worker.session import Identity
from ftjm.worker.supervisor import Supervisor
from integration.waiting import until
from tests.worker.guarding import WAIT_SECONDS, alive, pid_in


class ListWire:
    """A log that takes everything, while it is connected."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.connected = True
        self.reports: list[AttemptReport] = []
        self.beats: list[WorkerHeartbeat] = []
        self.listening: set[str] = set()
        self.closed = False
        self.fault = ""

    def report(self, session: str, command: AttemptReport) -> None:
        self.reports.append(command)
        if self.connected:
            self.inbox.put(Confirmed(session))

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        self.beats.append(heartbeat)
        if self.connected:
            self.inbox.put(Acknowledged(session, token))

    def listen(self, session: str, lane: int) -> None:
        self.listening.add(session)
        self.inbox.put(Opened(session))

    def leave(self, session: str) -> None:
        self.listening.discard(session)

    def close(self, limit_seconds: float) -> int:
        self.closed = True
        return 0 if self.connected else 1


class Rig:
    """A supervisor under test, stepped until something is true."""

    def __init__(self, tmp_path: Path, lease_ms: int = 60_000) -> None:
        self.inbox = Inbox()
        self.wire = ListWire(self.inbox)
        self.scratch = Scratch(tmp_path / "attempts")
        self.links: list[GuardLink] = []
        names = iter(f"s{n}" for n in range(1, 99))
        identity = Identity(
            worker="w", host="h", pid=1, slots=4, queues=("q",), partitions=1, lanes=1, lease_ms=lease_ms
        )
        self.life = Life(identity, lambda: next(names))
        self.supervisor = Supervisor(self.life, self.wire, self.inbox, self._spawn, self.scratch.remove)
        self.sent = 0

    def _spawn(self) -> GuardLink:
        self.links.append(GuardLink(self.scratch.for_guard(), 4096))
        return self.links[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < end, (self.wire.reports, self.wire.beats[-3:])
            self.supervisor.step()

    def dispatch(self, *command: str, job: str = "j", **spec) -> None:
        self.until(lambda: self.life.current is not None and self.life.current.deadline_ms is not None)
        current = self.life.current
        assert current is not None
        self.sent = 1 if current.name != getattr(self, "_to", "") else self.sent + 1
        self._to = current.name
        self.inbox.put(
            RunAttempt(
                session=current.name,
                partition=0,
                number=self.sent,
                queue="q",
                job_id=job,
                shard_key="",
                run=1,
                attempt=1,
                deadline_at=0,
                spec=JobSpec(command=list(command), **spec),
            )
        )

    def outcome(self) -> AttemptReport:
        def outcomes() -> list[AttemptReport]:
            return [report for report in self.wire.reports if not isinstance(report, StartAttempt)]

        self.until(lambda: bool(outcomes()))
        found = outcomes()[0]
        self.wire.reports.remove(found)
        return found


@pytest.fixture
def make_rig(tmp_path: Path):
    """Rigs, and nothing left of them afterwards; the test process reaps orphans meanwhile, as a worker does."""
    made: list[Rig] = []

    def make(lease_ms: int = 60_000) -> Rig:
        made.append(Rig(tmp_path, lease_ms))
        return made[-1]

    become_subreaper()
    yield make
    for rig in made:
        rig.links[-1].leave()
        rig.scratch.close()
        rig.inbox.close()
        assert not rig.scratch.path.exists()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
def rig(make_rig: Callable[[], "Rig"]) -> "Rig":
    return make_rig()


def test_a_job_from_dispatch_to_report(rig: Rig) -> None:
    rig.dispatch("sh", "-c", "touch left; cat", payload=b'{"n": 1}')
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert (done.stdout, done.session, done.sent_at > 0) == (b'{"n": 1}', "s1", True)


def test_stop_reaches_the_process(rig: Rig, tmp_path: Path) -> None:
    rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    rig.until(lambda: any(isinstance(report, StartAttempt) for report in rig.wire.reports))
    rig.inbox.put(
        StopAttempt(
            session="s1",
            partition=0,
            number=2,
            queue="q",
            job_id="j",
            attempt=1,
            reason=StopReason.CANCELLED,
            grace_ms=9,
        )
    )
    failed = rig.outcome()
    assert isinstance(failed, FailAttempt)
    assert failed.reason is FailureReason.STOPPED
    assert not alive(pid_in(tmp_path / "pid"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_guard_takes_its_attempts_along_and_another_takes_over(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    escape = f"setsid sh -c 'echo $$ > {tmp_path}/daemon; exec sleep 600' & echo $$ > {tmp_path}/pid; exec sleep 600"
    rig.dispatch("sh", "-c", escape)
    rig.until(lambda: (tmp_path / "daemon").exists() and rig.life.live == 1 and len(rig.wire.reports) == 1)
    pids = [pid_in(tmp_path / "pid"), pid_in(tmp_path / "daemon")]
    os.kill(rig.links[0].pid, how)
    if how is signal.SIGSTOP:
        monkeypatch.setattr(module, "ANSWER_MS", 100)
        # The next heartbeat asks the guard whether it is there.
        session = rig.life.current
        assert session is not None
        session.hasten()
    failed = rig.outcome()
    assert isinstance(failed, FailAttempt)
    assert failed.reason is FailureReason.GUARD_LOST
    monkeypatch.setattr(module, "ANSWER_MS", 5_000)
    assert not any(alive(pid) for pid in pids)
    rig.until(lambda: rig.life.current is not None and rig.life.current.name == "s2")
    rig.dispatch("echo", "again", job="k")
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert (done.session, done.stdout) == ("s2", b"again\n")


def test_a_cut_from_the_log_stops_attempts_and_reports_them_later(make_rig, tmp_path: Path) -> None:
    rig = make_rig(lease_ms=1_500)
    rig.dispatch("sleep", "600")
    rig.dispatch(
        "sh", "-c", f"until test -e {tmp_path}/go; do sleep 0.01; done; echo kept", job="k", continue_for_ms=60_000
    )
    rig.until(lambda: rig.life.live == 2)
    rig.wire.connected = False
    failed = rig.outcome()
    assert isinstance(failed, FailAttempt)
    assert (failed.job_id, failed.reason) == ("j", FailureReason.LEASE_EXPIRED)
    (tmp_path / "go").touch()
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert (done.session, done.stdout) == ("s1", b"kept\n")
    assert "s1" in rig.life.sessions


def test_drain_finishes_what_runs_and_says_farewell(rig: Rig) -> None:
    rig.dispatch("sh", "-c", "sleep 0.3; echo done")
    rig.until(lambda: rig.life.live == 1)
    rig.inbox.put(Asked())
    assert rig.supervisor.run() == 0
    assert [type(report) for report in rig.wire.reports][-1] is CompleteAttempt
    assert rig.wire.beats[-1].state is SessionState.CLOSED
    assert (rig.wire.closed, rig.wire.listening) == (True, set())


def test_told_twice_it_stops_its_attempts(rig: Rig) -> None:
    rig.dispatch("sleep", "600")
    rig.until(lambda: rig.life.live == 1)
    rig.inbox.put(Asked())
    rig.inbox.put(Asked())
    assert rig.supervisor.run() == 0
    failed = rig.wire.reports[-1]
    assert isinstance(failed, FailAttempt)
    assert failed.reason is FailureReason.WORKER_STOPPED


def test_told_twice_it_leaves_although_the_log_is_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELIVERY_SECONDS", 0.1)
    rig.dispatch("true")
    rig.until(lambda: rig.life.live == 1)
    rig.wire.connected = False
    rig.inbox.put(Asked())
    rig.inbox.put(Asked())
    assert rig.supervisor.run() == 1


def test_who_will_never_be_heard_again_leaves_with_what_it_runs(rig: Rig, tmp_path: Path) -> None:
    rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    rig.until(lambda: any(isinstance(report, StartAttempt) for report in rig.wire.reports))
    rig.wire.fault = "no broker is known any more"
    with pytest.raises(FtjmError, match="no broker is known any more; start this process again"):
        rig.supervisor.run()
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the attempt to be stopped")


def test_scratch_removes_what_dead_workers_left(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "lock").touch()
    first = Scratch(tmp_path)
    second = Scratch(tmp_path)
    second.close()
    assert first.path.exists()
    assert not (tmp_path / "dead").exists()
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_the_inbox_wakes_whoever_waits() -> None:
    inbox = Inbox()
    for _ in range(10_000):
        inbox.put(Asked())
    assert len(inbox.take()) == 10_000
    with socket.socket(fileno=os.dup(inbox.fileno())) as receiver, pytest.raises(BlockingIOError):
        receiver.recv(1)
    inbox.close()

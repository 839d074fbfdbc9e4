"""The supervisor with a real guard and a log made of lists, and with a guard that misbehaves."""

import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftjm.core.records.commands import AttemptReport, CompleteAttempt, FailAttempt, StartAttempt
from ftjm.core.records.messages import RunAttempt, SessionClosed, SessionState, StopAttempt, WorkerHeartbeat
from ftjm.core.state.model import FailureReason, JobSpec, StopReason
from ftjm.runtime.clock import boot_ms
from ftjm.runtime.errors import FtjmError
from ftjm.worker import report_collector
from ftjm.worker import supervisor as module
from ftjm.worker.attempts.linux_processes import become_subreaper
from ftjm.worker.guard.link import GuardLink
from ftjm.worker.guard.scratch import Scratch
from ftjm.worker.inbox import HeartbeatAcknowledged, Inbox, Item, LaneOpened, LeaveRequested, ReportConfirmed
from ftjm.worker.rules import prefetch
from ftjm.worker.rules.session import WorkerIdentity
from ftjm.worker.rules.worker_life import WorkerRules
from ftjm.worker.supervisor import Supervisor
from integration.waiting import until
from tests.worker.guarding import WAIT_SECONDS, alive, pid_in, written


class ListLog:
    """A log that accepts every record while it is connected."""

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
            self.inbox.put(ReportConfirmed(session))

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        self.beats.append(heartbeat)
        if self.connected:
            self.inbox.put(HeartbeatAcknowledged(session, token))

    def listen(self, session: str, lane: int) -> None:
        self.listening.add(session)
        self.inbox.put(LaneOpened(session))

    def leave(self, session: str) -> None:
        self.listening.discard(session)

    def close(self, limit_seconds: float) -> int:
        self.closed = True
        return 0 if self.connected else 1


class Rig:
    """A supervisor under test, which runs step by step until a condition holds."""

    def __init__(self, tmp_path: Path, lease_ms: int = 60_000) -> None:
        self.inbox = Inbox()
        self.wire = ListLog(self.inbox)
        self.scratch = Scratch(tmp_path / "attempts")
        self.links: list[GuardLink] = []
        self.spawn_error: OSError | None = None
        names = iter(f"s{n}" for n in range(1, 99))
        identity = WorkerIdentity(
            worker="w", host="h", pid=1, slots=4, queues=("q",), partitions=1, lanes=1, lease_ms=lease_ms
        )
        self.life = WorkerRules(identity, lambda: next(names))
        self.supervisor = Supervisor(self.life, self.wire, self.inbox, self._spawn, self.scratch.remove)
        self.sent = 0

    def _spawn(self, delay_seconds: float) -> GuardLink:
        if self.spawn_error:
            raise self.spawn_error
        self.links.append(GuardLink(self.scratch.for_guard(), 4096, delay_seconds=delay_seconds))
        return self.links[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < end, (self.wire.reports, self.wire.beats[-3:])
            self.supervisor.step()

    def dispatch(self, *command: str, job: str = "j", losses: int = 0, **spec) -> None:
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
                losses=losses,
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
    """Make rigs, and kill all their processes afterwards. The test process reaps orphans meanwhile, like a worker."""
    made: list[Rig] = []

    def make(lease_ms: int = 60_000) -> Rig:
        made.append(Rig(tmp_path, lease_ms))
        return made[-1]

    become_subreaper()
    yield make
    for rig in made:
        for link in rig.links:
            link.leave()
        rig.scratch.close()
        rig.inbox.close()
        assert not rig.scratch.path.exists()
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


@pytest.fixture
def rig(make_rig: Callable[[], "Rig"]) -> "Rig":
    return make_rig()


def test_a_job_runs_from_dispatch_to_report(rig: Rig) -> None:
    rig.dispatch("sh", "-c", "touch left; cat", payload=b'{"n": 1}')
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert (done.stdout, done.session, done.sent_at > 0) == (b'{"n": 1}', "s1", True)


def test_a_stop_reaches_the_process(rig: Rig, tmp_path: Path) -> None:
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


def test_a_success_is_reported_with_the_next_report_while_attempts_are_at_hand(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_collector, "COMPANY_MS", 600_000)
    monkeypatch.setattr(prefetch, "WAIT_MS_MIN", 600_000)  # so long nothing that is at hand goes back
    for number in range(3):
        rig.dispatch("sleep", "600", job=f"long-{number}")
    rig.until(lambda: len(rig.wire.reports) == 3)
    # The first one takes the last slot, the second one takes it next, and the third one is still at hand then.
    for job, status in ("a", 0), ("b", 3), ("c", 0):
        rig.dispatch("sh", "-c", f"until [ -e {tmp_path}/{job} ]; do sleep 0.01; done; exit {status}", job=job)
    session = rig.life.sessions["s1"]
    rig.until(lambda: len(session.at_hand) == 2)
    (tmp_path / "a").touch()
    rig.until(lambda: len(session.at_hand) == 1)
    (tmp_path / "b").touch()
    rig.until(lambda: any(report.job_id == "b" for report in rig.wire.reports))
    place, done = next(each for each in enumerate(rig.wire.reports) if isinstance(each[1], CompleteAttempt))
    following = rig.wire.reports[place + 1]
    assert (done.job_id, following.job_id) == ("a", "b")
    assert done.sent_at == following.sent_at


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_guard_loses_its_attempts_and_is_replaced(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    escape = f"setsid sh -c 'echo $$ > {tmp_path}/daemon; exec sleep 600' & echo $$ > {tmp_path}/pid; exec sleep 600"
    rig.dispatch("sh", "-c", escape)
    rig.until(lambda: written(tmp_path / "daemon") and rig.life.live_attempts == 1 and len(rig.wire.reports) == 1)
    pids = [pid_in(tmp_path / "pid"), pid_in(tmp_path / "daemon")]
    os.kill(rig.links[0].pid, how)
    if how is signal.SIGSTOP:
        monkeypatch.setattr(module, "ANSWER_MS", 100)
        # The next heartbeat checks whether the guard answers.
        session = rig.life.current
        assert session is not None
        session.hasten_heartbeat()
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


@pytest.mark.parametrize("just_started", [1, 0])
def test_what_had_just_been_started_is_charged_with_a_lost_guard_or_else_all(
    rig: Rig, tmp_path: Path, just_started: int
) -> None:
    for job in ("old", "new"):
        rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/{job}; exec sleep 600", job=job)
        rig.until(lambda job=job: written(tmp_path / job))  # type: ignore[misc]
    ordered = rig.supervisor._guard.attempts
    for key in list(ordered)[: 2 - just_started]:
        ordered[key] -= 60_000
    os.kill(rig.links[0].pid, signal.SIGKILL)
    found = {report.job_id: report.reason for report in (rig.outcome(), rig.outcome())}  # type: ignore[attr-defined]
    innocent = FailureReason.GUARD_LOST_BESIDE if just_started else FailureReason.GUARD_LOST
    assert found == {"old": innocent, "new": FailureReason.GUARD_LOST}


def test_a_job_that_was_lost_with_its_guard_runs_under_a_guard_of_its_own(rig: Rig, tmp_path: Path) -> None:
    rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/bystander; exec sleep 600", job="bystander")
    rig.dispatch("sh", "-c", f"echo $PPID > {tmp_path}/own; exec sleep 600", job="own", losses=1)
    rig.until(lambda: all(written(tmp_path / name) for name in ("bystander", "own")))
    assert len(rig.links) == 2
    assert pid_in(tmp_path / "own") == rig.links[1].pid
    os.kill(rig.links[1].pid, signal.SIGKILL)
    failed = rig.outcome()
    assert isinstance(failed, FailAttempt)
    assert (failed.job_id, failed.reason) == ("own", FailureReason.GUARD_LOST)
    assert alive(pid_in(tmp_path / "bystander"))
    assert (rig.life.current, rig.life.live_attempts) == (rig.life.sessions["s1"], 1)
    rig.dispatch("echo", "again", job="own", losses=2)
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert (done.session, done.stdout, len(rig.links)) == ("s1", b"again\n", 3)
    rig.dispatch("echo", "and again", job="other", losses=1)
    assert isinstance(rig.outcome(), CompleteAttempt)
    assert len(rig.links) == 3, "a guard that has nothing to do is used again"


def test_a_job_runs_under_the_common_guard_where_another_cannot_be_started(rig: Rig, tmp_path: Path) -> None:
    rig.dispatch("sh", "-c", f"echo $PPID > {tmp_path}/bystander; exec sleep 600", job="bystander")
    rig.until(lambda: written(tmp_path / "bystander"))
    rig.spawn_error = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    rig.dispatch("sh", "-c", "echo $PPID", job="own", losses=1)
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert int(done.stdout) == pid_in(tmp_path / "bystander")


def test_a_stop_and_a_deadline_reach_a_guard_of_its_own(make_rig, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ANSWER_AT_DEADLINE_MS", 10_000)
    rig = make_rig(lease_ms=5_000)
    rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/a; exec sleep 600", job="a", losses=1)
    rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/b; exec sleep 600", job="b", losses=1)
    rig.until(lambda: all(written(tmp_path / name) for name in "ab"))
    stop = StopAttempt(
        session="s1",
        partition=0,
        number=3,
        queue="q",
        job_id="a",
        attempt=1,
        reason=StopReason.CANCELLED,
        grace_ms=9,
    )
    rig.inbox.put(stop)
    stopped = rig.outcome()
    assert isinstance(stopped, FailAttempt)
    assert (stopped.job_id, stopped.reason) == ("a", FailureReason.STOPPED)
    rig.wire.connected = False
    expired = rig.outcome()
    assert isinstance(expired, FailAttempt)
    assert (expired.job_id, expired.reason) == ("b", FailureReason.LEASE_EXPIRED)
    assert not any(alive(pid_in(tmp_path / name)) for name in "ab")


def test_a_cut_from_the_log_stops_attempts_and_reports_them_later(make_rig, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "ANSWER_AT_DEADLINE_MS", 10_000)
    rig = make_rig(lease_ms=3_000)
    rig.dispatch("sleep", "600")
    rig.dispatch(
        "sh", "-c", f"until test -e {tmp_path}/go; do sleep 0.01; done; echo kept", job="k", continue_for_ms=60_000
    )
    rig.until(lambda: [bool(held.started_boot) for held in rig.life.sessions["s1"].held.values()] == [True, True])
    rig.wire.connected = False
    failed = rig.outcome()
    assert isinstance(failed, FailAttempt)
    assert (failed.job_id, failed.reason) == ("j", FailureReason.LEASE_EXPIRED)
    (tmp_path / "go").touch()
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert (done.session, done.stdout) == ("s1", b"kept\n")
    assert "s1" in rig.life.sessions


def test_a_drained_worker_finishes_its_attempts_and_closes_its_session(rig: Rig) -> None:
    rig.dispatch("sh", "-c", "sleep 0.3; echo done")
    rig.until(lambda: rig.life.live_attempts == 1)
    rig.inbox.put(LeaveRequested())
    assert rig.supervisor.run() == 0
    assert [type(report) for report in rig.wire.reports][-1] is CompleteAttempt
    assert rig.wire.beats[-1].state is SessionState.CLOSED
    assert (rig.wire.closed, rig.wire.listening) == (True, set())


def test_a_second_request_to_leave_stops_attempts(rig: Rig) -> None:
    rig.dispatch("sleep", "600")
    rig.until(lambda: rig.life.live_attempts == 1)
    rig.inbox.put(LeaveRequested())
    rig.inbox.put(LeaveRequested())
    assert rig.supervisor.run() == 0
    failed = rig.wire.reports[-1]
    assert isinstance(failed, FailAttempt)
    assert failed.reason is FailureReason.WORKER_STOPPED


def test_after_a_second_request_the_worker_leaves_without_the_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELIVERY_SECONDS", 0.1)
    rig.dispatch("true")
    rig.until(lambda: rig.life.live_attempts == 1)
    rig.wire.connected = False
    rig.inbox.put(LeaveRequested())
    rig.inbox.put(LeaveRequested())
    assert rig.supervisor.run() == 1


def test_a_worker_whose_producer_is_broken_ends_with_its_attempts(rig: Rig, tmp_path: Path) -> None:
    rig.dispatch("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    rig.until(lambda: any(isinstance(report, StartAttempt) for report in rig.wire.reports))
    rig.wire.fault = "no broker is known any more"
    with pytest.raises(FtjmError, match="no broker is known any more; start this process again"):
        rig.supervisor.run()
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the attempt to be stopped")


def test_scratch_removes_directories_of_dead_workers(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "lock").touch()
    first = Scratch(tmp_path)
    second = Scratch(tmp_path)
    second.close()
    assert first.path.exists()
    assert not (tmp_path / "dead").exists()
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_the_inbox_wakes_the_selector() -> None:
    inbox = Inbox()
    for _ in range(10_000):
        inbox.put(LeaveRequested())
    assert len(inbox.take()) == 10_000
    with socket.socket(fileno=os.dup(inbox.fileno())) as receiver, pytest.raises(BlockingIOError):
        receiver.recv(1)
    inbox.close()


def started(rig: Rig) -> list[str]:
    """The jobs whose attempts have started, as their reports say."""
    return [report.job_id for report in rig.wire.reports if isinstance(report, StartAttempt)]


def test_a_guard_is_not_lost_while_the_supervisor_waits_for_another(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in which a guard has to answer begins when it is asked, not before the kill of another guard."""
    monkeypatch.setattr(module, "ANSWER_AT_DEADLINE_MS", 2_000)
    rig.dispatch("sleep", "600", job="a")
    rig.dispatch("sleep", "600", job="own", losses=1)
    rig.until(lambda: sorted(started(rig)) == ["a", "own"])
    own = rig.links[1]
    os.kill(own.pid, signal.SIGSTOP)
    kill = own.kill

    def kill_slowly() -> bool:
        time.sleep(2 * module.ANSWER_AT_DEADLINE_MS / 1000)
        return kill()

    monkeypatch.setattr(own, "kill", kill_slowly)
    rig.supervisor._own_guards[0].answer_by = boot_ms() - 1
    rig.inbox.put(SessionClosed(session="s1", partition=0, number=3))
    ends = {report.job_id: report for report in (rig.outcome(), rig.outcome())}
    reasons = {job: report.reason for job, report in ends.items() if isinstance(report, FailAttempt)}
    assert reasons == {"a": FailureReason.LEASE_EXPIRED, "own": FailureReason.GUARD_LOST}
    assert len(rig.links) == 2


def test_reports_reach_the_log_though_no_other_guard_can_be_started(rig: Rig) -> None:
    rig.dispatch("sleep", "600")
    rig.until(lambda: started(rig) == ["j"])
    rig.spawn_error = OSError(11, "no more processes")
    os.kill(rig.links[0].pid, signal.SIGKILL)
    with pytest.raises(OSError, match="no more processes"):
        rig.until(lambda: False)
    assert [type(report) for report in rig.wire.reports] == [StartAttempt, FailAttempt]


def peek(end: socket.socket) -> bytes:
    """What has arrived, and was not taken yet."""
    try:
        return end.recv(1 << 16, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def test_the_end_that_a_guard_has_sent_before_it_died_counts(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.dispatch("sh", "-c", f"until test -e {tmp_path}/go; do sleep 0.01; done", job="a")
    rig.until(lambda: started(rig) == ["a"])
    link, take = rig.links[0], rig.inbox.take

    def take_while_the_guard_dies(*, readable: bool) -> list[Item]:
        monkeypatch.setattr(rig.inbox, "take", take)
        (tmp_path / "go").touch()
        until(lambda: b"a/1" in peek(link.channel._socket), "the end of the attempt")
        os.kill(link.pid, signal.SIGKILL)
        os.waitid(os.P_PID, link.pid, os.WEXITED | os.WNOWAIT)
        return take(readable=readable)

    monkeypatch.setattr(rig.inbox, "take", take_while_the_guard_dies)
    rig.dispatch("true", job="b")
    done = rig.outcome()
    assert isinstance(done, CompleteAttempt)
    assert done.job_id == "a"

"""The guard: the parent of all attempts, which stops them in time whatever happens to the supervisor.

A process of its own (`python -m ftjm.worker.guard.guard FD DIRECTORY DELAY LIMIT TASKS MEMORY APP…`), whose main
thread does nothing else.

**Why a process of its own.** The owner of a partition gives a worker's attempts to another worker once the worker's
lease has ended, so they must have stopped by then, even if the supervisor hangs, is stopped by a signal, or is killed.
The supervisor sends the guard the deadline of each session (`Renew`), each time the log has taken a heartbeat. The
guard kills an attempt at its session's deadline plus the job's own `continue_for`, without asking. If the guard itself
dies or hangs, the supervisor, which is the subreaper above it, kills all that it ran. If the supervisor dies, the
socket between the two closes: the guard kills everything and ends.

    deadline of a session  =  time of the heartbeat + 0.98 * lease - 500 ms      (`rules/session.py`)

Deadlines are CLOCK_BOOTTIME, which keeps counting while the host sleeps. A timer of the selector does not, so the guard
checks the clock at least every `CLOCK_CHECK_MS` while any attempt runs.

**Why it is the parent and subreaper.** Only a parent learns how a process ended, and keeps its pid from being used
again meanwhile. A process that escapes from its attempt (it forks twice, and leaves the session) becomes the guard's
child when its own parent dies. The guard finds such stragglers after every death, and kills those whose attempt is
over: each process carries the mark of its attempt (`attempts/linux_processes.py`).

**What the loop never does.** It touches no file, since a disk may hang: a helper makes the attempts' directories and
reads what jobs have written (`file_reader.py`), programs are started by threads that may wait for them
(`attempts/spawner.py`), and the supervisor writes the log.

How a kind of attempt is started is not the guard's business, but its executor's: see `executors/ports.py`.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms, wall_ms
from ftjm.worker.attempts.attempt import STOP_TEXTS, GuardedAttempt
from ftjm.worker.attempts.linux_processes import become_subreaper, children, dead_child, kill_all, kill_group
from ftjm.worker.attempts.protocol import (
    Disconnected,
    Ended,
    Forget,
    Frame,
    FrameChannel,
    Ping,
    Pong,
    Renew,
    Start,
    Started,
    Stop,
    Warned,
)
from ftjm.worker.executors.ports import ExecutorSettings, HasFileno, StartFailed
from ftjm.worker.guard.file_reader import FileReader
from ftjm.worker.guard.registry import Executors, inherited_environment
from ftjm.worker.guard.reports import Reports
from ftjm.worker.guard.stragglers import LivingMarks
from ftjm.worker.guard.wakeup import signals_as_bytes

CLOCK_CHECK_MS = 200
MEMORY_CHECK_MS = 1_000
LAST_KILL_SECONDS = 5.0


class Guard:
    """The guard's loop. It is the `ExecutorHost` of its executors."""

    def __init__(self, channel: FrameChannel[Frame, Frame], directory: Path, settings: ExecutorSettings) -> None:
        """Prepare the loop, and start the executors.

        Args:
            channel: The connection to the supervisor.
            directory: Attempts get their directories in it.
            settings: The settings of the executors.
        """
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._unwatched: set[int] = set()
        """Descriptors that are watched no more since the selector returned."""
        self._starting: dict[str, GuardedAttempt] = {}
        """Attempts that their executor has accepted and that do not run yet, by their keys."""
        self._running: dict[str, GuardedAttempt] = {}
        """Running attempts, by their keys."""
        self._marks = LivingMarks()
        self._leaders: dict[int, GuardedAttempt] = {}
        """Running attempts that have a leader, by the leader's pid."""
        self._deadlines: dict[str, int] = {}
        """The deadline of each session, CLOCK_BOOTTIME ms."""
        self._stops: list[Stop] = []
        self._check_at = 0
        """When the next deadline must be checked, if any attempt runs."""
        self._check_memory_at = 0
        """When the kernel is asked next whether it has run out of memory."""
        self._channel_events = selectors.EVENT_READ
        self._wake, self._woken = signals_as_bytes()
        self._selector.register(channel, selectors.EVENT_READ, self._serve_channel)
        self._selector.register(self._wake, selectors.EVENT_READ, lambda _mask: self._wake.recv(4096))
        self._files = FileReader(self, directory)
        self.ask, self.take_back = self._files.ask, self._files.take_back_unused
        self._reports = Reports(self._files, channel)
        self._executors = Executors(self, settings)

    def run(self) -> None:
        """Serve until the supervisor has gone. Then nothing is left running."""
        try:
            while True:
                self._channel.flush()
                self._update_channel_events()
                is_busy = self._running or self._starting or self._files.is_busy
                wait = max(0, self._check_at - boot_ms()) / 1000 if is_busy else None
                ready = self._selector.select(wait)
                self._marks.look_again()
                self._unwatched.clear()
                for key, mask in ready:
                    # A callback before this one may have closed the descriptor, and another may have its number.
                    if key.fd not in self._unwatched:
                        key.data(mask)
                now = boot_ms()
                # First the attempts that have just ended: their own outcome counts, not a stop that is due now.
                self._reap(now)
                self._stop_requested(now)
                self._enforce(now)
        except Disconnected:
            pass
        finally:
            self._kill_everything()

    # Frames of the supervisor.

    def _serve_channel(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._channel.flush()
        if mask & selectors.EVENT_READ:
            for frame in self._channel.receive():
                self._obey(frame)

    def _obey(self, frame: Frame) -> None:
        if isinstance(frame, Start):
            self._start(frame)
        elif isinstance(frame, Stop):
            self._stops.append(frame)
        elif isinstance(frame, Renew):
            self._deadlines[frame.session] = frame.deadline_ms
        elif isinstance(frame, Forget):
            self._deadlines.pop(frame.session, None)
        elif isinstance(frame, Ping):
            self._channel.post(Pong())

    def _start(self, request: Start) -> None:
        """Start an attempt if its session's lease allows it."""
        deadline = self._deadlines.get(request.session)
        if deadline is None or boot_ms() >= deadline:
            self._report_not_started(request, FailureReason.LEASE_EXPIRED, "the worker's lease was over by then")
            return
        directory = self._files.directory()
        try:
            attempt = self._executors.start(request, directory)
        except StartFailed as error:
            self._report_not_started(request, FailureReason.START_FAILED, str(error), self._files.take_back(directory))
            return
        self._marks.add(attempt.mark)
        if not attempt.runs:
            self._starting[request.key] = attempt

    def _report_not_started(self, request: Start, reason: FailureReason, error: str, scratch: str = "") -> None:
        self._channel.post(Ended(key=request.key, reason=reason, error=error, ended_at=wall_ms(), scratch=scratch))

    def _stop_requested(self, now: int) -> None:
        for request in self._stops:
            if attempt := self._running.get(request.key):
                self._stop(attempt, request.reason, request.grace_ms, now)
            elif attempt := self._starting.get(request.key):
                self._give_up(attempt, request.reason)
        self._stops.clear()

    def _stop(self, attempt: GuardedAttempt, reason: FailureReason, grace_ms: int, now: int) -> None:
        attempt.timeout_at = None
        kill_at = now + grace_ms
        attempt.kill_at = kill_at if attempt.kill_at is None else min(attempt.kill_at, kill_at)
        attempt.stop(reason, signal.SIGTERM if grace_ms else signal.SIGKILL)

    def _give_up(self, attempt: GuardedAttempt, reason: FailureReason) -> None:
        self._executors.give_up(attempt)
        self.not_started(attempt, reason, STOP_TEXTS[reason])

    # What executors report: see `ExecutorHost`.

    def started(self, attempt: GuardedAttempt) -> None:
        """Watch the attempt, and report that it runs."""
        request = attempt.request
        self._starting.pop(request.key, None)
        if request.timeout_ms:
            attempt.timeout_at = boot_ms() + request.timeout_ms
        self._running[request.key] = attempt
        if attempt.leader:
            self._leaders[attempt.leader] = attempt
        for fd, events, serve in attempt.watched():
            self._selector.register(fd, events, partial(self._serve_attempt, fd, serve))
        self._channel.post(Started(key=request.key, started_at=attempt.started_at))

    def ended(self, attempt: GuardedAttempt, exit_status: int) -> bool:
        """Kill what an attempt without a leader has left behind, and report how it has ended."""
        del self._running[attempt.request.key]
        self._marks.discard(attempt.mark)
        attempt.has_left_processes = attempt.mark in self._kill_stragglers()
        self._finish(attempt, exit_status, boot_ms())
        return not attempt.has_left_processes

    def not_started(self, attempt: GuardedAttempt, reason: FailureReason, error: str) -> None:
        """Report that the attempt will never run."""
        self._starting.pop(attempt.request.key, None)
        self._marks.discard(attempt.mark)
        self._report_not_started(attempt.request, reason, error, self._files.take_back(attempt.directory))

    def watch(self, connection: HasFileno, ready: Callable[[int], None]) -> None:
        """Call `ready` whenever the connection can be read."""
        self._selector.register(connection, selectors.EVENT_READ, ready)

    def unwatch(self, connection: HasFileno) -> None:
        """Watch the connection no more."""
        self._unwatch_fds([connection.fileno()])

    def warn(self, text: str) -> None:
        """Have the supervisor log the text."""
        self._channel.post(Warned(text=text))

    # What attempts do.

    def _serve_attempt(self, fd: int, serve: Callable[[], bool], _mask: int) -> None:
        if not serve():
            self._unwatch_fds([fd])

    def _reap(self, now: int) -> None:
        """Report attempts whose leaders have died, and kill what they leave behind."""
        other_died = False
        while pid := dead_child():
            attempt = self._leaders.pop(pid, None)
            if attempt is not None or self._executors.own(pid):
                kill_group(pid, signal.SIGKILL)
            try:
                exit_status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            except ChildProcessError:
                continue  # it could not execute its program, and was waited for by the spawner's thread
            self._marks.look_again()
            if attempt is not None:
                del self._running[attempt.request.key]
                self._marks.discard(attempt.mark)
                attempt.has_left_processes = attempt.mark in self._kill_stragglers()
                self._finish(attempt, exit_status, now)
            else:
                other_died = True
                self._executors.child_died(pid, exit_status)
        if other_died:
            # Its death may have made further stragglers our children.
            self._kill_stragglers()

    def _finish(self, attempt: GuardedAttempt, exit_status: int, now: int) -> None:
        if fds := attempt.descriptors():
            self._unwatch_fds(fds)
        self._reports.attempt_ended(attempt, exit_status, now)

    def _kill_stragglers(self) -> set[int]:
        return self._marks.kill_stragglers(self._is_known, self._executors.are_forking)

    def _is_known(self, pid: int) -> bool:
        return pid in self._leaders or self._executors.own(pid) or self._files.owns(pid)

    # What time does.

    def _enforce(self, now: int) -> None:
        check_at = now + CLOCK_CHECK_MS
        for attempt in self._running.values():
            deadline = self._deadlines.get(attempt.request.session)
            if deadline is None or now >= (end := deadline + attempt.request.continue_for_ms):
                attempt.stop(FailureReason.LEASE_EXPIRED, signal.SIGKILL)
                continue
            if attempt.timeout_at is not None and now >= attempt.timeout_at:
                self._stop(attempt, FailureReason.TIMEOUT, attempt.request.grace_ms, now)
            elif attempt.kill_at is not None and now >= attempt.kill_at:
                attempt.send_signal(signal.SIGKILL)
            if look := attempt.due(now):
                self._reports.look_at_progress(attempt, look)
            for at in (end, attempt.timeout_at, attempt.kill_at):
                if at is not None and now < at < check_at:
                    check_at = at
        self._check_at = check_at
        if self._running and now >= self._check_memory_at:
            self._check_memory_at = now + MEMORY_CHECK_MS
            self._reports.memory_killer.check(now)
        for attempt in list(self._starting.values()):
            deadline = self._deadlines.get(attempt.request.session)
            if deadline is None or now >= deadline:
                self._give_up(attempt, FailureReason.LEASE_EXPIRED)
        self._executors.enforce(now)
        self._files.enforce(now)

    def _update_channel_events(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._channel.wants_write else 0)
        if events != self._channel_events:
            self._channel_events = events
            self._selector.modify(self._channel, events, self._serve_channel)

    def _unwatch_fds(self, fds: Sequence[int]) -> None:
        for fd in self._selector.get_map().keys() & fds:
            self._selector.unregister(fd)
        self._unwatched.update(fds)

    def _kill_everything(self) -> None:
        for attempt in self._running.values():
            attempt.send_signal(signal.SIGKILL)
        # Where all descriptors are used up, this frees one: to find processes takes one.
        self._channel.close()
        kill_all(children, limit_seconds=LAST_KILL_SECONDS)


def main(arguments: list[str]) -> None:
    """Be a guard: `FD DIRECTORY DELAY LIMIT TASKS MEMORY APP…` are the socket to the supervisor, the directory of
    attempts, the seconds to wait before it begins, and the settings of executors."""
    fd, directory, delay, limit, tasks, memory, *apps = arguments
    become_subreaper()
    time.sleep(float(delay))
    control = socket.socket(fileno=int(fd))
    control.set_inheritable(False)
    settings = ExecutorSettings(inherited_environment(), int(limit), apps, int(tasks), int(memory))
    Guard(FrameChannel(control, Frame), Path(directory), settings).run()


if __name__ == "__main__":
    main(sys.argv[1:])

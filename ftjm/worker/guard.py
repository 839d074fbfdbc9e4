"""The guard: the parent of all attempts, which stops them in time whatever becomes of the supervisor.

A process of its own (`python -m ftjm.worker.guard FD DIRECTORY LIMIT APP…`), single-threaded, that does nothing else.
It ends when its pipe to the supervisor closes, and nothing that it started outlives it.
"""

import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ftjm.clock import boot_ms, wall_ms
from ftjm.core.model import FailureReason
from ftjm.worker.attempt import HALTED, Attempt, StartFailed, Tail, stop_group
from ftjm.worker.files import remove
from ftjm.worker.forks import Forks, is_child
from ftjm.worker.processes import (
    MemoryKiller,
    attempt_of,
    become_subreaper,
    children,
    dead_child,
    kill,
    kill_all_children,
    kill_group,
)
from ftjm.worker.protocol import Channel, Disconnected, Ended, Forget, Frame, Ping, Pong, Renew, Start, Started, Stop

LOOK_MS = 200
"""At most so long between looks at the clock while something runs: the selector's own timer stops while the host
sleeps, and the lease does not."""
LAST_KILL_SECONDS = 5.0


class Guard:
    """The loop. `limit` bounds a result, and each of both outputs, in bytes; `apps` define the Python tasks."""

    def __init__(self, channel: Channel, directory: Path, limit: int, apps: Sequence[str] = ()) -> None:
        self._channel = channel
        self._directory = directory
        self._limit = limit
        self._inherited = {name: value for name, value in os.environ.items() if not name.startswith("FTJM_")}
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, Attempt] = {}
        self._by_key: dict[str, Attempt] = {}
        self._deadlines: dict[str, int] = {}
        self._memory_killer = MemoryKiller()
        self._count = 0
        self._stops: list[Stop] = []
        self._look_at = 0
        """When time has something to do next, if anything runs."""
        self._channel_events = selectors.EVENT_READ
        self._wake, self._woken = _signals_as_bytes()
        self._selector.register(channel, selectors.EVENT_READ, self._talk)
        self._selector.register(self._wake, selectors.EVENT_READ, self._awake)
        self._forks = Forks(apps, self._inherited, self._watch_forks, self._unwatch) if apps else None

    def run(self) -> None:
        """Until the supervisor has gone. Then nothing is left running."""
        try:
            while True:
                wait = max(0, self._look_at - boot_ms()) / 1000 if self._running or self._starting else None
                for key, mask in self._selector.select(wait):
                    key.data(mask)
                now = boot_ms()
                # Those that have just ended by themselves have their own outcome, which was reached first.
                self._reap(now)
                self._stop(now)
                self._enforce(now)
                self._want_write()
        except Disconnected:
            pass
        finally:
            self._kill_everything()

    # What the supervisor says.

    def _talk(self, mask: int) -> None:
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
            self._channel.send(Pong())

    def _start(self, order: Start) -> None:
        deadline = self._deadlines.get(order.session)
        if deadline is None or boot_ms() >= deadline:
            error = "not started: the worker's lease was over by then"
            self._channel.send(
                Ended(key=order.key, reason=FailureReason.LEASE_EXPIRED, error=error, ended_at=wall_ms())
            )
            return
        self._count += 1
        directory = self._directory / str(self._count)
        try:
            attempt = Attempt(order, directory, self._inherited, self._limit)
            if order.executor == "python":
                self._fork(attempt)
            else:
                attempt.execute()
                self._begun(attempt)
        except StartFailed as error:
            self._not_started(order, directory, FailureReason.START_FAILED, str(error))

    def _fork(self, attempt: Attempt) -> None:
        """Have a process forked for a Python task. Raises StartFailed."""
        if self._forks is None:
            attempt.abandon()
            name = attempt.order.command[0] if attempt.order.command else ""
            text = f"expected a worker of the Python task {name!r}, but this one serves no app; start it with --app"
            raise StartFailed(text)
        if error := self._forks.ask(attempt):
            attempt.abandon()
            raise StartFailed(error)

    def _not_started(self, order: Start, directory: Path, reason: FailureReason, error: str) -> None:
        scratch = remove(directory)
        self._channel.send(Ended(key=order.key, reason=reason, error=error, ended_at=wall_ms(), scratch=scratch))

    def _begun(self, attempt: Attempt) -> None:
        order = attempt.order
        if order.timeout_ms:
            attempt.timeout_at = boot_ms() + order.timeout_ms
        self._running[attempt.group] = self._by_key[order.key] = attempt
        for tail in (attempt.stdout, attempt.stderr):
            self._selector.register(tail.fd, selectors.EVENT_READ, partial(self._output, tail))
        if attempt.input is not None and attempt.feed():
            self._selector.register(attempt.input, selectors.EVENT_WRITE, partial(self._input, attempt, attempt.input))
        self._channel.send(Started(key=order.key, started_at=attempt.started_at))

    def _stop(self, now: int) -> None:
        for order in self._stops:
            if attempt := self._by_key.get(order.key):
                self._halt(attempt, order.reason, order.grace_ms, now)
            for attempt in self._starting:
                if attempt.order.key == order.key:
                    self._give_up(attempt, order.reason)
        self._stops.clear()

    def _halt(self, attempt: Attempt, reason: FailureReason, grace_ms: int, now: int) -> None:
        attempt.timeout_at = None
        kill_at = now + grace_ms
        attempt.kill_at = kill_at if attempt.kill_at is None else min(attempt.kill_at, kill_at)
        stop_group(attempt, reason, signal.SIGTERM if grace_ms else signal.SIGKILL)

    # The zygote.

    @property
    def _starting(self) -> list[Attempt]:
        return self._forks.waiting if self._forks else []

    def _watch_forks(self, control: socket.socket) -> None:
        self._selector.register(control, selectors.EVENT_READ, self._forked)

    def _unwatch(self, control: socket.socket) -> None:
        self._selector.unregister(control)

    def _forked(self, _mask: int) -> None:
        assert self._forks is not None
        forked, orphaned = self._forks.hear()
        for attempt, pid in forked:
            if pid and is_child(pid):
                attempt.began(pid)
                self._begun(attempt)
            else:
                attempt.abandon()
                why = "its new process died at once" if pid else "cannot fork: no memory, or too many processes"
                self._not_started(attempt.order, attempt.directory, FailureReason.START_FAILED, why)
        for attempt in orphaned:
            remove(attempt.directory)
            self._start(attempt.order)

    def _give_up(self, attempt: Attempt, reason: FailureReason) -> None:
        assert self._forks is not None
        self._forks.give_up(attempt)
        self._not_started(attempt.order, attempt.directory, reason, HALTED[reason])

    # What attempts do.

    def _output(self, tail: Tail, _mask: int) -> None:
        if not tail.read():
            self._selector.unregister(tail.fd)

    def _input(self, attempt: Attempt, fd: int, _mask: int) -> None:
        if not attempt.feed():
            self._forget_fd(fd)

    def _awake(self, _mask: int) -> None:
        self._wake.recv(4096)

    def _reap(self, now: int) -> None:
        """Report attempts whose leaders have died, and kill what they leave behind."""
        any_died = False
        while pid := dead_child():
            any_died = True
            attempt = self._running.pop(pid, None)
            if attempt is not None:
                kill_group(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if attempt is not None:
                del self._by_key[attempt.order.key]
                self._kill_stragglers()
                self._finish(attempt, status, now)
        if any_died:
            # A death may have made further stragglers our children.
            self._kill_stragglers()

    def _finish(self, attempt: Attempt, status: int, now: int) -> None:
        for tail in (attempt.stdout, attempt.stderr):
            self._forget_fd(tail.fd)
        if attempt.input is not None:
            self._forget_fd(attempt.input)
        end = attempt.ended(status)
        if end.reason is not None and attempt.unsaid:
            self._channel.send(attempt.unsaid)
        if end.reason is FailureReason.SIGNAL and end.signal == signal.SIGKILL:
            self._memory_killer.look(now)
            if self._memory_killer.recent(now):
                end.reason = FailureReason.OUT_OF_MEMORY
                end.error = "killed by SIGKILL while the kernel's out-of-memory killer was at work"
        self._channel.send(end)

    def _kill_stragglers(self) -> None:
        """Processes that escaped from their attempt's group, and became our children when it ended."""
        for pid in children():
            if pid in self._running or (self._forks and pid == self._forks.pid):
                continue
            key = attempt_of(pid)
            # One that hides whose it is may belong to an attempt that runs or starts: it goes when none does.
            if (key not in self._by_key) if key else not (self._running or self._starting):
                kill(pid, signal.SIGKILL)

    # What time does.

    def _enforce(self, now: int) -> None:
        self._look_at = now + LOOK_MS
        for attempt in self._running.values():
            deadline = self._deadlines.get(attempt.order.session)
            if deadline is None or now >= deadline + attempt.order.continue_for_ms:
                stop_group(attempt, FailureReason.LEASE_EXPIRED, signal.SIGKILL)
                continue
            if attempt.timeout_at is not None and now >= attempt.timeout_at:
                self._halt(attempt, FailureReason.TIMEOUT, attempt.order.grace_ms, now)
            elif attempt.kill_at is not None and now >= attempt.kill_at:
                kill_group(attempt.group, signal.SIGKILL)
            if said := attempt.words.heard(now):
                self._channel.send(said)
            due = (deadline + attempt.order.continue_for_ms, attempt.timeout_at, attempt.kill_at)
            self._look_at = min(self._look_at, *(at for at in due if at is not None and at > now))
        if self._running:
            self._memory_killer.look(now)
        for attempt in self._starting:
            deadline = self._deadlines.get(attempt.order.session)
            if deadline is None or now >= deadline:
                self._give_up(attempt, FailureReason.LEASE_EXPIRED)
        if self._forks:
            self._forks.enforce(now)

    def _want_write(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._channel.wants_write else 0)
        if events != self._channel_events:
            self._channel_events = events
            self._selector.modify(self._channel, events, self._talk)

    def _forget_fd(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _kill_everything(self) -> None:
        for group in self._running:
            kill_group(group, signal.SIGKILL)
        kill_all_children(limit_seconds=LAST_KILL_SECONDS)


def _signals_as_bytes() -> tuple[socket.socket, socket.socket]:
    """Deaths of children wake the selector. Requests to end are for the supervisor, which sends them to us.

    Handlers, not SIG_IGN: attempts would inherit that.
    """
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    return wake, woken


def main(arguments: list[str]) -> None:
    """`FD DIRECTORY LIMIT APP…`: the pipe to the supervisor, where attempts have their directories, bytes, modules."""
    fd, directory, limit, *apps = arguments
    become_subreaper()
    control = socket.socket(fileno=int(fd))
    control.set_inheritable(False)
    Guard(Channel(control), Path(directory), int(limit), apps).run()


if __name__ == "__main__":
    main(sys.argv[1:])

"""The guard: the parent of all attempts, which stops them in time whatever becomes of the supervisor.

A process of its own (`python -m ftjm.worker.guard FD DIRECTORY LIMIT APP…`), single-threaded, that does nothing else.
It ends when its pipe to the supervisor closes, and nothing that it started outlives it.
"""

import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ftjm.clock import boot_ms, wall_ms
from ftjm.core.model import FailureReason
from ftjm.worker.attempt import Attempt, StartFailed, Tail
from ftjm.worker.files import remove
from ftjm.worker.processes import (
    MemoryKiller,
    become_subreaper,
    children,
    dead_child,
    kill,
    kill_all_children,
    kill_group,
    owner_of,
)
from ftjm.worker.protocol import Channel, Disconnected, Ended, Forget, Frame, Ping, Pong, Renew, Start, Started, Stop
from ftjm.worker.tasks import Tasks

INHERITED_DEFAULTS = {"PATH": os.defpath, "HOME": "/", "LANG": "C.UTF-8"}
"""What jobs rely on, for workers that were themselves started without."""
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
        own = {name: value for name, value in os.environ.items() if not name.startswith("FTJM_")}
        self._inherited = INHERITED_DEFAULTS | own
        self._selector = selectors.DefaultSelector()
        self._running: dict[str, Attempt] = {}
        """By key."""
        self._leaders: dict[int, Attempt] = {}
        """Those of them that are processes."""
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
        self._tasks = Tasks(apps, self._inherited, self, self._watch, self._unwatch) if apps else None

    def run(self) -> None:
        """Until the supervisor has gone. Then nothing is left running."""
        try:
            while True:
                wait = max(0, self._look_at - boot_ms()) / 1000 if self._running or self._starting else None
                for key, mask in self._selector.select(wait):
                    # What was heard before may have closed it, and another may have its number.
                    if self._selector.get_map().get(key.fd) is key:
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

    def _start(self, order: Start, *, alone: bool = False) -> None:
        """`alone`: in a process of its own, whatever its task says."""
        deadline = self._deadlines.get(order.session)
        if deadline is None or boot_ms() >= deadline:
            error = "not started: the worker's lease was over by then"
            self._channel.send(
                Ended(key=order.key, reason=FailureReason.LEASE_EXPIRED, error=error, ended_at=wall_ms())
            )
            return
        self._count += 1
        directory = self._directory / str(self._count)
        python = order.executor == "python"
        shared = python and not alone and self._tasks is not None and self._tasks.shares(order)
        try:
            attempt = Attempt(order, directory, self._inherited, self._limit, shared=shared)
            attempt.alone = alone
            if python:
                self._ask(attempt)
            else:
                self.begun(attempt, attempt.execute())
        except StartFailed as error:
            self._not_started(order, directory, FailureReason.START_FAILED, str(error))

    def _ask(self, attempt: Attempt) -> None:
        """Have a process or a thread made for a Python task. Raises StartFailed."""
        if self._tasks is None:
            attempt.abandon()
            name = attempt.order.command[0] if attempt.order.command else ""
            text = f"expected a worker of the Python task {name!r}, but this one serves no app; start it with --app"
            raise StartFailed(text)
        if error := self._tasks.ask(attempt):
            attempt.abandon()
            raise StartFailed(error)

    def _not_started(self, order: Start, directory: Path, reason: FailureReason, error: str) -> None:
        scratch = remove(directory)
        self._channel.send(Ended(key=order.key, reason=reason, error=error, ended_at=wall_ms(), scratch=scratch))

    def _stop(self, now: int) -> None:
        for order in self._stops:
            if attempt := self._running.get(order.key):
                self._halt(attempt, order.reason, order.grace_ms, now)
            for attempt in self._starting:
                if self._tasks and attempt.order.key == order.key:
                    self._tasks.give_up(attempt, order.reason)
        self._stops.clear()

    def _halt(self, attempt: Attempt, reason: FailureReason, grace_ms: int, now: int) -> None:
        attempt.timeout_at = None
        kill_at = now + grace_ms
        attempt.kill_at = kill_at if attempt.kill_at is None else min(attempt.kill_at, kill_at)
        attempt.halt(reason, signal.SIGTERM if grace_ms else signal.SIGKILL)

    # What is told of Python tasks, and of commands.

    @property
    def _starting(self) -> list[Attempt]:
        return self._tasks.waiting if self._tasks else []

    def begun(self, attempt: Attempt, pid: int) -> None:
        """See `tasks.Told`."""
        order = attempt.order
        if order.timeout_ms:
            attempt.timeout_at = boot_ms() + order.timeout_ms
        self._running[order.key] = attempt
        if pid:
            self._leaders[pid] = attempt
        for tail in (attempt.stdout, attempt.stderr):
            self._selector.register(tail.fd, selectors.EVENT_READ, partial(self._output, tail))
        if attempt.input is not None and attempt.feed():
            self._selector.register(attempt.input, selectors.EVENT_WRITE, partial(self._input, attempt, attempt.input))
        self._channel.send(Started(key=order.key, started_at=attempt.started_at))

    def ended(self, attempt: Attempt, code: int) -> None:
        """See `tasks.Told`."""
        del self._running[attempt.order.key]
        self._finish(attempt, code, boot_ms())

    def not_started(self, attempt: Attempt, reason: FailureReason, error: str) -> None:
        """See `tasks.Told`."""
        self._not_started(attempt.order, attempt.directory, reason, error)

    def again(self, attempt: Attempt, *, alone: bool) -> None:
        """See `tasks.Told`."""
        order = attempt.order
        if self._running.pop(order.key, None):
            self._forget(attempt)
            order = attempt.taken_along()
        else:
            attempt.abandon()
            remove(attempt.directory)
        self._start(order, alone=alone)

    def _watch(self, control: socket.socket, hear: Callable[[int], None]) -> None:
        self._selector.register(control, selectors.EVENT_READ, hear)

    def _unwatch(self, control: socket.socket) -> None:
        self._forget_fd(control.fileno())

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
            attempt = self._leaders.pop(pid, None)
            if attempt is not None or self._is_ours(pid):
                kill_group(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if attempt is not None:
                del self._running[attempt.order.key]
                self._kill_stragglers()
                self._finish(attempt, code, now)
            elif self._tasks:
                self._tasks.died(pid, code)
        if any_died:
            # A death may have made further stragglers our children.
            self._kill_stragglers()

    def _is_ours(self, pid: int) -> bool:
        return self._tasks is not None and self._tasks.has(pid)

    def _finish(self, attempt: Attempt, code: int, now: int) -> None:
        self._forget(attempt)
        end = attempt.ended(code)
        if end.reason is not None and attempt.unsaid:
            self._channel.send(attempt.unsaid)
        if end.reason is FailureReason.SIGNAL and end.signal == signal.SIGKILL:
            self._memory_killer.look(now)
            if self._memory_killer.recent(now):
                end.reason = FailureReason.OUT_OF_MEMORY
                end.error = "killed by SIGKILL while the kernel's out-of-memory killer was at work"
        self._channel.send(end)

    def _forget(self, attempt: Attempt) -> None:
        for tail in (attempt.stdout, attempt.stderr):
            self._forget_fd(tail.fd)
        if attempt.input is not None:
            self._forget_fd(attempt.input)

    def _kill_stragglers(self) -> None:
        """Processes that escaped from their attempt's group, and became our children when it ended."""
        for pid in children():
            if pid in self._leaders or self._is_ours(pid):
                continue
            owner = owner_of(pid)
            # One that hides whose it is may belong to an attempt that runs or starts: it goes when none does.
            known = owner is None or owner in self._running or (owner.isdecimal() and self._is_ours(int(owner)))
            if not known or (owner is None and not (self._running or self._starting)):
                kill(pid, signal.SIGKILL)

    # What time does.

    def _enforce(self, now: int) -> None:
        self._look_at = now + LOOK_MS
        for attempt in self._running.values():
            deadline = self._deadlines.get(attempt.order.session)
            if deadline is None or now >= deadline + attempt.order.continue_for_ms:
                attempt.halt(FailureReason.LEASE_EXPIRED, signal.SIGKILL)
                continue
            if attempt.timeout_at is not None and now >= attempt.timeout_at:
                self._halt(attempt, FailureReason.TIMEOUT, attempt.order.grace_ms, now)
            elif attempt.kill_at is not None and now >= attempt.kill_at:
                attempt.send_signal(signal.SIGKILL)
            if said := attempt.words.heard(now):
                self._channel.send(said)
            due = (deadline + attempt.order.continue_for_ms, attempt.timeout_at, attempt.kill_at)
            self._look_at = min(self._look_at, *(at for at in due if at is not None and at > now))
        if self._running:
            self._memory_killer.look(now)
        if self._tasks:
            for attempt in self._starting:
                deadline = self._deadlines.get(attempt.order.session)
                if deadline is None or now >= deadline:
                    self._tasks.give_up(attempt, FailureReason.LEASE_EXPIRED)
            self._tasks.enforce(now)

    def _want_write(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._channel.wants_write else 0)
        if events != self._channel_events:
            self._channel_events = events
            self._selector.modify(self._channel, events, self._talk)

    def _forget_fd(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def _kill_everything(self) -> None:
        for attempt in self._running.values():
            attempt.send_signal(signal.SIGKILL)
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

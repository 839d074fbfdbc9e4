"""Python tasks for the guard: which process runs which attempt, and what happens when one of them dies.

    guard ── zygote_link ── zygote          one process that has imported the apps; it forks
      │                       │
      └── task_process_link ─ task_process  processes that run attempts, one at a time each

All of these processes are children of the guard, which is the subreaper. A task process is kept: when its attempt has
ended, it runs the next one of any task, so that an attempt costs no fork. It restores what the attempt has changed
(`process_state.py`). Where that is not possible, or where the attempt has left something behind (`process_end.py`), the
process ends, and its attempt with it. The attempts of a task with `isolated=True` all end so.

There are as many task processes as attempts have run at once. The one that was used last is used first, so that the
memory of the others may be swapped out.

To stop an attempt is to signal its process, which then gets no further attempt: the signal may arrive when the attempt
has ended. If a process dies, its attempt has ended with it, and no other.
"""

import signal
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.attempt import GuardedAttempt
from ftjm.worker.attempts.output_tail import OutputTail
from ftjm.worker.attempts.protocol import Start
from ftjm.worker.executors.ports import Executor, ExecutorHost, ExecutorSettings, StartFailed
from ftjm.worker.executors.python.call import Return
from ftjm.worker.executors.python.task_attempt import TaskAttempt
from ftjm.worker.executors.python.task_process_link import TaskProcessLink
from ftjm.worker.executors.python.zygote_link import DEATHS_MAX, ZygoteLink, is_child

WARNINGS_MAX = 1_000
TRIES_MAX = DEATHS_MAX + 1
"""So many zygotes may die while an attempt waits for a process: they may have died because of it. One that was ready
may be followed by as many that die while they import."""


def python_executor(host: ExecutorHost, settings: ExecutorSettings) -> Executor:
    """The executor of Python tasks, with a zygote if the worker has apps."""
    return PythonExecutor(host, settings) if settings.apps else NoApps()


class NoApps(Executor):
    """Python tasks on a worker without apps: none can be started."""

    def start(self, request: Start, directory: Path) -> GuardedAttempt:  # noqa: ARG002  (it starts nothing)
        """Refuse the attempt."""
        name = request.command[0] if request.command else ""
        raise StartFailed(
            f"expected a worker of the Python task {name!r}, but this one serves no app; start it with --app"
        )


class PythonExecutor(Executor):
    """Gives attempts of Python tasks to task processes, and reports how they end."""

    def __init__(self, host: ExecutorHost, settings: ExecutorSettings) -> None:
        self._host, self._settings = host, settings
        self._processes: dict[int, TaskProcessLink] = {}
        """All task processes by their pids."""
        self._idle: list[TaskProcessLink] = []
        """Those that wait for an attempt, the one that was used last at the end."""
        self._waiting: deque[TaskAttempt] = deque()
        """Attempts that wait for a process, oldest first. As many processes are requested, or more."""
        self._empty_directories: list[Path] = []
        """Directories that attempts have left empty, of processes that have ended since."""
        self._warned: set[tuple[str, str]] = set()
        """The tasks whose processes could not be kept, and why, as far as this is in the log."""
        self._zygote = ZygoteLink(
            settings.apps,
            settings.environment,
            lambda connection: host.watch(connection, self._receive_from_zygote),
            host.unwatch,
        )

    def start(self, request: Start, directory: Path) -> TaskAttempt:
        """Give the attempt to a process that waits for one, or request a process for it."""
        attempt = TaskAttempt(request, directory, self._settings.limit_bytes)
        while process := self._take_idle(attempt):
            if self._begin(process, attempt):
                return attempt
        self._waiting.append(attempt)
        if error := self._request_processes():
            self._waiting.remove(attempt)
            raise StartFailed(error)
        return attempt

    def give_up(self, attempt: GuardedAttempt) -> None:
        """See `Executor.give_up`. A process that was requested for it is kept for another."""
        assert isinstance(attempt, TaskAttempt)
        with suppress(ValueError):
            self._waiting.remove(attempt)

    def owns(self, pid: int) -> bool:
        """Whether it is the zygote or a task process."""
        return pid == self._zygote.pid or pid in self._processes

    @property
    def is_forking(self) -> bool:
        """Whether the zygote was asked for a process."""
        return self._zygote.requested > 0

    def enforce(self, now: int) -> None:
        """Kill a zygote that hangs."""
        self._zygote.enforce(now)

    def child_died(self, pid: int, exit_status: int) -> None:
        """Report the end of the attempt that the process ran."""
        self._zygote.child_died(pid)
        process = self._processes.pop(pid, None)
        if process is None:
            return
        process.pid, process.is_dismissed = 0, True
        self._receive(process)
        if process in self._idle:
            self._idle.remove(process)
        if attempt := process.attempt:
            attempt.returned = attempt.returned or process.last_word()
            if attempt.returned is None and process.lost:
                attempt.returned, exit_status = process.lost, exit_status or process.lost.exit_status
            self._host.ended(attempt, exit_status)
        if process.directory:
            self._empty_directories.append(process.directory)
        self._host.unwatch(process.connection)
        for output in process.outputs:
            self._host.unwatch(output)
        process.close()

    def _take_idle(self, attempt: TaskAttempt) -> TaskProcessLink | None:
        if not self._zygote.is_isolated(attempt.task):
            return self._idle.pop() if self._idle else None
        for process in self._idle:
            if not process.calls:
                self._idle.remove(process)
                return process
        return None

    def _begin(self, process: TaskProcessLink, attempt: TaskAttempt) -> bool:
        """Have the process run the attempt. Returns False if it cannot, and will be used no more."""
        if process.directory is None and self._empty_directories:
            process.directory = self._empty_directories.pop()
        own_directory = attempt.directory
        try:
            process.begin(attempt, is_last=self._zygote.is_isolated(attempt.task))
        except OSError:
            process.send_signal(signal.SIGKILL)
            return False
        if attempt.directory is not own_directory:
            self._host.take_back(own_directory)
        self._host.started(attempt)
        return True

    def _request_processes(self) -> str:
        """Request as many processes as attempts wait. Returns the reason why there will be none; empty if there is
        none."""
        while self._zygote.requested < len(self._waiting):
            try:
                process = TaskProcessLink(self._settings)
            except OSError as caught:
                return f"cannot open its pipes: {caught.strerror}; look at the worker's limits"
            if error := self._zygote.request(process):
                process.close()
                return error
        return ""

    def _receive_from_zygote(self, _mask: int) -> None:
        forked, orphaned = self._zygote.receive()
        for process, pid in forked:
            if pid and is_child(pid):
                self._add(process, pid)
                continue
            process.close()
            if self._waiting:
                error = "its new process died at once" if pid else "cannot fork: no memory, or too many processes"
                self._host.not_started(self._waiting.popleft(), FailureReason.START_FAILED, error)
        if orphaned:
            for process in orphaned:
                process.close()
            self._try_again()

    def _try_again(self) -> None:
        """The zygote has died: request processes from the next one."""
        for attempt in list(self._waiting):
            attempt.tries += 1
            if attempt.tries >= TRIES_MAX:
                self._waiting.remove(attempt)
                error = (
                    f"the process that forks Python tasks died {TRIES_MAX} times; look at the worker's log and memory"
                )
                self._host.not_started(attempt, FailureReason.START_FAILED, error)
        self._request_or_fail()

    def _request_or_fail(self) -> None:
        """Request processes for the attempts that wait. Those that will get none fail."""
        if error := self._request_processes():
            while len(self._waiting) > self._zygote.requested:
                self._host.not_started(self._waiting.popleft(), FailureReason.START_FAILED, error)

    def _add(self, process: TaskProcessLink, pid: int) -> None:
        process.mark_forked(pid)
        self._processes[pid] = process
        self._host.watch(process.connection, lambda _mask: self._receive(process))
        for output in process.outputs:
            self._host.watch(output, partial(self._read_output, process, output))
        self._use(process)

    def _read_output(self, process: TaskProcessLink, output: OutputTail, _mask: int) -> None:
        if not process.read_output(output):
            self._host.unwatch(output)

    def _use(self, process: TaskProcessLink) -> None:
        """Give the process the oldest attempt that may run in it, or have it wait for one."""
        for attempt in self._waiting:
            if not process.calls or not self._zygote.is_isolated(attempt.task):
                self._waiting.remove(attempt)
                if not self._begin(process, attempt):
                    self._waiting.appendleft(attempt)
                    self._request_or_fail()
                return
        self._idle.append(process)

    def _receive(self, process: TaskProcessLink) -> None:
        try:
            returned = process.receive()
        except (OSError, EOFError):
            # It dies, or its task has closed all descriptors: its death shows how the attempt has ended.
            process.is_dismissed = True
            self._host.unwatch(process.connection)
            if process.attempt and process.lost and process.lost.failure:
                self._warn(process.attempt.task, process.lost.failure.error)
            return
        if returned and process.attempt:
            self._end(process, process.attempt, returned)

    def _end(self, process: TaskProcessLink, attempt: TaskAttempt, returned: Return) -> None:
        attempt.returned = returned
        if returned.leaves:
            process.is_dismissed = True
            if returned.why:
                self._warn(attempt.task, returned.why)
            return
        process.attempt = None
        nothing_left = self._host.ended(attempt, returned.exit_status)
        if nothing_left and returned.is_clean:
            process.directory = attempt.directory
        if not nothing_left:
            self._warn(attempt.task, "it has left processes behind")
        if process.is_dismissed or not nothing_left:
            process.send_signal(signal.SIGKILL)
        else:
            self._use(process)

    def _warn(self, task: str, why: str) -> None:
        if (task, why) not in self._warned and len(self._warned) < WARNINGS_MAX:
            self._warned.add((task, why))
            self._host.warn(f"a process that ran the task {task} is not kept: {why}")

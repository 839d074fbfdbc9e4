"""The executors of a worker, by the name that a job asks for. No other file of the worker asks for one by its name."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ftjm.core.state.executors import COMMAND, PYTHON
from ftjm.worker.attempts.attempt import GuardedAttempt
from ftjm.worker.attempts.protocol import Start
from ftjm.worker.executors.command import CommandExecutor
from ftjm.worker.executors.ports import Executor, ExecutorHost, ExecutorSettings, StartFailed, refusal
from ftjm.worker.executors.python.executor import python_executor

FACTORIES: Mapping[str, Callable[[ExecutorHost, ExecutorSettings], Executor]] = {
    COMMAND: CommandExecutor,
    PYTHON: python_executor,
}
"""Each entry makes the executor for one guard."""


INHERITED_DEFAULTS = {"PATH": os.defpath, "HOME": "/", "LANG": "C.UTF-8"}
"""Variables that jobs rely on, for workers that were themselves started without them."""


def inherited_environment() -> dict[str, str]:
    """The variables that attempts inherit from this process: all but the worker's settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FTJM_")}
    return INHERITED_DEFAULTS | own


class Executors:
    """All executors of one guard."""

    def __init__(self, host: ExecutorHost, settings: ExecutorSettings) -> None:
        self._by_name = {name: make(host, settings) for name, make in FACTORIES.items()}
        self._all = tuple(self._by_name.values())

    def start(self, request: Start, directory: Path) -> GuardedAttempt:
        """Start an attempt: see `Executor.start`."""
        executor = self._by_name.get(request.executor)
        if executor is None:
            known = ", ".join(self._by_name)
            raise StartFailed(f"expected one of this worker's executors ({known}), but found {request.executor!r}")
        if error := refusal(request.executor, executor, request):
            raise StartFailed(error)
        return executor.start(request, directory)

    def give_up(self, attempt: GuardedAttempt) -> None:
        """Abandon an attempt that has not started yet."""
        self._by_name[attempt.request.executor].give_up(attempt)

    def own(self, pid: int) -> bool:
        """Whether the process belongs to an executor, and is not the leader of a running attempt."""
        return any(executor.owns(pid) for executor in self._all)

    def are_forking(self) -> bool:
        """Whether one of them waits for a new process."""
        return any(executor.is_forking for executor in self._all)

    def child_died(self, pid: int, exit_status: int) -> None:
        """A child of the guard that is no attempt's leader has died."""
        for executor in self._all:
            executor.child_died(pid, exit_status)

    def enforce(self, now: int) -> None:
        """Kill processes of executors that do not answer; `now` is CLOCK_BOOTTIME ms."""
        for executor in self._all:
            executor.enforce(now)

"""The port between the guard and what carries out attempts: commands, Python tasks, and whatever comes later.

The guard is one thread that waits for descriptors, deaths of children, and deadlines. It keeps all rules of time
(lease, timeout, grace) and of processes (nothing outlives its attempt); an executor knows how an attempt of its kind is
started, signalled and judged. They meet in three places:

    guard ──► Executor         start this request; give this start up; a child of yours has died; time has passed
    guard ──► GuardedAttempt   what to wait for; stop; kill; how did it end?
    guard ◄── ExecutorHost     it runs now; it has ended; it will not start

An attempt takes one of two paths:

1. It has a process of its own, its `leader`: the guard waits for that process, so its executor has nothing else to do
   once it has called `ExecutorHost.started`. Commands are run so.
2. It runs inside a process that the executor keeps (one of a pool of processes, a connection to another machine): the
   executor also calls `ended`. Python tasks are run so.

`start` returns at once; the attempt may have started by then, or start later. The executor waits for its own sockets
with `ExecutorHost.watch`, owns its own processes (`owns`), and the guard calls `child_died` when one of them dies.

No call may block, since the guard's deadlines must be kept. In particular none may touch a file, since a disk may stop
answering: another process makes directories and reads what a job has left there (`ExecutorHost.ask`), and programs are
started by threads that may wait (`attempts/spawner.py`).

To add an executor, name it in `core/state/executors.py`, write a file here with its `Executor` and its
`GuardedAttempt`, and add a line to `worker/guard/registry.py`. ARCHITECTURE.md, "Add an executor", has all steps, and
a test compares all places. `tests/worker/executor_contract.py` tests what an executor must do.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.attempt import GuardedAttempt
from ftjm.worker.attempts.attempt_files import Found
from ftjm.worker.attempts.file_requests import FileRequest
from ftjm.worker.attempts.protocol import Start


class StartFailed(Exception):
    """The attempt cannot be started. The text gives the reason, and is the attempt's error."""


class ExecutorSettings(NamedTuple):
    """The settings of all executors of one guard."""

    environment: Mapping[str, str]
    """The variables that attempts inherit from the worker."""
    limit_bytes: int
    """Bound of a result, and of the kept tail of each output."""
    apps: Sequence[str] = ()
    """Modules that define the Python tasks of this worker."""
    tasks_per_process: int = 1_000
    """How many attempts a task process runs before it is replaced."""
    memory_per_process_mb: int = 512
    """How much memory a task process may have beyond that of the apps, before it is replaced. In MB."""


class HasFileno(Protocol):
    """A socket or pipe that the guard can wait for."""

    def fileno(self) -> int:
        """The descriptor."""


class ExecutorHost(Protocol):
    """The guard, as executors see it."""

    def started(self, attempt: GuardedAttempt) -> None:
        """The attempt, which `start` returned before, runs now and is marked as started."""

    def ended(self, attempt: GuardedAttempt, exit_status: int) -> bool:
        """A started attempt without a leader has ended, with this exit status; negative for a signal.

        Returns:
            Whether no process was left behind. Those that were are being killed.
        """

    def not_started(self, attempt: GuardedAttempt, reason: FailureReason, error: str) -> None:
        """The attempt never ran, and will not. The executor has abandoned it."""

    def take_back(self, directory: Path) -> None:
        """An attempt runs in another directory than `Executor.start` was given: this one, which it has not made, may be
        another attempt's."""

    def watch(self, connection: HasFileno, ready: Callable[[int], None]) -> None:
        """Call `ready` with the events of `selectors` whenever the connection can be read."""

    def unwatch(self, connection: HasFileno) -> None:
        """End what `watch` began. It must be called before the connection is closed."""

    def ask(self, request: FileRequest, answer: Callable[[Found], None]) -> None:
        """Have the process beside the guard look at files, or make them. `answer` is called in any case, maybe at once;
        where there is no answer in time, with a text that says so."""

    def warn(self, text: str) -> None:
        """Have the text written to the worker's log."""


class Executor:
    """Runs attempts of one kind. The defaults suit an executor that keeps no process."""

    unsupported: frozenset[str] = frozenset()
    """Fields of `Start` that jobs of this executor cannot have. The guard refuses an attempt with one of them."""

    def start(self, request: Start, directory: Path) -> GuardedAttempt:
        """Start an attempt, now or soon.

        Args:
            request: The attempt to run.
            directory: The attempt's own directory, to be made if it needs one and it does not exist. The guard removes
                it.

        Returns:
            The attempt. The executor calls the host's `started` now or later; or `not_started`, but not before this
            function has returned.

        Raises:
            StartFailed: It cannot run here. Nothing of it is left open.
        """
        raise NotImplementedError

    def give_up(self, attempt: GuardedAttempt) -> None:
        """Abandon an attempt that has not started yet. It must never run, and no method of the host is called for it
        again."""
        raise NotImplementedError

    def owns(self, pid: int) -> bool:  # noqa: ARG002  (see the class)
        """Whether it is a process of the executor's own, a child of the guard, and no running attempt's leader."""
        return False

    @property
    def is_forking(self) -> bool:
        """Whether a new process of the executor's own may be there that it does not know yet."""
        return False

    def child_died(self, pid: int, exit_status: int) -> None:
        """A child of the guard that is no attempt's leader has died. It may be a stranger to this executor."""

    def enforce(self, now: int) -> None:
        """Time has passed, CLOCK_BOOTTIME ms: kill processes of the executor's own that do not answer."""


def refusal(name: str, executor: Executor, request: Start) -> str:
    """The reason why the executor cannot run this request: fields that it does not support. Empty if it can."""
    for field in executor.unsupported:
        if getattr(request, field):
            return f"expected a job without {field}, which the executor {name!r} does not support"
    return ""

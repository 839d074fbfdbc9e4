"""An attempt of a Python task as the guard sees it: what a task process does between a call and its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts import attempt_files
from ftjm.worker.attempts.attempt import GuardedAttempt
from ftjm.worker.attempts.output_tail import OutputTail
from ftjm.worker.attempts.protocol import Start
from ftjm.worker.executors.python.call import TASK_REASONS, Return

if TYPE_CHECKING:
    import signal


class TaskAttempt(GuardedAttempt):
    """An attempt whose result, or the error that it failed with, its process returns in a packet."""

    def __init__(self, request: Start, directory: Path, limit_bytes: int) -> None:
        """Describe the attempt. It waits for a process."""
        super().__init__(request, directory, limit_bytes)
        self.tries = 0
        """How many zygotes have died while it waited."""
        self._poll: Callable[[int], object] = lambda _ms: True
        self.returned: Return | None = None
        """How the call has ended; None while it runs, and if its process died first."""

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.request.command[0] if self.request.command else ""

    def begin(
        self,
        outputs: Sequence[OutputTail],
        poll: Callable[[int], object],
        send_signal: Callable[[signal.Signals], None],
    ) -> None:
        """Note that a process has its call.

        Args:
            outputs: What the process writes, for as long as the attempt runs.
            poll: Returns something false if no output has anything to read, as `select.poll` does for 0 ms.
            send_signal: Sends a signal to the process.
        """
        self._outputs = tuple(outputs)
        self._poll = poll
        self.mark_started(send_signal)

    def watched(self) -> Iterator[tuple[int, int, Callable[[], bool]]]:
        """Nothing: the outputs are the process's, and watched while it lives."""
        return iter(())

    def descriptors(self) -> list[int]:
        """None: see `watched`."""
        return []

    def last_look(self) -> attempt_files.Look | None:
        """What to look at in its files when it has ended: nothing if it left none, as its process says."""
        is_clean = self.returned and self.returned.is_clean and not self.has_left_processes
        return None if is_clean else super().last_look()

    def result(self, found: attempt_files.Found) -> tuple[bytes, str]:  # noqa: ARG002  (it is in no file)
        """The value that the task returned, as JSON."""
        if self.returned is None:
            return b"", ""  # the task has ended its process itself
        return attempt_files.checked_result(self.returned.result, self.returned.result_size, self.limit_bytes)

    def failure(self) -> tuple[FailureReason, str] | None:
        """The failure as the task's process has returned it, if it could."""
        failure = self.returned.failure if self.returned else None
        return (failure.reason, failure.error) if failure and failure.reason in TASK_REASONS else None

    def _drain(self) -> None:
        # Most attempts write nothing: to ask for both outputs at once is faster than two reads that raise.
        if self._poll(0):
            super()._drain()

    def _close_pipes(self) -> None:
        """Leave the outputs to the process."""
        self.runs = False
        self._outputs = ()

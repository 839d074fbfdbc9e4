"""The reports on an attempt's progress and end, which need a look at its files first."""

import signal
from functools import partial

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.attempt import GuardedAttempt
from ftjm.worker.attempts.attempt_files import Found, Look
from ftjm.worker.attempts.linux_processes import MemoryKiller
from ftjm.worker.attempts.protocol import Ended, Frame, FrameChannel
from ftjm.worker.guard.file_reader import FileReader


class Reports:
    """Sends the reports to the supervisor as soon as the files have been read."""

    def __init__(self, files: FileReader, channel: FrameChannel[Frame, Frame]) -> None:
        self._files, self._channel = files, channel
        self.memory_killer = MemoryKiller()

    def look_at_progress(self, attempt: GuardedAttempt, look: Look) -> None:
        """Report the checkpoint and progress if they are new."""
        self._files.ask(look, partial(self._report_progress, attempt))

    def attempt_ended(self, attempt: GuardedAttempt, exit_status: int, now: int) -> None:
        """Report the end of an attempt. Its processes have ended."""
        end = attempt.end(exit_status)
        out_of_memory = False
        if end.signal == signal.SIGKILL:
            self.memory_killer.check(now)
            out_of_memory = self.memory_killer.was_active(now)
        if look := attempt.last_look():
            self._files.ask(look, partial(self._report_end, attempt, end, out_of_memory))
        else:
            self._report_end(attempt, end, out_of_memory, Found(0))

    def _report_progress(self, attempt: GuardedAttempt, found: Found) -> None:
        progress = attempt.report(found, boot_ms())
        if progress and attempt.runs:
            self._channel.post(progress)

    def _report_end(self, attempt: GuardedAttempt, end: Ended, out_of_memory: bool, found: Found) -> None:
        if last_progress := attempt.finish(end, found):
            self._channel.post(last_progress)
        if end.reason is FailureReason.SIGNAL and out_of_memory:
            end.reason = FailureReason.OUT_OF_MEMORY
            end.error = "killed by SIGKILL while the kernel's out-of-memory killer was at work"
        self._channel.post(end)

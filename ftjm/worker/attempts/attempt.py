"""One attempt as the guard runs it, whichever executor carries it out: its files, its pipes, and how it ended.

The life of a `GuardedAttempt`:

    made by its executor          pipes exist; their other ends are in `child_descriptors`
      └─ mark_started             the process has those ends; the guard watches `watched()`
           ├─ due, report         the guard has its files looked at; what was found becomes a `Checkpointed` frame
           ├─ stop                SIGTERM, and later SIGKILL: the guard keeps the time (`timeout_at`, `kill_at`)
           └─ end                 its processes have ended; the guard has its files looked at once more
                └─ finish         the `Ended` frame for the supervisor
    abandon                       instead of `mark_started`: it will not run here

Executors derive a class of their own from it. The derived class finds the attempt's result, and the reason of a failure
beyond the exit status.
"""

import os
import selectors
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms, wall_ms
from ftjm.worker.attempts import attempt_files
from ftjm.worker.attempts.linux_processes import new_mark
from ftjm.worker.attempts.output_tail import OutputTail
from ftjm.worker.attempts.protocol import Checkpointed, Ended, Start

_INPUT_CHUNK_BYTES = 1 << 16
CHECKPOINT_EVERY_MS = 1_000
"""Checkpoint and progress are reported at most this often: each report is a record in the log."""
_CHECKPOINT_VARIABLE = attempt_files.VARIABLES[attempt_files.CHECKPOINT]
_PROGRESS_VARIABLE = attempt_files.VARIABLES[attempt_files.PROGRESS]
LOOK_EVERY_MS = 200
"""Both files are checked for changes this often."""

STOP_TEXTS = {
    FailureReason.TIMEOUT: "stopped at its timeout",
    FailureReason.STOPPED: "stopped on request",
    FailureReason.LEASE_EXPIRED: "the worker could not reach the log for its lease, so it stopped the attempt",
    FailureReason.WORKER_STOPPED: "the worker was stopped before the attempt had finished",
}
"""The error text of an attempt that the worker itself stopped, by the reason for it."""


class GuardedAttempt:
    """An attempt that starts or runs. Only the guard and its executor call it."""

    def __init__(self, request: Start, directory: Path, limit_bytes: int) -> None:
        """Describe the attempt. Its pipes are made by `open_streams`, its directory by its executor.

        Args:
            request: The attempt to run.
            directory: The attempt's own directory, which is empty or does not exist yet.
            limit_bytes: Bound of the result, and of the kept tail of each output.
        """
        self.request = request
        self.directory = directory
        self.mark = new_mark()
        """The mark of its processes: see `linux_processes`."""
        self.leader = 0
        """The process that the guard waits for: its end is the attempt's end. 0 if the executor reports the end."""
        self.send_signal: Callable[[signal.Signals], None] = lambda _: None
        self.started_at = 0
        """Wall clock, ms; 0 before it runs."""
        self.runs = False
        self.child_descriptors: list[int] = []
        """Descriptors that the process gets as standard input, output and errors (and more, if its executor adds some).
        They are open here until the process has them."""
        self.stop_reason: FailureReason | None = None
        """The reason why the worker stops it; None while the worker does not."""
        self.timeout_at: int | None = None
        """When its timeout stops it, CLOCK_BOOTTIME ms."""
        self.kill_at: int | None = None
        """When its grace ends and SIGKILL follows SIGTERM, CLOCK_BOOTTIME ms."""
        self.has_left_processes = False
        """Whether processes of it were there when it had ended. They are killed, but may still be ending."""
        self.limit_bytes = limit_bytes
        self._seen: dict[str, attempt_files.Mark] = {}
        self._look_at: int | None = None
        """When its files are looked at next, CLOCK_BOOTTIME ms; None while they are, and before it runs."""
        self._quiet_until = 0
        """No report of checkpoint and progress before this time, CLOCK_BOOTTIME ms."""
        self._outputs: tuple[OutputTail, ...] = ()
        """Standard output and errors; none before `open_streams`."""
        self._input: int | None = None
        """The writing end of its standard input, while there is something to write."""
        self._unwritten = memoryview(b"")

    # What the executor prepares.

    @property
    def working_directory(self) -> str:
        """The attempt's working directory: the job's choice, or a directory of its own."""
        return self.request.working_directory or str(self.directory / "work")

    def variables(self) -> dict[str, str]:
        """The environment variables that name the attempt and its files to its process."""
        request, directory = self.request, str(self.directory)
        job = f"{request.queue}/{request.job_id}"
        variables = {
            "FTJM_JOB_ID": job,
            "FTJM_QUEUE": request.queue,
            "FTJM_ATTEMPT": str(request.attempt),
            "FTJM_RUN": str(request.run),
            "FTJM_RUN_KEY": f"{job}/{request.run}",
            _CHECKPOINT_VARIABLE: f"{directory}/{attempt_files.CHECKPOINT}",
            _PROGRESS_VARIABLE: f"{directory}/{attempt_files.PROGRESS}",
        }
        if request.checkpoint:
            variables["FTJM_LAST_CHECKPOINT_FILE"] = f"{directory}/{attempt_files.LAST}"
        return variables

    def file_variables(self, *names: str) -> dict[str, str]:
        """The environment variables that name these files of the attempt to its process."""
        return {attempt_files.VARIABLES[name]: f"{self.directory}/{name}" for name in names}

    def open_streams(self, content: bytes) -> None:
        """Open standard input, with `content` to be read from it, and pipes for both outputs.

        The process's ends are added to `child_descriptors`.

        Raises:
            OSError: Descriptors are used up. What was opened is closed by `abandon`.
        """
        if content:
            reading, self._input = os.pipe()
            self.child_descriptors.append(reading)
            os.set_blocking(self._input, False)
            self._unwritten = memoryview(content)
        else:
            self.child_descriptors.append(os.open(os.devnull, os.O_RDONLY))
        for _ in ("stdout", "stderr"):
            reading, writing = os.pipe()
            self.child_descriptors.append(writing)
            self._outputs += (OutputTail(reading, self.limit_bytes),)

    def mark_started(self, send_signal: Callable[[signal.Signals], None], leader: int = 0) -> None:
        """Note that the attempt runs and has its descriptors.

        Args:
            send_signal: Sends a signal to all of the attempt. It raises nothing.
            leader: The process whose end is the attempt's end, a child of the guard; 0 if there is none.
        """
        self._close_child_descriptors()
        self.send_signal = send_signal
        self.leader = leader
        self.started_at = wall_ms()
        self.runs = True
        self._look_at = boot_ms() + LOOK_EVERY_MS

    def abandon(self) -> None:
        """Close everything: the attempt will not run here. A process that waits for its input finds its end."""
        self._close_child_descriptors()
        self.close()

    # What the guard asks of it.

    def watched(self) -> Iterator[tuple[int, int, Callable[[], bool]]]:
        """The descriptors that the guard waits for while the attempt runs.

        Yields:
            A descriptor, the events of `selectors` to wait for, and the function to call then. The descriptor is
            watched until that function returns False.
        """
        for output in self._outputs:
            yield output.fd, selectors.EVENT_READ, output.read
        if self._input is not None and self._feed_input():
            yield self._input, selectors.EVENT_WRITE, self._feed_input

    def descriptors(self) -> list[int]:
        """The descriptors of `watched` that are still open."""
        found = [output.fd for output in self._outputs]
        return found if self._input is None else [*found, self._input]

    def stop(self, reason: FailureReason, number: signal.Signals) -> None:
        """Signal the attempt to end. The first reason that is given is the one that is reported."""
        if self.stop_reason is None:
            self.stop_reason = reason
        self.send_signal(number)

    def due(self, now: int) -> attempt_files.Look | None:
        """What to look at in its files, if it is time to; else None."""
        if self._look_at is None or now < self._look_at or now < self._quiet_until:
            return None
        self._look_at = None
        return attempt_files.Look(directory=str(self.directory), seen=self._seen)

    def report(self, found: attempt_files.Found, now: int) -> Checkpointed | None:
        """The checkpoint and progress that are new; None if neither is."""
        self._seen = found.seen
        self._look_at = now + LOOK_EVERY_MS
        report = self._report(found)
        if report:
            self._quiet_until = now + CHECKPOINT_EVERY_MS
        return report

    def end(self, exit_status: int) -> Ended:
        """Take what is left in its pipes, and close them. Its processes have ended.

        Args:
            exit_status: As of `os.waitstatus_to_exitcode`: negative for a signal.

        Returns:
            The report, without what `finish` adds.
        """
        self._drain()
        end = Ended(
            key=self.request.key,
            exit_code=max(exit_status, 0),
            signal=max(-exit_status, 0),
            started_at=self.started_at,
            ended_at=wall_ms(),
        )
        if self._outputs:
            (end.stdout, end.stdout_cut), (end.stderr, end.stderr_cut) = (output.result() for output in self._outputs)
        self._close_pipes()
        return end

    def last_look(self) -> attempt_files.Look | None:
        """What to look at in its files when it has ended; None if it has left none."""
        return attempt_files.Look(
            directory=str(self.directory),
            seen=self._seen,
            ended=True,
            result_limit=self.result_limit,
            reuse=not self.has_left_processes,
        )

    def finish(self, end: Ended, found: attempt_files.Found) -> Checkpointed | None:
        """Complete the report of how the attempt ended, and close everything.

        Args:
            end: The report, as `end` returned it.
            found: What `last_look` found.

        Returns:
            If the attempt failed, the checkpoint or progress that was not reported before.
        """
        self._judge(end, found)
        end.scratch = found.scratch
        self.close()
        return None if end.reason is None else self._report(found)

    def _report(self, found: attempt_files.Found) -> Checkpointed | None:
        text = "; ".join(found.faults) or found.text
        if not (found.checkpoint or found.progress >= 0 or text):
            return None
        return Checkpointed(key=self.request.key, data=found.checkpoint, progress=found.progress, text=text)

    # What each executor knows of its attempts.

    @property
    def result_limit(self) -> int:
        """How many bytes the result may have that it leaves in its file; -1 if it leaves none there."""
        return -1

    def result(self, found: attempt_files.Found) -> tuple[bytes, str]:
        """The result of an attempt that ended with status 0; and the reason why it is refused, empty if it is not."""
        return found.result, found.refusal

    def failure(self) -> tuple[FailureReason, str] | None:
        """The reason of a failure and its error text, as far as they are known beyond the exit status."""
        return None

    def close(self) -> None:
        """Close the guard's descriptors. An executor that opened more of them closes those, too."""
        self._close_pipes()

    def _drain(self) -> None:
        for output in self._outputs:
            output.drain()

    def _close_pipes(self) -> None:
        self.runs = False
        for output in self._outputs:
            output.close()
        self._outputs = ()
        if self._input is not None:
            os.close(self._input)
            self._input = None

    def _judge(self, end: Ended, found: attempt_files.Found) -> None:
        if self.stop_reason is not None:
            end.reason, end.error = self.stop_reason, STOP_TEXTS[self.stop_reason]
        elif end.signal:
            end.reason, end.error = FailureReason.SIGNAL, f"killed by {_signal_name(end.signal)}"
        elif end.exit_code:
            known = self.failure()
            end.reason, end.error = known or (FailureReason.EXIT_CODE, f"exit status {end.exit_code}")
        else:
            end.result, end.error = self.result(found)
            end.error = end.error or "; ".join(found.faults)
            if end.error:
                end.reason, end.result = FailureReason.RESULT_REFUSED, b""

    def _feed_input(self) -> bool:
        """Write more of the input; False once all is written, or the process reads no more."""
        assert self._input is not None
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._input, self._unwritten[:_INPUT_CHUNK_BYTES]) :]
        except BlockingIOError:
            return True
        except OSError:
            pass  # a command need not read its input
        os.close(self._input)
        self._input = None
        return False

    def _close_child_descriptors(self) -> None:
        for fd in self.child_descriptors:
            os.close(fd)
        self.child_descriptors = []


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""Commands: each attempt is a process of its own, in a session and a process group of its own.

Nothing of a start is done by the guard itself, since each step may wait for a disk:

    start ──► the helper makes the attempt's directory (`guard/file_reader.py`)
          ──► a thread of the spawner starts the program (`attempts/spawner.py`)
          ──► started; or the helper finds out why the program cannot be executed, and the attempt has not started
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts import attempt_files
from ftjm.worker.attempts.attempt import GuardedAttempt
from ftjm.worker.attempts.attempt_files import Found, Make
from ftjm.worker.attempts.file_requests import Explain
from ftjm.worker.attempts.linux_processes import kill_group, kill_with_group
from ftjm.worker.attempts.protocol import Start
from ftjm.worker.attempts.spawner import Spawn, Spawner
from ftjm.worker.executors.ports import Executor, ExecutorHost, ExecutorSettings, StartFailed

START_MS = 10_000
"""A program that is not executed within this time is given up."""
NOTE_MS = 2 * START_MS
"""A death is noted for so long."""


class CommandAttempt(GuardedAttempt):
    """An attempt whose result is what the process wrote to the file `FTJM_RESULT_FILE`."""

    spawn: Spawn
    start_by: int
    """When the program must be executed, CLOCK_BOOTTIME ms."""

    def prepare(self, inherited: Mapping[str, str]) -> None:
        """Open its pipes, and describe the process. Raises OSError and ValueError."""
        self.open_streams(self.request.payload)
        self.start_by = boot_ms() + START_MS
        environment = {**inherited, **self.request.environment, **self.variables()}
        self.path = environment.get("PATH", "")
        self.spawn = Spawn(self.request.command, environment, self.working_directory, self.child_descriptors, self.mark)

    def variables(self) -> dict[str, str]:
        """The variables of every attempt, and `FTJM_RESULT_FILE`, the path of the file for the result."""
        return super().variables() | self.file_variables(attempt_files.RESULT)

    @property
    def result_limit(self) -> int:
        """How many bytes the result may have."""
        return self.limit_bytes


class CommandExecutor(Executor):
    """Starts programs. `command` is the program and its arguments, `payload` its standard input."""

    def __init__(self, host: ExecutorHost, settings: ExecutorSettings) -> None:
        self._host, self._settings = host, settings
        self._starting: dict[Spawn, CommandAttempt] = {}
        """Attempts whose programs are not executed yet."""
        self._abandoned: dict[Spawn, list[int]] = {}
        """The descriptors of programs that were given up while a thread was at them."""
        self._died: dict[int, tuple[int, int]] = {}
        """When children have died while the spawner was busy, and their exit status: a program may have ended before
        the spawner tells that it was started."""
        self._spawner = Spawner()
        host.watch(self._spawner, self._spawned)

    def start(self, request: Start, directory: Path) -> CommandAttempt:
        """See `Executor.start`."""
        attempt = CommandAttempt(request, directory, self._settings.limit_bytes)
        try:
            attempt.prepare(self._settings.environment)
        except OSError as error:
            attempt.abandon()
            raise StartFailed(f"cannot open its pipes: {error.strerror}; look at the worker's limits") from error
        except ValueError as error:
            attempt.abandon()
            raise StartFailed(str(error)) from error
        make = Make(directory=str(directory), work=not request.working_directory, checkpoint=request.checkpoint)
        at_once: list[Found] = []
        self._host.ask(
            make,
            lambda found: self._made(attempt, found) if attempt.spawn in self._starting else at_once.append(found),
        )
        if at_once and at_once[0].refusal:
            attempt.abandon()
            raise StartFailed(at_once[0].refusal)
        self._starting[attempt.spawn] = attempt
        if at_once:
            self._spawner.request(attempt.spawn)
        return attempt

    def give_up(self, attempt: GuardedAttempt) -> None:
        """See `Executor.give_up`."""
        assert isinstance(attempt, CommandAttempt)
        spawn = attempt.spawn
        del self._starting[spawn]
        if self._spawner.give_up(spawn):
            # The thread may use the descriptors yet, and nobody else may have their numbers meanwhile.
            self._abandoned[spawn], attempt.child_descriptors = attempt.child_descriptors, []
        attempt.abandon()

    def child_died(self, pid: int, exit_status: int) -> None:
        """The process may be one that the spawner has not told of yet."""
        if self._spawner.is_busy:
            self._died[pid] = boot_ms(), exit_status

    def enforce(self, now: int) -> None:
        """Give up starts that hang."""
        self._spawner.enforce(now)
        if self._died:
            self._died = {pid: died for pid, died in self._died.items() if now - died[0] < NOTE_MS}
        for attempt in [attempt for attempt in self._starting.values() if now >= attempt.start_by]:
            self.give_up(attempt)
            where = f"its working directory {attempt.working_directory}, its program or the worker's disk"
            text = f"not started within {START_MS // 1000} s: {where} does not answer"
            self._host.not_started(attempt, FailureReason.START_FAILED, text)

    def _made(self, attempt: CommandAttempt, found: Found) -> None:
        if found.refusal:
            self._fail(attempt, found.refusal)
        else:
            self._spawner.request(attempt.spawn)

    def _spawned(self, _mask: int) -> None:
        for spawn in self._spawner.finished():
            died_at, died = self._died.pop(spawn.pid, (0, 0))
            lives = died_at < spawn.began_at
            attempt = self._starting.get(spawn)
            if attempt is None:
                self._end_abandoned(spawn, lives=lives)
            elif spawn.error:
                self._explain(attempt)
            elif lives:
                del self._starting[spawn]
                attempt.mark_started(partial(kill_group, spawn.pid), spawn.pid)
                self._host.started(attempt)
            else:
                del self._starting[spawn]
                kill_with_group(spawn.pid)
                attempt.mark_started(lambda _: None)
                self._host.started(attempt)
                self._host.ended(attempt, died)
        if not self._spawner.is_busy:
            self._died.clear()

    def _end_abandoned(self, spawn: Spawn, *, lives: bool) -> None:
        """End a program that was given up, in case it was executed all the same."""
        for fd in self._abandoned.pop(spawn, ()):
            os.close(fd)
        if spawn.pid and lives:
            kill_with_group(spawn.pid)

    def _explain(self, attempt: CommandAttempt) -> None:
        request = attempt.request
        explain = Explain(
            directory=str(attempt.directory),
            program=request.command[0],
            path=attempt.path,
            working_directory=attempt.working_directory,
            error=attempt.spawn.error,
        )
        self._host.ask(explain, lambda found: self._fail(attempt, found.refusal))

    def _fail(self, attempt: CommandAttempt, error: str) -> None:
        if self._starting.pop(attempt.spawn, None) is not None:
            attempt.abandon()
            self._host.not_started(attempt, FailureReason.START_FAILED, error)

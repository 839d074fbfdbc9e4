"""One guard as the supervisor watches it: the attempts that run in it, and the answer that it owes."""

import selectors
from contextlib import suppress

from ftjm.worker.attempts.protocol import Disconnected, Ping, Start
from ftjm.worker.inbox import GuardPort
from ftjm.worker.rules.actions import Run

START_MS = 15_000
"""As `ANSWER_MS`, for a guard that has just been started, on a busy host: no attempt can run in it yet."""
SUSPECT_MS = 10_000
"""An attempt that was ordered this long before its guard was lost may have caused it. `ANSWER_MS` is part of it."""
STALL_MS = 100
"""A loop that is this late was stopped itself, so the guard's silence proves nothing."""
OWN_GUARDS_MAX = 8
"""So many attempts at a time have a guard of their own. A guard takes some 20 MB."""
RESPAWN_SECONDS_MAX = 5.0
KEPT_TODO = "have the task end what it starts and undo what it changes, or mark it isolated=True"
"""What to do about a task whose process cannot run another one after it: a new process costs some 10 ms each time."""


class Guarded:
    """One guard, and the attempts that run in it."""

    def __init__(self, port: GuardPort) -> None:
        self.port = port
        self.attempts: dict[str, int] = {}
        """When each was ordered, CLOCK_BOOTTIME ms, by their keys."""
        self.answer_by: int | None = None
        """When it must have sent a frame, CLOCK_BOOTTIME ms; None if no answer is due."""
        self.is_up = False
        """Whether it has sent a frame."""
        self.events = selectors.EVENT_READ

    def expect_answer(self, now: int, within_ms: int) -> None:
        """Have it answer in time, or be lost."""
        by = now + (within_ms if self.is_up else START_MS)
        if self.answer_by is None or by < self.answer_by:
            self.answer_by = by
            self.port.send(Ping())
            self.flush()  # its time begins now, and so does that of a stop which waits before it

    def flush(self) -> None:
        """Send the frames that wait. Together, they take one system call and wake the guard once."""
        if self.port.wants_write:
            with suppress(Disconnected):  # `receive` will tell
                self.port.flush()

    def update_events(self, selector: selectors.BaseSelector) -> None:
        """Have the selector wait for what matters: frames of the guard, and room for frames that wait."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.port.wants_write else 0)
        if events != self.events:
            self.events = events
            selector.modify(self.port, events)

    def suspects(self, now: int) -> set[str]:
        """The attempts that may have caused its loss."""
        return {key for key, at in self.attempts.items() if now - at <= SUSPECT_MS} or set(self.attempts)


def respawn_seconds(losses: int) -> float:
    """How long the next guard sleeps before it begins, after so many were lost; the supervisor's loop does not wait.

    A guard that cannot live must not keep the host busy with starting others.
    """
    return min(RESPAWN_SECONDS_MAX, 0.1 * 2 ** min(losses - 1, 6)) if losses > 1 else 0.0


def start_frame(action: Run) -> Start:
    """The frame that orders the attempt."""
    dispatch, spec = action.dispatch, action.dispatch.spec
    return Start(
        key=action.key,
        session=dispatch.session,
        queue=dispatch.queue,
        job_id=dispatch.job_id,
        run=dispatch.run,
        attempt=dispatch.attempt,
        executor=spec.executor,
        command=spec.command,
        payload=spec.payload,
        environment=spec.environment,
        working_directory=spec.working_directory,
        timeout_ms=spec.timeout_ms,
        grace_ms=spec.cancel_grace_ms,
        continue_for_ms=spec.continue_for_ms,
        checkpoint=dispatch.checkpoint,
    )

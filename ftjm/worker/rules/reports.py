"""The commands by which a worker reports its attempts to the partitions that own the jobs. Pure."""

from typing import Any

from ftjm.core.limits import ERROR_CHARACTERS_MAX
from ftjm.core.records.commands import (
    AttemptReport,
    CheckpointAttempt,
    CompleteAttempt,
    DeclineAttempt,
    FailAttempt,
    StartAttempt,
)
from ftjm.core.records.messages import RunAttempt, StopAttempt
from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.protocol import Checkpointed, Ended


def started(worker: str, dispatch: RunAttempt, started_at: int) -> StartAttempt:
    """The attempt runs. `started_at` is wall clock, ms."""
    return StartAttempt(**_envelope(worker, dispatch), started_at=started_at)


def checkpointed(worker: str, dispatch: RunAttempt, progress: Checkpointed) -> CheckpointAttempt:
    """The attempt has a new checkpoint or progress: `CheckpointAttempt`."""
    return CheckpointAttempt(
        **_envelope(worker, dispatch), data=progress.data, progress=progress.progress, text=progress.text
    )


def merged(before: Checkpointed | None, newer: Checkpointed) -> Checkpointed:
    """Both as one: what the newer one leaves at its default is taken from the one before."""
    if before is None:
        return newer
    progress = newer.progress if newer.progress >= 0 else before.progress
    return Checkpointed(
        key=newer.key, data=newer.data or before.data, progress=progress, text=newer.text or before.text
    )


def declined(worker: str, dispatch: RunAttempt, reason: str) -> DeclineAttempt:
    """The attempt was not started here. Its job may go to another worker, and is not charged with an attempt."""
    return DeclineAttempt(**_envelope(worker, dispatch), reason=reason)


def absent(worker: str, stop: StopAttempt) -> FailAttempt:
    """The session does not hold the attempt that it is asked to stop."""
    return FailAttempt(
        queue=stop.queue,
        job_id=stop.job_id,
        actor=f"worker/{worker}",
        run=0,
        attempt=stop.attempt,
        session=stop.session,
        reason=FailureReason.STOPPED,
        error="its worker did not hold the attempt when it was asked to stop it; the log has lost the report of its "
        "end, or the message that starts it",
        started_at=0,
        ended_at=0,
    )


def end_with_guard(key: str, started_at: int, wall_ms: int, *, suspected: bool) -> Ended:
    """The end of an attempt whose guard has died; `suspected` if the attempt may have caused that."""
    return Ended(
        key=key,
        reason=FailureReason.GUARD_LOST if suspected else FailureReason.GUARD_LOST_BESIDE,
        error="the worker's guard process died, and everything it ran was killed",
        started_at=started_at,
        ended_at=wall_ms,
    )


def ended(worker: str, dispatch: RunAttempt, end: Ended) -> AttemptReport:
    """The attempt has ended: `CompleteAttempt` if it succeeded, else `FailAttempt`."""
    envelope = {
        **_envelope(worker, dispatch),
        "started_at": end.started_at,
        "ended_at": end.ended_at,
        "exit_code": end.exit_code,
        "stdout": end.stdout,
        "stderr": end.stderr,
        "stdout_cut": end.stdout_cut,
        "stderr_cut": end.stderr_cut,
    }
    if end.reason is None:
        return CompleteAttempt(**envelope, result=end.result)
    return FailAttempt(**envelope, reason=end.reason, error=end.error[-ERROR_CHARACTERS_MAX:], signal=end.signal)


def _envelope(worker: str, dispatch: RunAttempt) -> dict[str, Any]:
    return {
        "queue": dispatch.queue,
        "job_id": dispatch.job_id,
        "shard_key": dispatch.shard_key,
        "actor": f"worker/{worker}",
        "run": dispatch.run,
        "attempt": dispatch.attempt,
        "session": dispatch.session,
    }

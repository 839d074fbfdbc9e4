"""What the worker tells the log of an attempt. Pure."""

from typing import Any

from ftjm.core.commands import (
    AttemptReport,
    CheckpointAttempt,
    CompleteAttempt,
    DeclineAttempt,
    FailAttempt,
    StartAttempt,
)
from ftjm.core.messages import RunAttempt
from ftjm.worker.protocol import Checkpointed, Ended


def started(worker: str, order: RunAttempt, started_at: int) -> StartAttempt:
    """It runs, and has for long enough to be worth a record of its own."""
    return StartAttempt(**_envelope(worker, order), started_at=started_at)


def checkpointed(worker: str, order: RunAttempt, said: Checkpointed) -> CheckpointAttempt:
    """How far it has come."""
    return CheckpointAttempt(**_envelope(worker, order), data=said.data, progress=said.progress, text=said.text)


def newest(before: Checkpointed | None, said: Checkpointed) -> Checkpointed:
    """Both as one: what the newer one leaves open stays as it was."""
    if before is None:
        return said
    progress = said.progress if said.progress >= 0 else before.progress
    return Checkpointed(key=said.key, data=said.data or before.data, progress=progress, text=said.text or before.text)


def declined(worker: str, order: RunAttempt, reason: str) -> DeclineAttempt:
    """It was not started here; the job may go elsewhere, uncharged."""
    return DeclineAttempt(**_envelope(worker, order), reason=reason)


def ended(worker: str, order: RunAttempt, end: Ended) -> AttemptReport:
    """It is over: `CompleteAttempt` or `FailAttempt`."""
    envelope = _envelope(worker, order)
    envelope |= {
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
    return FailAttempt(**envelope, reason=end.reason, error=end.error, signal=end.signal)


def _envelope(worker: str, order: RunAttempt) -> dict[str, Any]:
    return {
        "queue": order.queue,
        "job_id": order.job_id,
        "shard_key": order.shard_key,
        "actor": f"worker/{worker}",
        "run": order.run,
        "attempt": order.attempt,
        "session": order.session,
    }

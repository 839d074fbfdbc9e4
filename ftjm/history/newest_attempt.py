"""The worker and the signal of each job's newest attempt, gathered from events.

The rows of the state keep neither of them once the attempt has ended. So every document of a job takes both from here,
whether the job was folded from its first event on or from a snapshot and the events that the log still has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.records import Record
from ftjm.core.records import events as e
from ftjm.core.state.model import Session


class NewestAttempts:
    """What events say about the newest attempts of jobs. A job without such an event is in neither dictionary."""

    def __init__(self) -> None:
        self.workers: dict[str, str] = {}
        """Name of the worker that the newest attempt was sent to, by the job's key; empty before the first attempt."""
        self.signals: dict[str, int] = {}
        """The signal that ended the newest attempt, by the job's key; 0 for none."""

    def fold(self, key: str, event: e.Event | bytes) -> None:
        """Apply an event; events of one job must come in the order of the log.

        Args:
            key: the job's key, `queue/job_id`.
            event: the event, or the value of its record, which is decoded only if it is needed.
        """
        kind = codec.type_of(event) if isinstance(event, bytes) else type(event)
        if kind is e.JobSubmitted:
            self.workers[key], self.signals[key] = "", 0
        elif kind is e.AttemptDispatched:
            self.workers[key], self.signals[key] = _decoded(event).worker, 0
        elif kind is e.JobRerun:
            self.signals[key] = 0
        elif kind is e.AttemptFailed or kind is e.AttemptStopped:
            self.signals[key] = _decoded(event).signal

    def forget(self, key: str) -> None:
        """Drop what is known of a job that the schedulers have forgotten."""
        self.workers.pop(key, None)
        self.signals.pop(key, None)

    def worker(self, key: str, session: Session | None) -> str:
        """Name of the worker that the newest attempt was sent to; empty if there is none, or if it is not known.

        Args:
            session: the session that holds the attempt; it names the worker where the log has lost the event.
        """
        return self.workers.get(key) or (session.worker if session else "")


def newest_attempts(records: Iterable[Record], until: int, key: str = "") -> NewestAttempts:
    """Gather the newest attempts of a job, or of all jobs where `key` is empty.

    Args:
        records: the records of one partition, in order. None behind the offset `until` is read.
    """
    found, only = NewestAttempts(), key.encode()
    for record in records:
        if record.offset > until:
            break
        if record.key == only if only else record.key:
            found.fold(record.key.decode(), record.value)
    return found


def _decoded(event: e.Event | bytes) -> Any:
    return codec.decode(event) if isinstance(event, bytes) else event

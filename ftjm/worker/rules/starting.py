"""Starting what a session has at hand, and the reports that fall due while attempts run. Pure."""

from collections.abc import Iterable, Iterator

from ftjm.core.identity import partition_for
from ftjm.core.records.commands import AttemptReport
from ftjm.core.records.messages import RunAttempt
from ftjm.worker.rules import reports
from ftjm.worker.rules.actions import Action, Report, Run
from ftjm.worker.rules.held import HeldAttempt, key_of
from ftjm.worker.rules.prefetch import PATIENCE, Prefetch
from ftjm.worker.rules.session import WorkerSession

OUTLIVES_MS = 250
"""An attempt that ends within this time is reported once: `CompleteAttempt` and `FailAttempt` hold its start, too."""
REPORTS_BEHIND_MAX = 50
"""While the log lacks so many reports, checkpoints wait, and the newest of an attempt replaces the one before."""
PAST_DEADLINE = "the job's deadline has passed, or it was asked to stop"


def refusal(session: WorkerSession, sessions: Iterable[WorkerSession], dispatch: RunAttempt, now: int) -> str:
    """The reason why a session does not take an attempt that was sent to it; empty if it takes it.

    Args:
        sessions: all sessions of the worker.
    """
    if not session.is_in_lease(now):
        return "the session's lease is over"
    if session.brokers_clock.is_past(dispatch.deadline_at, now):
        return PAST_DEADLINE
    if any(one.held.has_job(dispatch.queue, dispatch.job_id) for one in sessions):
        # The owner has given the older attempt up. It is about to be stopped here, and both must not run together.
        return "an older attempt of the job has not stopped yet"
    return ""


def start_at_hand(session: WorkerSession, free: int, now: int) -> Iterator[Action]:
    """Start what is at hand, as far as slots of its partitions are free.

    Args:
        session: the one that takes new attempts.
        free: how many slots of the worker are free.
    """
    if free <= 0 or not session.at_hand or not session.is_in_lease(now):
        return
    running, granted = session.held.live, session.offers.granted
    while free > 0:
        dispatch = session.at_hand.take_first(lambda partition: running[partition] < granted(partition))
        if dispatch is None:
            return
        if session.brokers_clock.is_past(dispatch.deadline_at, now):
            yield decline(session, dispatch, PAST_DEADLINE)
            continue
        free -= 1
        key = key_of(dispatch)
        session.held.hold(HeldAttempt(key=key, dispatch=dispatch, ordered_boot=now))
        yield Run(key, dispatch)


def open_places(session: WorkerSession, partition: int) -> int:
    """How many more attempts of a partition may arrive before one ends. Negative while it has more than was offered."""
    return session.offers.places(partition) - session.held.live[partition] - session.at_hand.count(partition)


def decline(session: WorkerSession, dispatch: RunAttempt, reason: str) -> Report:
    """Send back an attempt that was not started."""
    return session.report(reports.declined(session.identity.worker, dispatch, reason))


def decline_late(session: WorkerSession, prefetch: Prefetch, now: int) -> Iterator[Action]:
    """Send back what has waited at hand for too long: another worker may have a free slot. See `prefetch.py`."""
    wait_ms = prefetch.wait_ms
    if (oldest := session.at_hand.oldest_since()) is None or oldest > now - wait_ms:
        return
    slow = session.running(before=now - wait_ms // 2)

    def starts_soon(partition: int) -> int:
        return prefetch.starts_soon(session.offers.granted(partition) - slow.get(partition, 0))

    for dispatch in session.at_hand.take_late(now - wait_ms, now - PATIENCE * wait_ms, starts_soon):
        yield decline(session, dispatch, f"it did not start within {wait_ms} ms")


def decline_refused(session: WorkerSession, reason: str, now: int) -> Iterator[Action]:
    """Send back what the session takes no more, once owners know that it offers no slot."""
    declines_at = session.declines_at() if session.refused else None
    if declines_at is not None and now >= declines_at:
        refused, session.refused = session.refused, []
        for dispatch in refused:
            yield decline(session, dispatch, reason)


def report_starts(session: WorkerSession, now: int) -> Iterator[Action]:
    """Report the attempts that run for so long that their start is worth a report."""
    for held in session.held.take_started(now - OUTLIVES_MS):
        held.start_reported = True
        yield session.report(reports.started(session.identity.worker, held.dispatch, held.started_at))


def report_checkpoints(session: WorkerSession) -> Iterator[Action]:
    """Report the newest checkpoint of each attempt, unless the log is far behind."""
    for held in list(session.held.progressed.values()):
        if session.unconfirmed < REPORTS_BEHIND_MAX:
            yield from report_checkpoint(session, held)


def report_checkpoint(session: WorkerSession, held: HeldAttempt) -> Iterator[Action]:
    """Report the newest checkpoint of an attempt, if it was not reported yet."""
    if held.progress is not None:
        progress, held.progress = held.progress, None
        session.held.progressed.pop(held.key, None)
        yield session.report(reports.checkpointed(session.identity.worker, held.dispatch, progress))


def is_followed(session: WorkerSession | None, report: AttemptReport) -> bool:
    """Whether another attempt of the report's partition is at hand in the session, for the slot that becomes free."""
    if session is None:
        return False
    return session.at_hand.count(partition_for(report.shard_key or report.queue, session.identity.partitions)) > 0

"""`evolve` applies an event to the state. It is the only place where state is made.

An owner applies each event that it has just decided; a standby, the projection and a replay apply the same events as
they read them from the log. All of them run this code, so all of them get the same state.

A handler never refuses: the event has happened. It asserts what the event presumes, so that a bug stops the partition
before it spoils the state. Each file of this room holds the handlers of one kind of thing; `transitions` has what they
share: what follows when a job moves from one state to another.
"""

from collections.abc import Callable
from typing import Any

from ftjm.core.evolve import (
    attempts,
    backfills,
    bulk,
    commands,
    jobs,
    keys,
    queues,
    resources,
    schedules,
    sessions,
    upgrades,
)
from ftjm.core.records import events as e
from ftjm.core.state.model import job_key
from ftjm.core.state.outbox import ReplyMessage
from ftjm.core.state.state import State


def evolve(state: State, event: e.Event) -> None:
    """Apply `event` to `state`, and put the answer to its command into the outbox.

    Raises:
        AssertionError: the event cannot have happened in this state. The log is the truth, so the partition must stop.
        NewerLogError: an upgrade to a newer build was finalised, so the partition must stop.
    """
    key = job_key(event.queue, event.job_id)
    _HANDLERS[type(event)](state, event, key)
    if event.reply:
        _answer(state, event, key)


def _answer(state: State, event: e.Event, key: str) -> None:
    code, text = (event.code, event.text) if isinstance(event, e.CommandRejected) else ("", "")
    job = state.job(key)
    run = job.run if job else event.run
    state.push(ReplyMessage(event.reply, event.queue, event.job_id, run, code, text, job.state if job else 0))


_HANDLERS: dict[type[e.Event], Callable[[State, Any, str], None]] = {
    e.JobSubmitted: jobs.submitted,
    e.SubmissionRepeated: jobs.repeated,
    e.JobQueued: jobs.queued,
    e.JobParked: jobs.parked,
    e.JobHeld: jobs.held,
    e.JobReleased: jobs.released,
    e.JobStopRequested: jobs.stop_requested,
    e.JobCancelled: jobs.cancelled,
    e.JobFailed: jobs.failed,
    e.JobStuck: jobs.reviewed,
    e.JobReviewed: jobs.reviewed,
    e.JobSkipped: jobs.skipped,
    e.JobRerun: jobs.rerun,
    e.JobPrioritized: jobs.prioritized,
    e.JobForgotten: jobs.forgotten,
    e.AttemptDispatched: attempts.dispatched,
    e.AttemptStarted: attempts.started,
    e.AttemptCheckpointed: attempts.checkpointed,
    e.AttemptSucceeded: attempts.succeeded,
    e.AttemptFailed: attempts.failed,
    e.AttemptLost: attempts.lost,
    e.AttemptStopped: attempts.stopped,
    e.AttemptDeclined: attempts.declined,
    e.WorkerLost: sessions.lost,
    e.WorkerForgotten: sessions.forgotten,
    e.QueuePaused: queues.paused,
    e.QueueResumed: queues.resumed,
    e.QueueApplied: queues.applied,
    e.QueueUnchanged: queues.unchanged,
    e.QueueDeleted: queues.deleted,
    e.ScheduleApplied: schedules.applied,
    e.ScheduleUnchanged: schedules.unchanged,
    e.ScheduleDeleted: schedules.deleted,
    e.SchedulePaused: schedules.paused,
    e.ScheduleResumed: schedules.resumed,
    e.ScheduleReckoned: schedules.reckoned,
    e.SchedulesReckoned: schedules.all_reckoned,
    e.ScheduleFired: schedules.fired,
    e.ScheduleDelayed: schedules.delayed,
    e.ScheduleSkipped: schedules.skipped,
    e.BackfillBegun: backfills.begun,
    e.BackfillAdvanced: backfills.moved,
    e.BackfillStopped: backfills.moved,
    e.ResourceApplied: resources.applied,
    e.ResourceUnchanged: resources.unchanged,
    e.ResourceDeleted: resources.deleted,
    e.ResourceAdopted: resources.adopted,
    e.ResourceConfirmed: resources.confirmed_again,
    e.AdoptionConfirmed: resources.confirmed,
    e.ResourceSettled: resources.settled,
    e.ResourceToldAgain: resources.told_again,
    e.ResourcesAsked: resources.asked,
    e.ReconciliationBegun: resources.reconciliation_begun,
    e.ResourcesTold: resources.told,
    e.ResourcesReconciled: resources.reconciled,
    e.WindowTurned: resources.window_turned,
    e.WindowStopsAdvanced: resources.window_stops_advanced,
    e.QueueReordered: jobs.reordered,
    e.KeysSettled: keys.settled,
    e.BulkBegun: bulk.begun,
    e.BulkAdvanced: bulk.moved,
    e.BulkStopped: bulk.moved,
    e.CommandRejected: commands.rejected,
    e.CommandForwarded: commands.forwarded,
    e.ForwardReceived: commands.forward_received,
    e.CommandIdForgotten: commands.id_forgotten,
    e.UpgradeFinalized: upgrades.finalized,
}

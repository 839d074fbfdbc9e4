"""`decide` judges a command: it returns the events that the command leads to, or a refusal.

Every function of this room is pure. It reads the state, never writes it, and takes the time as an argument. So the
same state, command and time give the same events in every process. `evolve` is the counterpart that writes.

| what happens | decided in |
|---|---|
| a job is submitted, or its outcome asked for | `submissions` |
| a job is cancelled, held, released or run again | `jobs` |
| a queue is paused, resumed or declared | `queues` |
| a schedule is paused, resumed, declared or triggered | `schedules` |
| an instant of a schedule has come | `firings` |
| many jobs are changed by one request | `bulk` |
| instants of a schedule that have passed get their jobs | `backfills` |
| a calendar, window or cordon is declared, adopted, settled | `resources` |
| a window opens or closes | `windows` |
| a worker reports about an attempt | `attempts` |
| a timer is due | `timers` |
| a job has waited for as long as its queue allows | `waiting` |
| a worker's session ends | `sessions` |
| a command needs what the cluster does not know yet, or an upgrade is finalised | `upgrades` |
| a concurrency key is free, or a job finds it taken | `keys` |
| a process has a slice to do | `processes` |
| a slot is free | `ftjm.core.placement` |
"""

from collections.abc import Callable
from typing import Any

from ftjm.core.bounds import confine
from ftjm.core.decide import attempts, backfills, bulk, jobs, queues, resources, schedules, upgrades
from ftjm.core.decide.decision import Events, Policy, Rejected
from ftjm.core.decide.submissions import await_outcome, submit
from ftjm.core.identity import key_of, partition_for
from ftjm.core.limits import TITLE_CHARACTERS_MAX
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.state.view import StateView


def decide(state: StateView, command: c.Command, now: int, policy: Policy) -> Events | Rejected:
    """Judge one command. Its fields are checked first: behind that, every handler may rely on their bounds.

    Args:
        command: a report's fields that only inform people are set inside their bounds.
        now: the batch's time, ms.

    Returns:
        The events that the command leads to, without their cause (the engine adds it), or why it is refused.
    """
    if fault := confine(command):
        named = isinstance(command, c.ClusterCommand) or (
            is_name(command.queue) and (isinstance(command, c.QueueCommand) or is_name(command.job_id))
        )
        return Rejected("INVALID" if named else "BAD_NAME", fault)
    if command.shard_key:
        return Rejected("INVALID", f"shard_key: expected none, since queue {command.queue} has no shards")
    if (refusal := upgrades.refusal(state.finalized, command, policy)) is not None:
        return refusal
    return _HANDLERS[type(command)](state, command, now, policy)


TOLD = frozenset(kind for kind in c.COMMANDS if issubclass(kind, c.ToldCommand))
"""Commands that only partitions send."""


def home_partition(command: c.Command, policy: Policy) -> int:
    """The number of the partition that decides about `command`. What a partition tells another is decided where it
    arrives.

    A key that is longer than any valid one is not hashed, since that would take long: the command is refused where it
    lies.
    """
    if type(command) in TOLD:
        return policy.partition
    key = key_of(command)
    return policy.partition if len(key) > TITLE_CHARACTERS_MAX else partition_for(key, policy.partitions)


_HANDLERS: dict[type[c.Command], Callable[[StateView, Any, int, Policy], Events | Rejected]] = {
    c.SubmitJob: submit,
    c.AwaitJob: await_outcome,
    c.CancelJob: jobs.cancel,
    c.HoldJob: jobs.hold,
    c.ReleaseJob: jobs.release,
    c.RerunJob: jobs.rerun,
    c.PrioritizeJob: jobs.prioritize,
    c.PauseQueue: queues.pause,
    c.ResumeQueue: queues.resume,
    c.ApplyQueue: queues.apply,
    c.DeleteQueue: queues.delete,
    c.ApplySchedule: schedules.apply,
    c.DeleteSchedule: schedules.delete,
    c.PauseSchedule: schedules.pause,
    c.ResumeSchedule: schedules.resume,
    c.TriggerSchedule: schedules.trigger,
    c.BackfillSchedule: backfills.begin,
    c.StopBackfill: backfills.stop,
    c.BulkJobs: bulk.begin,
    c.StopBulk: bulk.stop,
    c.ApplyResource: resources.apply,
    c.DeleteResource: resources.delete,
    c.AdoptResource: resources.adopt,
    c.ReconcileResources: resources.reconcile,
    c.ConfirmAdoption: resources.confirm,
    c.AskResources: resources.asked,
    c.StartAttempt: attempts.start,
    c.CompleteAttempt: attempts.complete,
    c.FailAttempt: attempts.fail,
    c.CheckpointAttempt: attempts.checkpoint,
    c.DeclineAttempt: attempts.decline,
}

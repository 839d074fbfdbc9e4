"""Decisions about a queue as a whole: pause and resume.

The state of the queue refuses neither: who repeats a request, because its answer was lost, has what was asked for.
"""

from ftjm.core.decide.decision import Events, Policy
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.view import StateView


def pause(state: StateView, command: c.PauseQueue, now: int, policy: Policy) -> Events:
    """`QueuePaused`."""
    return [e.QueuePaused(queue=command.queue, reason=command.reason)]


def resume(state: StateView, command: c.ResumeQueue, now: int, policy: Policy) -> Events:
    """`QueueResumed`."""
    return [e.QueueResumed(queue=command.queue)]

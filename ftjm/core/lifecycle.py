"""The lifecycle of a job as a table: which event may happen in which state, and to which states it leads.

A row that is missing is an illegal transition. `decide` asks the table before it decides, and `evolve` asserts it; no
other place judges whether a transition is legal.
"""

from ftjm.core.records import events as e
from ftjm.core.state.model import LIVE, TERMINAL, JobState

S = JobState
Row = dict[JobState | None, frozenset[JobState]]


def _from(*states: JobState | None, to: JobState | tuple[JobState, ...]) -> Row:
    targets = frozenset(to if isinstance(to, tuple) else (to,))
    return dict.fromkeys(states, targets)


def _same(*states: JobState) -> Row:
    return {state: frozenset({state}) for state in states}


WAITING = (S.SCHEDULED, S.PENDING, S.READY, S.RETRY_WAIT)
ENDED = tuple(sorted(TERMINAL))
HAS_WORKER = tuple(sorted(LIVE))

LIFECYCLE: dict[type[e.Event], Row] = {
    e.JobSubmitted: _from(None, to=(S.SCHEDULED, S.PENDING, S.READY, S.HELD)),
    e.SubmissionRepeated: _same(*S),
    e.JobQueued: _from(S.SCHEDULED, S.RETRY_WAIT, to=(S.PENDING, S.READY)) | _from(S.PENDING, to=S.READY),
    e.JobParked: _from(S.READY, S.PENDING, to=S.PENDING),
    e.JobHeld: _from(*WAITING, to=S.HELD),
    e.JobReleased: _from(S.HELD, to=(S.SCHEDULED, S.RETRY_WAIT, S.PENDING, S.READY)),
    e.JobStopRequested: _same(*HAS_WORKER),
    e.JobCancelled: _from(*WAITING, S.HELD, to=S.CANCELLED),
    e.JobFailed: _from(*WAITING, S.HELD, to=S.FAILED),
    **dict.fromkeys((e.JobStuck, e.JobReviewed), _same(S.PENDING, S.READY)),
    e.JobSkipped: _from(S.PENDING, to=S.SKIPPED),
    e.JobRerun: _from(*ENDED, to=(S.PENDING, S.READY)),
    e.JobPrioritized: _same(*WAITING, S.HELD, *HAS_WORKER),
    e.JobForgotten: _same(*ENDED),
    e.AttemptDispatched: _from(S.READY, to=S.DISPATCHED),
    e.AttemptStarted: _from(S.DISPATCHED, to=S.RUNNING),
    e.AttemptCheckpointed: _same(*HAS_WORKER),
    e.AttemptSucceeded: _from(*HAS_WORKER, to=S.SUCCEEDED),
    e.AttemptFailed: _from(*HAS_WORKER, to=(S.RETRY_WAIT, S.READY)),
    e.AttemptLost: _from(*HAS_WORKER, to=(S.RETRY_WAIT, S.READY)),
    e.AttemptStopped: _from(*HAS_WORKER, to=S.READY),
    e.AttemptDeclined: _from(S.DISPATCHED, to=S.READY),
}


def may(event: type[e.Event], state: JobState | None) -> bool:
    """Whether `event` may happen to a job in `state`; None stands for a job that does not exist."""
    return state in LIFECYCLE[event]


def states_of(event: type[e.Event]) -> frozenset[JobState]:
    """The states in which `event` may happen to a job that exists."""
    return frozenset(state for state in LIFECYCLE[event] if state is not None)

"""Events of an attempt: dispatched, started, ended, stopped, lost. `events.py` lists them with all others."""

from ftjm.core.records.event import Event
from ftjm.core.state.model import FailureReason


class AttemptEvent(Event, kw_only=True):
    """The envelope of events about an attempt."""

    attempt: int
    """Counts the job's attempts from 1, over all runs."""
    session: str
    """The worker's session that holds the attempt."""


class AttemptDispatched(AttemptEvent, kw_only=True):
    """The job is bound to a slot of a worker's session: it is DISPATCHED."""

    worker: str
    """The name of the session's worker."""
    lane: int
    """Partition of `dispatch` that the session reads."""
    lease_ms: int
    """How long the session may be silent before it is lost."""
    offer: int
    """Number of the slot offer that was used."""
    ahead: bool = False
    """Whether it was sent ahead: all slots were taken, and the worker holds it until one is free."""
    passed: str = ""
    """Id of the queue's waiting job with the lowest score, if this one was taken before it; else empty."""
    passed_reason: str = ""
    """The reason why that one was not taken, as `explain` gives it."""


class AttemptStarted(AttemptEvent, kw_only=True):
    """The worker has started the attempt's process or task: the job is RUNNING."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms."""


class AttemptCheckpointed(AttemptEvent, kw_only=True):
    """The attempt has reported its checkpoint or progress. A field with its default value leaves the earlier report."""

    data: bytes = b""
    """JSON that the run's next attempt gets."""
    progress: float = -1.0
    """0 to 1; below 0 if it was not reported."""
    text: str = ""
    """A line for people."""


class AttemptSucceeded(AttemptEvent, kw_only=True):
    """The attempt reached the run's one success: the job is SUCCEEDED."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms."""
    ended_at: int
    """When it ended, by the worker's clock, ms."""
    exit_code: int = 0
    result: bytes = b""
    """JSON; empty if there is none."""
    stdout: bytes = b""
    """The end of its standard output."""
    stderr: bytes = b""
    """The end of its standard error."""
    stdout_cut: int = 0
    """Bytes of standard output before the part that is kept."""
    stderr_cut: int = 0
    """Bytes of standard error before the part that is kept."""


class AttemptFailed(AttemptEvent, kw_only=True):
    """The attempt failed. After the `max_attempts`-th one, `JobFailed` or `JobCancelled` follows in the same batch."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms."""
    ended_at: int
    """When it ended, by the worker's clock, ms."""
    reason: FailureReason
    error: str = ""
    """The error text, for people."""
    exit_code: int = 0
    signal: int = 0
    """Number of the signal that ended it; 0 if none did."""
    retry_at: int = 0
    """When the next attempt may start, ms; 0 if there is none."""
    stdout: bytes = b""
    """The end of its standard output."""
    stderr: bytes = b""
    """The end of its standard error."""
    stdout_cut: int = 0
    """Bytes of standard output before the part that is kept."""
    stderr_cut: int = 0
    """Bytes of standard error before the part that is kept."""


class AttemptLost(AttemptEvent, kw_only=True):
    """The attempt was lost with its worker. It does not count against `max_attempts`."""

    reason: str
    """`LAPSED`, `CLOSED`, or the `FailureReason` by which the worker gave it up."""
    retry_at: int = 0
    """When the next attempt may start, ms; 0 if there is none. Then the job's end or hold follows in the same batch."""


class AttemptStopped(AttemptEvent, kw_only=True):
    """The worker has stopped the attempt, because the windows of its queue say so. Nothing is charged, and the job
    is READY again, at its place in the queue."""

    started_at: int
    """When the attempt's process started, by the worker's clock, ms; 0 if the worker did not hold it."""
    ended_at: int
    """When it ended, by the worker's clock, ms."""
    exit_code: int = 0
    signal: int = 0
    """Number of the signal that ended it; 0 if none did."""
    stdout: bytes = b""
    """The end of its standard output."""
    stderr: bytes = b""
    """The end of its standard error."""
    stdout_cut: int = 0
    """Bytes of standard output before the part that is kept."""
    stderr_cut: int = 0
    """Bytes of standard error before the part that is kept."""


OutputEvent = AttemptSucceeded | AttemptFailed | AttemptStopped
"""Events that hold the output of an attempt, and when it started and ended by the worker's clock."""


class AttemptDeclined(AttemptEvent, kw_only=True):
    """The worker sent the attempt back before it started it: the job is READY again, at its place in the queue."""

    reason: str = ""
    """The worker's reason, for people."""

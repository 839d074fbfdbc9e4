"""Losses: which attempts that were lost with their worker are charged to their job."""

from ftjm.core.state.model import Ahead, FailureReason, Job

LAPSED = "LAPSED"
"""The reason of a loss: the attempt's session fell silent."""
CLOSED = "CLOSED"
"""The reason of a loss: the attempt's session closed, and no report came."""
SESSION_LOSSES = frozenset({LAPSED, CLOSED})
"""Reasons by which the owner gives an attempt up. All others are reports, so the attempt has started."""


def is_charged(job: Job, reason: str) -> bool:
    """Whether the loss of the job's current attempt counts against `worker_losses_max`.

    Two do not: an attempt that was lost beside another one, which is suspected to have caused the loss; and one that
    was sent ahead and is not known to have started.
    """
    if reason in SESSION_LOSSES:
        return job.ahead is not Ahead.UNSTARTED
    return reason != FailureReason.GUARD_LOST_BESIDE

"""Ageing: the order of the jobs that wait in a queue.

One point of priority is worth a time of waiting, the queue's `ageing_ms`. All jobs of a queue age alike, so the order
of two jobs never changes while they wait. So no job has to be rewritten as time passes: its place is a constant, its
score, by which it is sorted once:

    score = eligible_at - priority * ageing_ms        lower first; of equal scores, the lower order first

A job of priority p that became eligible at t goes before every job of its queue that becomes eligible later than
t + (100 - p) * ageing_ms. So each job has its turn, however many jobs of a higher priority come. Age begins when a job
first becomes eligible in its run: a start delay gives no credit, and a retry keeps its age.

With `ageing_ms` at its highest, ten years, waiting makes no difference, and priority alone orders.

**Before the upgrade is final** that brings ageing, jobs have the order that older builds give them: by priority alone.
Their score depends on nothing that an older build does not store, so a store that an older build has written becomes,
migrated, the same as one of this build. `UpgradeFinalized` begins a process that gives all that wait their scores.
"""

from ftjm.core.limits import AGEING_MS_MAX
from ftjm.core.records.levels import QUEUE_LEVEL
from ftjm.core.state.model import Finalized, Job
from ftjm.core.state.queues import AGEING_MS, QueueDeclaration


def is_known(finalized: Finalized) -> bool:
    """Whether the cluster knows ageing, so that no older build folds the log any more."""
    return finalized.level >= QUEUE_LEVEL


def ageing_of(declaration: QueueDeclaration | None) -> int:
    """How long a wait is worth one point of priority in a queue, ms."""
    return AGEING_MS if declaration is None else declaration.spec.ageing_ms


def eligible_since(job: Job, at: int) -> int:
    """Since when a READY job is eligible in its run, if it became READY at `at`, ms.

    Of a job that had an attempt before its cluster knew ageing, no such time is stored; that of its submission counts.
    """
    return job.eligible_at or (job.submitted_at if job.attempt else at)


def join_line(finalized: Finalized, declaration: QueueDeclaration | None, job: Job, at: int) -> None:
    """The job becomes READY or PENDING at `at`, ms: give it its age and its score."""
    if not job.eligible_at and finalized.level >= QUEUE_LEVEL:
        job.eligible_at = eligible_since(job, at) if job.attempt else at
    job.score = score(finalized, declaration, job)


def score(finalized: Finalized, declaration: QueueDeclaration | None, job: Job) -> int:
    """The place of a READY job in its queue, lower first."""
    if finalized.level < QUEUE_LEVEL:
        return -job.priority * AGEING_MS_MAX
    return job.eligible_at - job.priority * (AGEING_MS if declaration is None else declaration.spec.ageing_ms)

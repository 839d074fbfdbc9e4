"""Why a job is not running, for every state and every situation of a READY job."""

from __future__ import annotations

import pytest

from ftjm.core.state.model import Job, JobState
from ftjm.core.state.queues import QueueStatus
from ftjm.readmodel.documents.explanation import Reason
from ftjm.readmodel.explain import Facts, Server, explain

NOW = 1_900_000_000_000
FREE = Server("w1", ["q"], 4, 1, draining=False)
FULL = Server("w2", ["q", "other"], 2, 2, draining=False)
LEAVING = Server("w3", ["q"], 4, 0, draining=True)
OTHER = Server("w4", ["other"], 4, 0, draining=False)


PAUSED = QueueStatus(NOW - 60_000, "the disk is full", "ann@host")


def explanation(state: JobState, servers=(FREE,), ahead: int = 0, owned: bool = True, status=None, **fields):
    job = Job(state, **fields)
    return explain(Facts("q", job, NOW, ahead, 1_000, owned, 3, servers, "w9", status))


@pytest.mark.parametrize(
    ("found", "reason", "text"),
    [
        (explanation(JobState.READY, ahead=3), Reason.PRIORITY, "3 job(s) of queue q are served first"),
        (explanation(JobState.READY, ahead=1_000), Reason.PRIORITY, "at least 1000 job(s)"),
        (explanation(JobState.READY, [FULL]), Reason.RESOURCES, "all 2 slot(s) of the 1 worker(s)"),
        (explanation(JobState.READY, [FULL, FREE]), Reason.RESOURCES, "3 slot(s) are free"),
        (
            explanation(JobState.READY, [OTHER]),
            Reason.NO_WORKER,
            "no worker serves queue q; 1 worker(s) serve other queues",
        ),
        (explanation(JobState.READY, [LEAVING]), Reason.NO_WORKER, "all 1 worker(s) that serve queue q are leaving"),
        (explanation(JobState.READY, []), Reason.NO_WORKER, "there is no worker at all"),
        (explanation(JobState.READY, owned=False), Reason.NO_SCHEDULER, "partition 3"),
        (
            explanation(JobState.READY, [], ahead=3, status=PAUSED),
            Reason.QUEUE_PAUSED,
            "queue q has been paused since 2030-03-17T17:45:40.000Z by ann@host: the disk is full",
        ),
        (explanation(JobState.READY, status=QueueStatus(NOW)), Reason.QUEUE_PAUSED, "since 2030-03-17T17:46:40.000Z"),
        (explanation(JobState.READY, owned=False, status=PAUSED), Reason.NO_SCHEDULER, "partition 3"),
        (explanation(JobState.HELD, status=PAUSED), Reason.HELD, "it is held"),
        (explanation(JobState.RUNNING, attempt=1, status=PAUSED), Reason.NONE, "running"),
        (explanation(JobState.HELD, reason="disk"), Reason.HELD, "held: disk"),
        (explanation(JobState.SCHEDULED, due_at=NOW + 90_500), Reason.START_TIME, ", in 1m30s"),
        (
            explanation(JobState.RETRY_WAIT, due_at=NOW + 10, reason="EXIT_CODE", attempt=2),
            Reason.BACKOFF,
            "attempt 2 ended with",
        ),
        (explanation(JobState.PENDING), Reason.DEPENDENCY, "other jobs"),
        (explanation(JobState.DISPATCHED, attempt=1), Reason.NONE, "on worker w9"),
        (explanation(JobState.RUNNING, attempt=1, stopping="CANCELLED"), Reason.NONE, "being stopped (CANCELLED)"),
        (explanation(JobState.FAILED, reason="EXIT_CODE"), Reason.NONE, "FAILED"),
    ],
)
def test_the_reason_and_the_text(found, reason, text):
    assert found.reason is reason
    assert text in found.text


def test_every_state_is_explanation():
    for state in JobState:
        assert explanation(state).text

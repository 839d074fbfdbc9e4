"""Why a job is not running, for every state and every situation of a READY job."""

from __future__ import annotations

import pytest

from ftjm.core.queue_gates import GATES, QueueRows
from ftjm.core.state.model import LIVE, TERMINAL, Job, JobState
from ftjm.core.state.queues import Queue, QueueDeclaration, QueueRate, QueueSpec, QueueStatus
from ftjm.core.state.windows import WindowEffect, WindowSpec
from ftjm.core.windows import QueueWindow
from ftjm.readmodel.documents.explanation import Reason
from ftjm.readmodel.explain import CLOSED_GATES, Facts, Server, explain
from ftjm.readmodel.share_standing import ShareFacts, ShareStanding

NOW = 1_900_000_000_000
FREE = Server("w1", ["q"], 4, 1, draining=False)
FULL = Server("w2", ["q", "other"], 2, 2, draining=False)
OFFERING = Server("w6", ["q"], 4, 4, draining=False, offered=4)
OURS, THEIRS = ShareFacts("web", 2, 90_000_000, 1), ShareFacts("", 1, 7_000_000, 0)
LEAVING = Server("w3", ["q"], 4, 0, draining=True)
OTHER = Server("w4", ["other"], 4, 0, draining=False)


PAUSED = QueueStatus(NOW - 60_000, "the disk is full", "ann@host")


CORDONED = Server("w5", ["q"], 4, 0, draining=False, cordoned=True)
NIGHT = QueueWindow("night", WindowSpec("0 22 * * *", 3_600_000, queues=["q"]), False, NOW + 60_000)
FREEZE = QueueWindow("freeze", WindowSpec("0 22 * * *", 3_600_000, WindowEffect.DENY, queues=["q"]), True, NOW + 60_000)
BIG = QueueWindow("big", WindowSpec("0 22 * * *", 3_600_000, queues=["q"], workers=["w*"]), False, NOW + 60_000)
HOURLY = QueueSpec(rate_limit=60, rate_per_ms=3_600_000)


def explanation(
    state: JobState,
    servers=(FREE,),
    ahead: int = 0,
    owned: bool = True,
    status=None,
    spec=None,
    live=0,
    used_ms=0,
    having_key=(),
    windows=(),
    share=None,
    starts=0,
    active=0,
    **job,
):
    counts = [0] * (max(JobState) + 1)
    counts[JobState.RUNNING] = live
    rate = QueueRate((NOW + used_ms) * 1_000_000)
    rows = QueueRows(
        status,
        QueueDeclaration(1, spec) if spec else None,
        Queue(counts, active_shares=active),
        rate if spec else None,
        windows,
    )
    return explain(
        Facts("q", Job(state, **job), NOW, ahead, 1_000, owned, 3, servers, "w9", rows, share, starts, 400, having_key)
    )


def test_every_gate_of_a_queue_is_explained() -> None:
    assert list(CLOSED_GATES) == list(GATES)


CASES = [
    (explanation(JobState.READY, ahead=3), Reason.PRIORITY, "3 job(s) of queue q are served first"),
    (explanation(JobState.READY, ahead=1_000), Reason.PRIORITY, "at least 1000 job(s)"),
    (explanation(JobState.READY, [FULL]), Reason.RESOURCES, "all 2 slot(s) of the 1 worker(s)"),
    (explanation(JobState.READY, [FULL, FREE]), Reason.RESOURCES, "3 slot(s) are free"),
    (
        explanation(JobState.READY, ahead=3, share=ShareStanding(OURS, THEIRS, 3), starts=60),
        Reason.SHARE,
        "web has used 1m30s for a weight of 2; the share without a name has used 7s for a weight of 1, which is",
    ),
    (
        explanation(JobState.READY, ahead=3, share=ShareStanding(OURS, THEIRS, 3), starts=60),
        Reason.SHARE,
        "and goes first; 3 job(s) of its share are before it; it may start at about",
    ),
    (
        explanation(JobState.READY, ahead=3, share=ShareStanding(OURS, None, 3)),
        Reason.PRIORITY,
        "3 job(s) of share without a name of queue q are served first",
    ),
    (
        explanation(JobState.READY, [OFFERING], share=ShareStanding(OURS, None, 3)),
        Reason.RESOURCES,
        "it is next, but all 4 slot(s)",
    ),
    (
        explanation(
            JobState.READY,
            [OFFERING],
            live=2,
            active=1,
            spec=QueueSpec(compute_reservation=50),
            share=ShareStanding(OURS, THEIRS, 3),
        ),
        Reason.COMPUTE_RESERVATION,
        "may use 2 of 4 slot(s), by its compute_reservation of 50, and all are taken",
    ),
    (
        explanation(JobState.READY, spec=QueueSpec(compute_reservation=50), share=ShareStanding(OURS, None, 3)),
        Reason.RESOURCES,
        "it is next; 3 slot(s) are free",
    ),
    (
        explanation(JobState.READY, [FULL], starts=30, ahead=4),
        Reason.PRIORITY,
        "in 9s (estimated by 30 start(s) of the queue in the last minute, 400 ms ago)",
    ),
    (
        explanation(JobState.READY, [OTHER]),
        Reason.NO_WORKER,
        "no worker serves queue q; 1 worker(s) serve other queues",
    ),
    (
        explanation(JobState.READY, [CORDONED, LEAVING]),
        Reason.NO_WORKER,
        "all 1 worker(s) that serve queue q are cordoned",
    ),
    (
        explanation(JobState.READY, windows=[NIGHT]),
        Reason.WINDOW,
        "only in its windows, and all are closed: night; it may start at",
    ),
    (
        explanation(JobState.READY, windows=[NIGHT, NIGHT]),
        Reason.WINDOW,
        "all are closed: night, night",
    ),
    (explanation(JobState.READY, windows=[FREEZE]), Reason.WINDOW, "while a window that denies is open: freeze"),
    (
        explanation(JobState.READY, windows=[BIG]),
        Reason.WINDOW,
        "no window of queue q (big) lets it start on the 1 worker(s)",
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
    (
        explanation(JobState.READY, [], live=2, spec=QueueSpec(concurrency=2)),
        Reason.QUEUE_LIMIT,
        "2 job(s) of queue q have a worker, and its concurrency is 2",
    ),
    (explanation(JobState.READY, [FULL], live=1, spec=QueueSpec(concurrency=2)), Reason.RESOURCES, "it is next"),
    (
        explanation(JobState.READY, used_ms=59_000, spec=HOURLY),
        Reason.RATE_LIMIT,
        "used up its rate of 60 start(s) in 1h; the next job may start at 2030-03-17T17:47:39.000Z, in 59s",
    ),
    (explanation(JobState.READY, [FULL], used_ms=0, spec=HOURLY), Reason.RESOURCES, "it is next"),
    (explanation(JobState.READY, status=PAUSED, used_ms=9, spec=HOURLY), Reason.QUEUE_PAUSED, "has been paused"),
    (explanation(JobState.HELD, status=PAUSED), Reason.HELD, "it is held"),
    (explanation(JobState.RUNNING, attempt=1, status=PAUSED), Reason.NONE, "running"),
    (explanation(JobState.HELD, reason="disk"), Reason.HELD, "held: disk"),
    (explanation(JobState.SCHEDULED, due_at=NOW + 90_500), Reason.START_TIME, ", in 1m30s"),
    (
        explanation(JobState.RETRY_WAIT, due_at=NOW + 10, reason="EXIT_CODE", attempt=2),
        Reason.BACKOFF,
        "attempt 2 ended with",
    ),
    (
        explanation(JobState.PENDING, concurrency_key="k", pending_at=NOW, ahead=2, having_key=["q/a (RUNNING)"]),
        Reason.CONCURRENCY_LIMIT,
        "and the key is taken by q/a (RUNNING); it waits since 2030-03-17T17:46:40.000Z, and 2 job(s) get the key",
    ),
    (
        explanation(JobState.PENDING, concurrency_key="k", ahead=1_000, spec=QueueSpec(key_concurrency=3)),
        Reason.CONCURRENCY_LIMIT,
        "3 job(s) of queue q with the concurrency key k",
    ),
    (explanation(JobState.DISPATCHED, attempt=1), Reason.NONE, "on worker w9"),
    (explanation(JobState.RUNNING, attempt=1, stopping="CANCELLED"), Reason.NONE, "being stopped (CANCELLED)"),
    (explanation(JobState.RUNNING, attempt=1, stopping="WINDOW"), Reason.NONE, "being stopped (WINDOW)"),
    (explanation(JobState.FAILED, reason="EXIT_CODE"), Reason.NONE, "FAILED"),
]


@pytest.mark.parametrize(("found", "reason", "text"), CASES)
def test_the_reason_and_the_text(found, reason, text):
    assert found.reason is reason
    assert text in found.text


def test_every_reason_is_given():
    assert {reason for _, reason, _ in CASES} == set(Reason)


def test_every_state_is_explained():
    for state in JobState:
        found = explanation(state)
        assert found.text
        assert (found.reason is Reason.NONE) is (state in LIVE | TERMINAL)

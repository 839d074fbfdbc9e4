"""The judge of histories passes a good one, and names each kind of fault that is planted in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ftjm.checker import Entry, Report, check
from ftjm.core import events as e
from ftjm.core.commands import CompleteAttempt
from ftjm.core.model import FailureReason, JobSpec, StopReason
from tests.engine.world import QUEUE, World, offer

GOOD, LOST, CANCELLED, AGAIN = "good", "lost", "cancelled", "again"
NAMES = [("q", job_id) for job_id in (GOOD, LOST, CANCELLED, AGAIN)]
Batch = list[e.Event]
Story = list[Batch]


def submitted(job_id: str, command: int) -> e.Event:
    return e.JobSubmitted(queue="q", job_id=job_id, run=1, spec=JobSpec(), cause_ref=str(command))


def by(cause: e.Cause, event: e.Event) -> e.Event:
    event.cause = cause
    return event


def dispatched(job_id: str, attempt: int, session: str = "s1", run: int = 1) -> e.Event:
    facts: dict[str, Any] = {"session": session, "worker": "w", "lane": 0, "lease_ms": 5_000, "offer": 1}
    event = e.AttemptDispatched(queue="q", job_id=job_id, run=run, attempt=attempt, **facts)
    return by(e.Cause.OFFER, event)


def succeeded(job_id: str, attempt: int, command: int, session: str = "s1", run: int = 1) -> e.Event:
    facts: dict[str, Any] = {"session": session, "started_at": 1, "ended_at": 2, "cause_ref": str(command)}
    return e.AttemptSucceeded(queue="q", job_id=job_id, run=run, attempt=attempt, **facts)


def of(kind: type[e.Event], job_id: str, cause: e.Cause, ref: str = "", run: int = 1, **facts: Any) -> e.Event:
    return kind(queue="q", job_id=job_id, run=run, cause=cause, cause_ref=ref, **facts)


def a_story() -> Story:
    """Four jobs: one succeeds, one loses its worker first, one is stopped, one is run again and then forgotten."""
    timer, lapse = e.Cause.TIMER, e.Cause.LAPSE
    failed: dict[str, Any] = {"session": "s1", "started_at": 1, "ended_at": 2, "reason": FailureReason.STOPPED}
    stop: dict[str, Any] = {"attempt": 1, "reason": StopReason.CANCELLED}
    return [
        [submitted(GOOD, 0), submitted(LOST, 1), dispatched(GOOD, 1), dispatched(LOST, 1, "s2")],
        [succeeded(GOOD, 1, 2), e.CommandRejected(code="INVALID", text="", cause_ref="3")],
        [
            by(lapse, e.WorkerLost(session="s2")),
            of(e.AttemptLost, LOST, lapse, attempt=1, session="s2", reason="LAPSED", retry_at=9),
        ],
        [of(e.JobQueued, LOST, timer), dispatched(LOST, 2)],
        [of(e.AttemptStarted, LOST, e.Cause.COMMAND, "4", attempt=2, session="s1", started_at=1)],
        [succeeded(LOST, 2, 5), submitted(CANCELLED, 6), dispatched(CANCELLED, 1)],
        [of(e.JobStopRequested, CANCELLED, e.Cause.COMMAND, "7", **stop)],
        [
            of(e.AttemptFailed, CANCELLED, e.Cause.COMMAND, "8", attempt=1, **failed),
            of(e.JobCancelled, CANCELLED, e.Cause.COMMAND, "8"),
        ],
        [submitted(AGAIN, 9), dispatched(AGAIN, 1)],
        [succeeded(AGAIN, 1, 10)],
        [of(e.JobRerun, AGAIN, e.Cause.COMMAND, "11", run=2), dispatched(AGAIN, 2, run=2)],
        [succeeded(AGAIN, 2, 12, run=2), of(e.JobForgotten, AGAIN, timer, run=2)],
        [submitted(AGAIN, 13), dispatched(AGAIN, 1)],
        [succeeded(AGAIN, 1, 14)],
    ]


def closed(story: Story) -> list[list[e.Event | e.BatchClosed]]:
    """The story with the end of each batch, as a healthy owner would have written it."""
    batches: list[list[e.Event | e.BatchClosed]] = []
    next_command = 0
    for number, batch in enumerate(story, 1):
        refs = [int(event.cause_ref) for event in batch if event.cause is e.Cause.COMMAND]
        next_command = max([next_command, *(ref + 1 for ref in refs)])
        end = e.BatchClosed(
            batch_no=number,
            now=1_000 + number,
            next_command=next_command,
            owner_epoch=1 + (number > 5),
            owner="a" if number <= 5 else "b",
            outbox_sent=number,
            events=len(batch),
            state_version=1,
            state_hash=b"",
        )
        batches.append([*batch, end])
    return batches


def judged(batches: list[list[e.Event | e.BatchClosed]], acknowledged: Any = NAMES) -> Report:
    records = [record for batch in batches for record in batch]
    return check((Entry(0, offset, event) for offset, event in enumerate(records)), acknowledged)


def test_a_good_history_passes_and_is_counted():
    report = judged(closed(a_story()))
    assert report.violations == []
    assert report.passed
    assert msgspec.structs.asdict(report) == {
        "jobs": 5,
        "succeeded": 5,
        "failed": 0,
        "cancelled": 1,
        "attempts": 7,
        "attempts_failed": 1,
        "attempts_lost": 1,
        "attempts_declined": 0,
        "submissions_repeated": 0,
        "commands_refused": 1,
        "batches": 14,
        "events": 27,
        "violations": [],
    }


def test_what_the_engine_writes_passes():
    world = World()
    for number in range(5):
        world.submit(f"job-{number}")
    world.work_all()
    world.submit("job-0")
    world.submit("broken", priority=101)
    world.work([offer(slots=5)])
    for event in world.events():
        if isinstance(event, e.AttemptDispatched):
            world.send(_completion(event))
    world.work_all()
    history = [Entry(0, offset, event) for offset, event in enumerate(world.events())]
    report = check(history, [(QUEUE, f"job-{number}") for number in range(5)])
    assert report.violations == []
    assert (report.succeeded, report.submissions_repeated, report.commands_refused) == (5, 1, 1)


def _completion(sent: e.AttemptDispatched) -> CompleteAttempt:
    which: dict[str, Any] = {name: getattr(sent, name) for name in ("queue", "job_id", "run", "attempt", "session")}
    return CompleteAttempt(**which, started_at=1, ended_at=2)


def test_nothing_at_all_passes_only_if_nothing_was_promised():
    assert check([]).passed
    assert judged([], [("q", "x")]).violations == [
        "q/x: expected the acknowledged job in the log, but found no trace of it"
    ]


# ---- faults that are planted among the events. Each changes the story, and says what must be found.

EventFault = tuple[Callable[[Story], object], str]


def _insert(batch: int, *events: e.Event) -> Callable[[Story], object]:
    return lambda story: story[batch].extend(events)


def _drop(batch: int, index: int) -> Callable[[Story], object]:
    return lambda story: story[batch].pop(index)


def _set(batch: int, index: int, **fields: Any) -> Callable[[Story], object]:
    def change(story: Story) -> None:
        story[batch][index] = msgspec.structs.replace(story[batch][index], **fields)

    return change


def _cut(batch: int) -> Callable[[Story], object]:
    def change(story: Story) -> None:
        del story[batch:]

    return change


def _timed(event: e.Event) -> e.Event:
    return by(e.Cause.TIMER, event)


EVENT_FAULTS: dict[str, EventFault] = {
    "a second success of a run": (
        _insert(5, dispatched(GOOD, 2), _timed(succeeded(GOOD, 2, 0))),
        "expected one success of run 1, but found another",
    ),
    "the same success twice": (
        _insert(1, _timed(succeeded(GOOD, 1, 0))),
        "expected one outcome of attempt 1, but found another",
    ),
    "a success of an attempt that was lost": (
        _insert(2, _timed(succeeded(LOST, 1, 0, "s2"))),
        "expected one outcome of attempt 1, but found another",
    ),
    "a late start of an attempt that was lost": (
        _insert(3, of(e.AttemptStarted, LOST, e.Cause.TIMER, attempt=1, session="s2", started_at=1)),
        "expected the newest attempt, 2, but found 1",
    ),
    "a success that nobody dispatched": (
        _drop(3, 1),
        "expected a dispatch of attempt 2 before, but found none",
    ),
    "a stop of an attempt that nobody dispatched": (
        _drop(5, 2),
        "expected a dispatch of attempt 1 before, but found none",
    ),
    "a success by another session": (
        _set(1, 0, session="s9"),
        "expected attempt 1 with session s1, but found s9",
    ),
    "an attempt number that stands still": (
        _set(3, 1, attempt=1),
        "expected attempt 2, but found 1",
    ),
    "an attempt number that jumps": (
        _set(3, 1, attempt=3),
        "expected attempt 2, but found 3",
    ),
    "a dispatch of a job that waits for nothing": (
        _insert(0, dispatched(GOOD, 2)),
        "expected what may happen to a job that is DISPATCHED, but found what may not, in AttemptDispatched",
    ),
    "a job that is born twice": (
        _insert(0, _timed(submitted(GOOD, 0))),
        "expected what may happen to a job that is DISPATCHED, but found what may not, in JobSubmitted",
    ),
    "an event of a job that was never submitted": (
        _insert(0, of(e.JobCancelled, "ghost", e.Cause.TIMER)),
        "expected what may happen to a job that is not submitted, but found what may not, in JobCancelled",
    ),
    "an event of a job that is forgotten": (
        _insert(11, of(e.SubmissionRepeated, AGAIN, e.Cause.TIMER, run=2)),
        "expected what may happen to a job that is forgotten, but found what may not, in SubmissionRepeated",
    ),
    "an event of another run": (
        _set(1, 0, run=2),
        "expected run 1, but found 2",
    ),
    "a rerun that skips a number": (
        _set(10, 0, run=3),
        "expected run 2, but found 3",
    ),
    "a job that never ends": (
        _drop(13, 0),
        "q/again: expected it to have ended, but found it DISPATCHED",
    ),
    "an acknowledged job that was lost": (
        _cut(8),
        "q/again: expected the acknowledged job in the log, but found no trace of it",
    ),
}


@pytest.mark.parametrize("fault", EVENT_FAULTS)
def test_a_fault_among_the_events_is_named(fault):
    plant, text = EVENT_FAULTS[fault]
    story = a_story()
    plant(story)
    report = judged(closed(story))
    assert not report.passed
    assert any(text in violation for violation in report.violations), report.violations


# ---- faults of the chain of batches: each changes one end, and is found there.

CHAIN_FAULTS: dict[str, tuple[int, dict[str, Any], str]] = {
    "a batch that is absent": (3, {"batch_no": 5}, "expected batch 4, but found 5"),
    "a batch that came twice": (3, {"batch_no": 3}, "expected batch 4, but found 3"),
    "a half of a batch": (0, {"events": 5}, "expected 5 events in batch 1, but found 4"),
    "a position that goes back": (5, {"next_command": 3}, "expected next_command of batch 6 never to go back from 5"),
    "a fenced owner that writes on": (6, {"owner_epoch": 1}, "expected owner_epoch of batch 7 never to go back from 2"),
    "two owners in one epoch": (2, {"owner": "b"}, "expected a as the owner of epoch 1, but found b"),
    "an outbox that goes back": (6, {"outbox_sent": 2}, "expected outbox_sent of batch 7 never to go back from 6"),
    "a time that goes back": (6, {"now": 1}, "expected now of batch 7 never to go back from 1006, but found 1"),
    "a command that nobody answered": (1, {"next_command": 5}, "expected an event for each command consumed, but"),
    "an answer to a command that was not consumed": (5, {"next_command": 6}, "only, but found some to 6"),
    "commands that nobody answered": (13, {"next_command": 40}, "found none for 15, 16, 17, 18, 19 and 20 more"),
}


@pytest.mark.parametrize("fault", CHAIN_FAULTS)
def test_a_fault_of_the_chain_is_named(fault):
    number, fields, text = CHAIN_FAULTS[fault]
    batches = closed(a_story())
    batches[number][-1] = msgspec.structs.replace(batches[number][-1], **fields)
    report = judged(batches)
    assert any(text in violation for violation in report.violations), report.violations


def test_a_batch_without_its_end_is_named():
    batches = closed(a_story())
    batches[-1].pop()
    assert judged(batches).violations == ["events[0]: expected every event in a closed batch, but the last are not"]


def test_a_violation_says_where():
    story = a_story()
    story[1][0] = msgspec.structs.replace(story[1][0], session="s9")
    [text] = judged(closed(story)).violations
    assert text == "events[0] at 5: q/good: expected attempt 1 with session s1, but found s9, in AttemptSucceeded"


def test_a_job_in_two_partitions_is_named():
    history = [Entry(0, 0, _timed(submitted(GOOD, 0))), Entry(1, 0, of(e.JobCancelled, GOOD, e.Cause.TIMER))]
    text = "expected all of its events in partition 0, but found one in 1"
    assert any(text in violation for violation in check(history).violations)


def test_a_name_that_is_only_mentioned_is_no_job():
    told = e.CommandForwarded(queue="q", job_id="elsewhere", partition=1, body=b"", cause_ref="0")
    assert judged(closed([[told]]), []).passed


def test_partitions_may_come_interleaved():
    records = [record for batch in closed(a_story()) for record in batch]
    history: list[Entry] = []
    for offset, event in enumerate(records):
        mirrored = msgspec.structs.replace(event, queue="r") if isinstance(event, e.Event) else event
        history += [Entry(0, offset, event), Entry(1, offset, mirrored)]
    assert check(history, NAMES).passed

"""The judge of histories passes a good one, and names each kind of fault that is planted in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import msgspec
import pytest

from ftjm.checker import Entry, Evidence, Kind, Report, check
from ftjm.core import events as e
from ftjm.core.commands import CompleteAttempt
from ftjm.core.model import FailureReason, JobSpec, StopReason
from tests.engine.world import QUEUE, World, offer

GOOD, LOST, CANCELLED, AGAIN, LATE = "good", "lost", "cancelled", "again", "late"
NAMES = [("q", job_id) for job_id in (GOOD, LOST, CANCELLED, AGAIN, LATE)]
Batch = list[e.Event]
Story = list[Batch]


UNTOLD = -1
"""A time that follows from the specification, once it is known when the job was submitted."""


def submitted(
    job_id: str, command: int, *, due_at: int = UNTOLD, deadline_at: int = UNTOLD, **fields: Any
) -> e.JobSubmitted:
    spec = JobSpec(**{"retention_ms": 864_000_000, **fields})
    times: dict[str, Any] = {"due_at": due_at, "deadline_at": deadline_at}
    return e.JobSubmitted(queue="q", job_id=job_id, run=1, spec=spec, cause_ref=str(command), **times)


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


LATE_ASKS: dict[str, Any] = {"priority": 10, "delay_ms": 2, "deadline_ms": 13}


def a_story() -> Story:
    """Five jobs: one succeeds, one loses its worker first, one is stopped, one is run again and then forgotten, and
    one waits until its deadline.

    The batch of index n is number n + 1, and its time is 1,001 + n.
    """
    timer, lapse, told = e.Cause.TIMER, e.Cause.LAPSE, e.Cause.COMMAND
    failed: dict[str, Any] = {"session": "s1", "started_at": 1, "ended_at": 2, "reason": FailureReason.STOPPED}
    stop: dict[str, Any] = {"attempt": 1, "reason": StopReason.CANCELLED}
    return [
        [submitted(GOOD, 0), submitted(LOST, 1), dispatched(GOOD, 1), dispatched(LOST, 1, "s2")],
        [succeeded(GOOD, 1, 2), submitted(LATE, 3, **LATE_ASKS)],
        [
            by(lapse, e.WorkerLost(session="s2")),
            of(e.AttemptLost, LOST, lapse, "s2", attempt=1, session="s2", reason="LAPSED", retry_at=1_003),
        ],
        [of(e.JobQueued, LATE, timer, "1004"), dispatched(LOST, 2)],
        [of(e.AttemptStarted, LOST, told, "4", attempt=2, session="s1", started_at=1)],
        [succeeded(LOST, 2, 5), submitted(CANCELLED, 6), dispatched(CANCELLED, 1)],
        [of(e.JobStopRequested, CANCELLED, told, "7", **stop)],
        [
            of(e.AttemptFailed, CANCELLED, told, "8", attempt=1, **failed),
            of(e.JobCancelled, CANCELLED, told, "8"),
        ],
        [submitted(AGAIN, 9, retention_ms=2), dispatched(AGAIN, 1)],
        [succeeded(AGAIN, 1, 10)],
        [of(e.JobRerun, AGAIN, told, "11", run=2, command_id="again"), dispatched(AGAIN, 2, run=2)],
        [succeeded(AGAIN, 2, 12, run=2)],
        [of(e.SubmissionRepeated, GOOD, told, "13")],
        [of(e.JobForgotten, AGAIN, timer, "1014", run=2), submitted(AGAIN, 14), dispatched(AGAIN, 1)],
        [succeeded(AGAIN, 1, 15), of(e.JobFailed, LATE, timer, "1015", reason="DEADLINE")],
    ]


def closed(story: Story) -> list[list[e.Event | e.BatchClosed]]:
    """The story with the end of each batch, as a healthy owner would have written it."""
    batches: list[list[e.Event | e.BatchClosed]] = []
    next_command = 0
    for number, batch in enumerate(story, 1):
        refs = [int(event.cause_ref) for event in batch if event.cause is e.Cause.COMMAND]
        next_command = max([next_command, *(ref + 1 for ref in refs)])
        for event in batch:
            event.at = 1_000 + number
            if isinstance(event, e.JobSubmitted):
                spec = event.spec
                times = {"due_at": spec.delay_ms, "deadline_at": spec.deadline_ms}
                for field, delay in times.items():
                    if getattr(event, field) == UNTOLD:
                        setattr(event, field, event.at + delay if delay else 0)
        end = e.BatchClosed(
            batch_no=number,
            now=1_000 + number,
            next_command=next_command,
            command_epoch=0,
            owner_epoch=1 + (number > 5),
            owner="a" if number <= 5 else "b",
            outbox_sent=number,
            events=len(batch),
            state_version=1,
            state_hash=b"",
        )
        batches.append([*batch, end])
    return batches


def entry(partition: int, offset: int, event: e.Event | e.BatchClosed) -> Entry:
    """A record that the log took at once, by a clock that is the owner's."""
    return Entry(partition, offset, event, event.now if isinstance(event, e.BatchClosed) else event.at)


def judged(
    batches: list[list[e.Event | e.BatchClosed]], acknowledged: Any = NAMES, evidence: Evidence | None = None
) -> Report:
    records = [record for batch in batches for record in batch]
    return check((entry(0, offset, event) for offset, event in enumerate(records)), acknowledged, evidence)


def test_a_good_history_passes_and_is_counted():
    report = judged(closed(a_story()))
    assert report.violations == []
    assert report.passed
    assert msgspec.structs.asdict(report) == {
        "jobs": 6,
        "succeeded": 5,
        "failed": 1,
        "cancelled": 1,
        "attempts": 7,
        "attempts_failed": 1,
        "attempts_lost": 1,
        "attempts_declined": 0,
        "submissions_repeated": 1,
        "commands_refused": 0,
        "batches": 15,
        "events": 29,
        "timers_judged": 0,
        "violations": [],
        "kinds": {},
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
    history = [entry(0, offset, event) for offset, event in enumerate(world.events())]
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

EventFault = tuple[Callable[[Story], object], Kind, str]


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


def _also(*plants: Callable[[Story], object]) -> Callable[[Story], object]:
    def change(story: Story) -> None:
        for plant in plants:
            plant(story)

    return change


LOSS: dict[str, Any] = {"attempt": 1, "session": "s1", "reason": "LAPSED"}
FAILURE: dict[str, Any] = {"attempt": 1, "session": "s1", "started_at": 1, "ended_at": 2, "reason": "EXIT_CODE"}
TIMER, LAPSE = e.Cause.TIMER, e.Cause.LAPSE

EVENT_FAULTS: dict[str, EventFault] = {
    "a second success of a run": (
        _insert(5, dispatched(GOOD, 2), _timed(succeeded(GOOD, 2, 0))),
        Kind.DOUBLED,
        "expected one success of run 1, but found another",
    ),
    "the same success twice": (
        _insert(1, _timed(succeeded(GOOD, 1, 0))),
        Kind.DOUBLED,
        "expected one outcome of attempt 1, but found another",
    ),
    "a success of an attempt that was lost": (
        _insert(2, _timed(succeeded(LOST, 1, 0, "s2"))),
        Kind.DOUBLED,
        "expected one outcome of attempt 1, but found another",
    ),
    "a job that is born twice": (
        _insert(0, _timed(submitted(GOOD, 0))),
        Kind.DOUBLED,
        "expected what may happen to a job that is DISPATCHED, but found what may not, in JobSubmitted",
    ),
    "a late start of an attempt that was lost": (
        _insert(3, of(e.AttemptStarted, LOST, TIMER, attempt=1, session="s2", started_at=1)),
        Kind.TRANSITION,
        "expected the newest attempt, 2, but found 1",
    ),
    "a success that nobody dispatched": (
        _drop(3, 1),
        Kind.UNDISPATCHED,
        "expected a dispatch of attempt 2 before, but found none",
    ),
    "a stop of an attempt that nobody dispatched": (
        _drop(5, 2),
        Kind.UNDISPATCHED,
        "expected a dispatch of attempt 1 before, but found none",
    ),
    "a success by another session": (
        _set(1, 0, session="s9"),
        Kind.UNDISPATCHED,
        "expected attempt 1 with session s1, but found s9",
    ),
    "an attempt number that stands still": (
        _set(3, 1, attempt=1),
        Kind.TRANSITION,
        "expected attempt 2, but found 1",
    ),
    "an attempt number that jumps": (
        _set(3, 1, attempt=3),
        Kind.TRANSITION,
        "expected attempt 2, but found 3",
    ),
    "a dispatch of a job that waits for nothing": (
        _insert(0, dispatched(GOOD, 2)),
        Kind.TRANSITION,
        "expected what may happen to a job that is DISPATCHED, but found what may not, in AttemptDispatched",
    ),
    "an event of a job that was never submitted": (
        _insert(0, of(e.JobCancelled, "ghost", TIMER)),
        Kind.TRANSITION,
        "expected what may happen to a job that is not submitted, but found what may not, in JobCancelled",
    ),
    "an event of a job that is forgotten": (
        lambda story: story[13].insert(1, of(e.SubmissionRepeated, AGAIN, TIMER, run=2)),
        Kind.TRANSITION,
        "expected what may happen to a job that is forgotten, but found what may not, in SubmissionRepeated",
    ),
    "an event of another run": (
        _set(1, 0, run=2),
        Kind.TRANSITION,
        "expected run 1, but found 2",
    ),
    "a rerun that skips a number": (
        _set(10, 0, run=3),
        Kind.TRANSITION,
        "expected run 2, but found 3",
    ),
    "a job that never ends": (
        _drop(14, 0),
        Kind.LOST,
        "q/again: expected it to have ended, but found it DISPATCHED",
    ),
    "an acknowledged job that was lost": (
        _cut(8),
        Kind.LOST,
        "q/again: expected the acknowledged job in the log, but found no trace of it",
    ),
    "a failure that leads to nothing": (
        _insert(14, _timed(submitted("x", 0)), dispatched("x", 1), of(e.AttemptFailed, "x", LAPSE, **FAILURE)),
        Kind.END,
        "q/x: expected its end to follow no further attempt, but found none",
    ),
    "a further attempt that the job may not have": (
        _insert(
            14,
            _timed(submitted("x", 0)),
            dispatched("x", 1),
            of(e.AttemptFailed, "x", LAPSE, **FAILURE, retry_at=1_020),
        ),
        Kind.END,
        "expected no further attempt (1 of 1 attempts failed), but found one",
    ),
    "a failed job that had attempts left": (
        _insert(
            14,
            _timed(submitted("x", 0, max_attempts=2)),
            dispatched("x", 1),
            of(e.AttemptFailed, "x", LAPSE, **FAILURE),
            of(e.JobFailed, "x", LAPSE, reason="EXIT_CODE"),
        ),
        Kind.END,
        "expected a further attempt (1 of 2 attempts failed), but found none",
    ),
    "a job whose worker was lost once too often, and that goes on": (
        _insert(
            14,
            _timed(submitted("x", 0, worker_losses_max=0)),
            dispatched("x", 1),
            of(e.AttemptLost, "x", LAPSE, **LOSS, retry_at=1_015),
        ),
        Kind.END,
        "expected no further attempt (1 of 0 losses, and then requeue), but found one",
    ),
    "a job that fails although nothing has happened to it": (
        _insert(14, _timed(submitted("x", 0)), of(e.JobFailed, "x", LAPSE, reason="EXIT_CODE")),
        Kind.END,
        "expected a last attempt before it failed, but found none (EXIT_CODE)",
    ),
    "a cancelled job that nobody wished to cancel": (
        _insert(14, _timed(submitted("x", 0)), of(e.JobCancelled, "x", LAPSE)),
        Kind.END,
        "expected somebody's wish to cancel it, but found the cause LAPSE",
    ),
    "a wish to cancel that ends in a failure": (
        _also(_drop(7, 1), _insert(7, of(e.JobFailed, CANCELLED, e.Cause.COMMAND, "8", reason="STOPPED"))),
        Kind.END,
        "expected JobCancelled to follow no further attempt, but found something else, in JobFailed",
    ),
    "a delay that is over at once": (
        _insert(14, _timed(submitted("x", 0, held=True)), of(e.JobReleased, "x", LAPSE), of(e.JobQueued, "x", LAPSE)),
        Kind.TRANSITION,
        "expected what may happen to a job that is READY, but found what may not, in JobQueued",
    ),
    "work for a session that was given up": (
        _set(3, 1, session="s2"),
        Kind.LIMIT,
        "expected no work for session s2, which was given up, but found some",
    ),
    "a job before its time": (
        _also(_set(1, 1, spec=JobSpec(**LATE_ASKS | {"delay_ms": 3})), _set(3, 0, cause_ref="1005")),
        Kind.TIMER,
        "expected nothing before 1005, but found it at 1004",
    ),
    "a timer that nobody set": (
        _set(3, 0, cause_ref="999"),
        Kind.TIMER,
        "expected a timer that the job has (for 1004), but found one for 999",
    ),
    "a retention that is not over": (
        _set(13, 0, cause_ref="1013"),
        Kind.TIMER,
        "expected a timer that the job has (for 1014), but found one for 1013",
    ),
    "a deadline of a job that has none": (
        _insert(14, _timed(submitted("x", 0)), of(e.JobFailed, "x", TIMER, "1015", reason="DEADLINE")),
        Kind.TIMER,
        "expected no timer, but found one for 1015",
    ),
    "a backoff that is longer than asked for": (
        _insert(
            14,
            _timed(submitted("x", 0, max_attempts=2, backoff_ms=10)),
            dispatched("x", 1),
            of(e.AttemptFailed, "x", LAPSE, **FAILURE, retry_at=1_100),
        ),
        Kind.TIMER,
        "expected a retry within 10 ms, but found it 85 ms later",
    ),
    "a younger job that is dispatched first": (
        lambda story: story[0].insert(2, story[0].pop()),
        Kind.ORDER,
        "expected q/good to be dispatched first (priority 50, place 1), but found this one (priority 50, place",
    ),
    "a job of lower priority that is dispatched first": (
        _also(_set(0, 1, spec=JobSpec(priority=51, retention_ms=1_000_000))),
        Kind.ORDER,
        "expected q/lost to be dispatched first (priority 51, place",
    ),
    "a forwarded command that did not arrive": (
        _insert(14, e.CommandForwarded(partition=3, body=b"", cause=TIMER)),
        Kind.LOST,
        "events[0]: expected 1 commands forwarded to 3 to arrive once, but found 0",
    ),
    "a forwarded command that came twice": (
        _insert(14, *(e.ForwardReceived(source=0, number=n, cause=TIMER) for n in (1, 1))),
        Kind.CHAIN,
        "expected message 2 of partition 0, but found 1",
    ),
}


@pytest.mark.parametrize("fault", EVENT_FAULTS)
def test_a_fault_among_the_events_is_named(fault):
    plant, kind, text = EVENT_FAULTS[fault]
    story = copy.deepcopy(a_story())
    plant(story)
    report = judged(closed(story))
    assert not report.passed
    assert report.kinds[kind], report.violations
    assert any(text in violation for violation in report.violations), report.violations


def test_a_timer_that_is_left_behind_is_named():
    story = a_story()
    late = story[3].pop(0), story[3].pop(0)
    story[4] = [*late, *story[4]]
    story[3] = [by(LAPSE, e.WorkerLost(session="s3"))]
    report = judged(closed(story))
    assert report.kinds == {Kind.TIMER: 1}
    assert "q/late: expected its timer for 1004 to fire by 1004, but found it left behind" in report.violations[0]


def test_an_event_of_another_time_than_its_batch_is_named():
    batches = closed(a_story())
    batches[1][0] = msgspec.structs.replace(batches[1][0], at=1_001)
    assert judged(batches).violations == ["events[0] at 7: expected events of the time 1002 in batch 2, but found 1001"]


def test_a_log_that_is_a_day_ahead_is_named():
    """Each batch agrees with the others: only the brokers' clock tells. Nothing excuses it."""
    day_ms = 86_400_000
    records = [record for batch in closed(a_story()) for record in batch]
    assert check((Entry(0, n, record, 1) for n, record in enumerate(records)), NAMES).passed, "a second is not far"
    history = (Entry(0, n, record, 1 - day_ms) for n, record in enumerate(records))
    report = check(history, NAMES, Evidence(pauses={0: [(-2 * day_ms, day_ms)]}))
    assert report.kinds == {Kind.TIMER: 15}
    assert "expected batch 1, which the log took at -86399999, to be at most 5000 ms ahead" in report.violations[0]


# ---- faults of the chain of batches: each changes one end, and is found there.

CHAIN_FAULTS: dict[str, tuple[int, dict[str, Any], str]] = {
    "a batch that is absent": (3, {"batch_no": 5}, "expected batch 4, but found 5"),
    "a batch that came twice": (3, {"batch_no": 3}, "expected batch 4, but found 3"),
    "a half of a batch": (0, {"events": 5}, "expected 5 events in batch 1, but found 4"),
    "a position that goes back": (5, {"next_command": 3}, "expected next_command of batch 6 never to go back from 5"),
    "a fenced owner that writes on": (6, {"owner_epoch": 1}, "expected owner_epoch of batch 7 never to go back from 2"),
    "two owners in one epoch": (2, {"owner": "b"}, "expected a as the owner of epoch 1, but found b"),
    "commands of a leader that was replaced": (
        6,
        {"command_epoch": -1},
        "expected command_epoch of batch 7 never to go",
    ),
    "an outbox that goes back": (6, {"outbox_sent": 2}, "expected outbox_sent of batch 7 never to go back from 6"),
    "a time that goes back": (6, {"now": 1}, "expected now of batch 7 never to go back from 1006, but found 1"),
    "a command that nobody answered": (1, {"next_command": 5}, "expected an event for each command consumed, but"),
    "an answer to a command that was not consumed": (5, {"next_command": 6}, "only, but found some to 6"),
    "commands that nobody answered": (14, {"next_command": 40}, "found none for 16, 17, 18, 19, 20 and 19 more"),
}


@pytest.mark.parametrize("fault", CHAIN_FAULTS)
def test_a_fault_of_the_chain_is_named(fault):
    number, fields, text = CHAIN_FAULTS[fault]
    batches = closed(a_story())
    batches[number][-1] = msgspec.structs.replace(batches[number][-1], **fields)
    report = judged(batches)
    assert any(text in violation for violation in report.violations), report.violations


@pytest.mark.parametrize(("epoch", "passed"), [(1, True), (0, False)])
def test_commands_may_lie_in_the_place_of_others_by_a_later_leader_alone(epoch: int, passed: bool):
    """As where the log of commands has lost the last three that were consumed by the sixth batch."""
    batches = closed(a_story())
    for event in chain.from_iterable(batches[6:]):
        if isinstance(event, e.BatchClosed):
            event.next_command -= 3
            event.command_epoch = epoch
        elif event.cause is e.Cause.COMMAND:
            event.cause_ref = str(int(event.cause_ref) - 3)
    assert judged(batches).passed is passed


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
    history = [entry(0, 0, _timed(submitted(GOOD, 0))), entry(1, 0, of(e.JobCancelled, GOOD, e.Cause.TIMER))]
    text = "expected all of its events in partition 0, but found one in 1"
    assert any(text in violation for violation in check(history).violations)


def test_a_name_that_is_only_mentioned_is_no_job():
    told = e.CommandRejected(queue="q", job_id="elsewhere", code="UNKNOWN_JOB", text="", cause_ref="0")
    assert judged(closed([[told]]), []).passed


def test_partitions_may_come_interleaved():
    records = [record for batch in closed(a_story()) for record in batch]
    history: list[Entry] = []
    for offset, event in enumerate(records):
        mirrored = msgspec.structs.replace(event, queue="r") if isinstance(event, e.Event) else event
        history += [entry(0, offset, event), entry(1, offset, mirrored)]
    assert check(history, NAMES).passed

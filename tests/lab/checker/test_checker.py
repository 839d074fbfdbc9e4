"""The checker passes a good history, and names each fault that is planted in it.

`a_story` is a good history of five jobs in one partition. Each entry of `FAULTS` changes it in one way, and names the
violation that the checker must report.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import msgspec
import pytest

from ftjm.core.records import events as e
from ftjm.core.records.commands import CompleteAttempt
from ftjm.core.state.model import FailureReason, JobSpec, StopReason
from ftjm.lab.checker import Evidence, LogEntry, Verdict, ViolationKind, check
from tests.engine.world import QUEUE, World, offer

GOOD, LOST, CANCELLED, AGAIN, LATE = "good", "lost", "cancelled", "again", "late"
NAMES = [("q", job_id) for job_id in (GOOD, LOST, CANCELLED, AGAIN, LATE)]
Batch = list[e.Event]
Story = list[Batch]


COMPUTED = -1
"""Stands for a time that is computed from the specification when the time of submission is known."""


def submitted(
    job_id: str, command: int, *, due_at: int = COMPUTED, deadline_at: int = COMPUTED, **fields: Any
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
    timer, lapse, command = e.Cause.TIMER, e.Cause.LAPSE, e.Cause.COMMAND
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
        [of(e.AttemptStarted, LOST, command, "4", attempt=2, session="s1", started_at=1)],
        [succeeded(LOST, 2, 5), submitted(CANCELLED, 6), dispatched(CANCELLED, 1)],
        [of(e.JobStopRequested, CANCELLED, command, "7", **stop)],
        [
            of(e.AttemptFailed, CANCELLED, command, "8", attempt=1, **failed),
            of(e.JobCancelled, CANCELLED, command, "8"),
        ],
        [submitted(AGAIN, 9, retention_ms=2), dispatched(AGAIN, 1)],
        [succeeded(AGAIN, 1, 10)],
        [of(e.JobRerun, AGAIN, command, "11", run=2, command_id="again"), dispatched(AGAIN, 2, run=2)],
        [succeeded(AGAIN, 2, 12, run=2)],
        [of(e.SubmissionRepeated, GOOD, command, "13")],
        [of(e.JobForgotten, AGAIN, timer, "1014", run=2), submitted(AGAIN, 14), dispatched(AGAIN, 1)],
        [succeeded(AGAIN, 1, 15), of(e.JobFailed, LATE, timer, "1015", reason="DEADLINE")],
    ]


def closed(story: Story) -> list[list[e.Event | e.BatchClosed]]:
    """Return the story with a `BatchClosed` at the end of each batch, as a healthy owner writes it."""
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
                    if getattr(event, field) == COMPUTED:
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


def entry(partition: int, offset: int, event: e.Event | e.BatchClosed) -> LogEntry:
    """Return a record that the log took at once, by a clock that agrees with the owner's."""
    return LogEntry(partition, offset, event, event.now if isinstance(event, e.BatchClosed) else event.at)


def judged(
    batches: list[list[e.Event | e.BatchClosed]], acknowledged: Any = NAMES, evidence: Evidence | None = None
) -> Verdict:
    records = [record for batch in batches for record in batch]
    return check((entry(0, offset, event) for offset, event in enumerate(records)), acknowledged, evidence)


def test_a_good_history_passes_and_is_counted():
    report = judged(closed(a_story()))
    assert report.violations == []
    assert report.passed
    assert msgspec.structs.asdict(report) == {
        "jobs": 6,
        "fired": 0,
        "succeeded": 5,
        "failed": 1,
        "cancelled": 1,
        "attempts": 7,
        "attempts_failed": 1,
        "attempts_lost": 1,
        "attempts_declined": 0,
        "attempts_stopped": 0,
        "submissions_repeated": 1,
        "commands_refused": 0,
        "batches": 15,
        "events": 29,
        "timers_judged": 0,
        "violations": [],
        "kinds": {},
    }


def test_a_history_that_the_engine_writes_passes():
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


def test_an_empty_history_passes_only_if_no_job_was_acknowledged():
    assert check([]).passed
    assert judged([], [("q", "x")]).violations == [
        "q/x: expected the acknowledged job in the log, but found no trace of it"
    ]


# ---- faults that are planted among the events. Each changes the story and names the expected violation.

EventFault = tuple[Callable[[Story], object], ViolationKind, str]


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
        ViolationKind.DOUBLED,
        "expected one success of run 1, but found another",
    ),
    "the same success twice": (
        _insert(1, _timed(succeeded(GOOD, 1, 0))),
        ViolationKind.DOUBLED,
        "expected one outcome of attempt 1, but found another",
    ),
    "a success of an attempt that was lost": (
        _insert(2, _timed(succeeded(LOST, 1, 0, "s2"))),
        ViolationKind.DOUBLED,
        "expected one outcome of attempt 1, but found another",
    ),
    "a job that is submitted twice": (
        _insert(0, _timed(submitted(GOOD, 0))),
        ViolationKind.DOUBLED,
        "expected an event that a job that is DISPATCHED may have, but found another, in JobSubmitted",
    ),
    "a late start of an attempt that was lost": (
        _insert(3, of(e.AttemptStarted, LOST, TIMER, attempt=1, session="s2", started_at=1)),
        ViolationKind.TRANSITION,
        "expected the newest attempt, 2, but found 1",
    ),
    "a success of an attempt that was never dispatched": (
        _drop(3, 1),
        ViolationKind.UNDISPATCHED,
        "expected a dispatch of attempt 2 before, but found none",
    ),
    "a stop of an attempt that was never dispatched": (
        _drop(5, 2),
        ViolationKind.UNDISPATCHED,
        "expected a dispatch of attempt 1 before, but found none",
    ),
    "a success by another session": (
        _set(1, 0, session="s9"),
        ViolationKind.UNDISPATCHED,
        "expected attempt 1 with session s1, but found s9",
    ),
    "an attempt number that stands still": (
        _set(3, 1, attempt=1),
        ViolationKind.TRANSITION,
        "expected attempt 2, but found 1",
    ),
    "an attempt number that jumps": (
        _set(3, 1, attempt=3),
        ViolationKind.TRANSITION,
        "expected attempt 2, but found 3",
    ),
    "a dispatch of a job that is not ready": (
        _insert(0, dispatched(GOOD, 2)),
        ViolationKind.TRANSITION,
        "expected an event that a job that is DISPATCHED may have, but found another, in AttemptDispatched",
    ),
    "an event of a job that was never submitted": (
        _insert(0, of(e.JobCancelled, "ghost", TIMER)),
        ViolationKind.TRANSITION,
        "expected an event that a job that is not submitted may have, but found another, in JobCancelled",
    ),
    "an event of a job that is forgotten": (
        lambda story: story[13].insert(1, of(e.SubmissionRepeated, AGAIN, TIMER, run=2)),
        ViolationKind.TRANSITION,
        "expected an event that a job that is forgotten may have, but found another, in SubmissionRepeated",
    ),
    "an event of another run": (
        _set(1, 0, run=2),
        ViolationKind.TRANSITION,
        "expected run 1, but found 2",
    ),
    "a rerun that skips a number": (
        _set(10, 0, run=3),
        ViolationKind.TRANSITION,
        "expected run 2, but found 3",
    ),
    "a job that never ends": (
        _drop(14, 0),
        ViolationKind.LOST,
        "q/again: expected it to have ended, but found it DISPATCHED",
    ),
    "an acknowledged job that was lost": (
        _cut(8),
        ViolationKind.LOST,
        "q/again: expected the acknowledged job in the log, but found no trace of it",
    ),
    "a failure without a retry or an end": (
        _insert(14, _timed(submitted("x", 0)), dispatched("x", 1), of(e.AttemptFailed, "x", LAPSE, **FAILURE)),
        ViolationKind.END,
        "q/x: expected its end to follow no further attempt, but found none",
    ),
    "a further attempt that the job does not allow": (
        _insert(
            14,
            _timed(submitted("x", 0)),
            dispatched("x", 1),
            of(e.AttemptFailed, "x", LAPSE, **FAILURE, retry_at=1_020),
        ),
        ViolationKind.END,
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
        ViolationKind.END,
        "expected a further attempt (1 of 2 attempts failed), but found none",
    ),
    "a job that is requeued after more losses than are allowed": (
        _insert(
            14,
            _timed(submitted("x", 0, worker_losses_max=0)),
            dispatched("x", 1),
            of(e.AttemptLost, "x", LAPSE, **LOSS, retry_at=1_015),
        ),
        ViolationKind.END,
        "expected no further attempt (1 of 0 losses, and then requeue), but found one",
    ),
    "a job that fails without an attempt": (
        _insert(14, _timed(submitted("x", 0)), of(e.JobFailed, "x", LAPSE, reason="EXIT_CODE")),
        ViolationKind.END,
        "expected a last attempt before it failed, but found none (EXIT_CODE)",
    ),
    "a cancelled job without a command to cancel it": (
        _insert(14, _timed(submitted("x", 0)), of(e.JobCancelled, "x", LAPSE)),
        ViolationKind.END,
        "expected a command to cancel it, but found the cause LAPSE",
    ),
    "a cancel that ends in a failure": (
        _also(_drop(7, 1), _insert(7, of(e.JobFailed, CANCELLED, e.Cause.COMMAND, "8", reason="STOPPED"))),
        ViolationKind.END,
        "expected JobCancelled to follow no further attempt, but found something else, in JobFailed",
    ),
    "a delay that is over at once": (
        _insert(14, _timed(submitted("x", 0, held=True)), of(e.JobReleased, "x", LAPSE), of(e.JobQueued, "x", LAPSE)),
        ViolationKind.TRANSITION,
        "expected an event that a job that is READY may have, but found another, in JobQueued",
    ),
    "a dispatch to a lost session": (
        _set(3, 1, session="s2"),
        ViolationKind.LIMIT,
        "expected no work for session s2, which is lost, but found some",
    ),
    "a job that is ready before its delay is over": (
        _also(_set(1, 1, spec=JobSpec(**LATE_ASKS | {"delay_ms": 3})), _set(3, 0, cause_ref="1005")),
        ViolationKind.TIMER,
        "expected nothing before 1005, but found it at 1004",
    ),
    "a timer that was never set": (
        _set(3, 0, cause_ref="999"),
        ViolationKind.TIMER,
        "expected a timer that the job has (for 1004), but found one for 999",
    ),
    "a job that is forgotten before its retention is over": (
        _set(13, 0, cause_ref="1013"),
        ViolationKind.TIMER,
        "expected a timer that the job has (for 1014), but found one for 1013",
    ),
    "a deadline of a job that has none": (
        _insert(14, _timed(submitted("x", 0)), of(e.JobFailed, "x", TIMER, "1015", reason="DEADLINE")),
        ViolationKind.TIMER,
        "expected no timer, but found one for 1015",
    ),
    "a backoff that is longer than the job allows": (
        _insert(
            14,
            _timed(submitted("x", 0, max_attempts=2, backoff_ms=10)),
            dispatched("x", 1),
            of(e.AttemptFailed, "x", LAPSE, **FAILURE, retry_at=1_100),
        ),
        ViolationKind.TIMER,
        "expected a retry within 10 ms, but found it 85 ms later",
    ),
    "a younger job that is dispatched first": (
        lambda story: story[0].insert(2, story[0].pop()),
        ViolationKind.ORDER,
        "expected q/good to be dispatched first (priority 50, eligible since 0, rank 1), but found this one",
    ),
    "a job of lower priority that is dispatched first": (
        _also(_set(0, 1, spec=JobSpec(priority=51, retention_ms=1_000_000))),
        ViolationKind.ORDER,
        "expected q/lost to be dispatched first (priority 51, eligible since 0, rank",
    ),
    "a forwarded command that did not arrive": (
        _insert(14, e.CommandForwarded(partition=3, body=b"", cause=TIMER)),
        ViolationKind.LOST,
        "events[0]: expected 1 commands sent to 3 to arrive once, but found 0",
    ),
    "a forwarded command that came twice": (
        _insert(14, *(e.ForwardReceived(source=0, number=n, cause=TIMER) for n in (1, 1))),
        ViolationKind.CHAIN,
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
    assert report.kinds == {ViolationKind.TIMER: 1}
    assert "q/late: expected its timer for 1004 to fire by 1004, but found it left behind" in report.violations[0]


def test_an_event_of_another_time_than_its_batch_is_named():
    batches = closed(a_story())
    batches[1][0] = msgspec.structs.replace(batches[1][0], at=1_001)
    assert judged(batches).violations == ["events[0] at 7: expected events of the time 1002 in batch 2, but found 1001"]


def test_a_log_that_is_a_day_ahead_is_named():
    """All batches agree with one another. Only the brokers' clock shows the error, and no pause excuses it."""
    day_ms = 86_400_000
    records = [record for batch in closed(a_story()) for record in batch]
    assert check((LogEntry(0, n, record, 1) for n, record in enumerate(records)), NAMES).passed, (
        "one second is within the tolerance"
    )
    history = (LogEntry(0, n, record, 1 - day_ms) for n, record in enumerate(records))
    report = check(history, NAMES, Evidence(pauses={0: [(-2 * day_ms, day_ms)]}))
    assert report.kinds == {ViolationKind.TIMER: 15}
    assert "expected batch 1, which the log took at -86399999, to be at most 5000 ms ahead" in report.violations[0]


# ---- faults of the chain of batches: each changes the end of one batch, and must be found there.

CHAIN_FAULTS: dict[str, tuple[int, dict[str, Any], str]] = {
    "a batch that is absent": (3, {"batch_no": 5}, "expected batch 4, but found 5"),
    "a batch that came twice": (3, {"batch_no": 3}, "expected batch 4, but found 3"),
    "half of a batch": (0, {"events": 5}, "expected 5 events in batch 1, but found 4"),
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
    "a command without an answer": (1, {"next_command": 5}, "expected an event for each command consumed, but"),
    "an answer to a command that was not consumed": (5, {"next_command": 6}, "only, but found some to 6"),
    "many commands without an answer": (14, {"next_command": 40}, "found none for 16, 17, 18, 19, 20 and 19 more"),
}


@pytest.mark.parametrize("fault", CHAIN_FAULTS)
def test_a_fault_of_the_chain_is_named(fault):
    number, fields, text = CHAIN_FAULTS[fault]
    batches = closed(a_story())
    batches[number][-1] = msgspec.structs.replace(batches[number][-1], **fields)
    report = judged(batches)
    assert any(text in violation for violation in report.violations), report.violations


@pytest.mark.parametrize(("epoch", "passed"), [(1, True), (0, False)])
def test_only_a_later_leader_may_put_commands_at_offsets_that_were_consumed(epoch: int, passed: bool):
    """The topic `commands` lost the last three commands that the sixth batch had consumed."""
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


def test_a_violation_names_its_place_in_the_log():
    story = a_story()
    story[1][0] = msgspec.structs.replace(story[1][0], session="s9")
    [text] = judged(closed(story)).violations
    assert text == "events[0] at 5: q/good: expected attempt 1 with session s1, but found s9, in AttemptSucceeded"


def test_a_job_in_two_partitions_is_named():
    history = [entry(0, 0, _timed(submitted(GOOD, 0))), entry(1, 0, of(e.JobCancelled, GOOD, e.Cause.TIMER))]
    text = "expected all of its events in partition 0, but found one in 1"
    assert any(text in violation for violation in check(history).violations)


def test_a_rejected_command_makes_no_job():
    rejected = e.CommandRejected(queue="q", job_id="elsewhere", code="UNKNOWN_JOB", text="", cause_ref="0")
    assert judged(closed([[rejected]]), []).passed


def test_records_of_partitions_may_be_interleaved():
    records = [record for batch in closed(a_story()) for record in batch]
    history: list[LogEntry] = []
    for offset, event in enumerate(records):
        mirrored = msgspec.structs.replace(event, queue="r") if isinstance(event, e.Event) else event
        history += [entry(0, offset, event), entry(1, offset, mirrored)]
    assert check(history, NAMES).passed

"""The checker with evidence beside the events: offers, commands, executions, and pauses of the cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.core.records.messages import SessionState, SlotOffer, WorkerHeartbeat
from ftjm.core.state.model import JobState
from ftjm.lab.checker import Evidence, Execution, Verdict, ViolationKind, WorkerOffers, check
from ftjm.lab.checker.intervals import uncovered
from ftjm.lab.checker.lazy_heap import ROOM, LazyHeap
from ftjm.lab.checker.partitioning import partition_of
from tests.lab.checker.test_answers import commands_of
from tests.lab.checker.test_checker import AGAIN, CANCELLED, GOOD, LATE, LOST, a_story, closed, entry, judged, submitted


def offers(slots: int = 2, offered: int = 2, number: int = 1, queue: str = "q", ahead: int = 0) -> WorkerOffers:
    found = WorkerOffers()
    for session in ("s1", "s2"):
        found.add(
            WorkerHeartbeat(
                session=session,
                worker="w",
                host="h",
                pid=1,
                state=SessionState.OPEN,
                lane=0,
                lease_ms=5_000,
                slots=slots,
                busy=0,
                queues=[queue],
                offers=[SlotOffer(partition=0, number=number, slots=offered, ahead=ahead)],
            )
        )
    return found


def ran(job_id: str, attempt: int, start: float, end: float, *, finished: bool = True, worker: str = "w") -> Execution:
    return Execution("q", job_id, attempt, [(start, end)], finished, worker)


EXECUTIONS = [
    ran(GOOD, 1, 0, 10),
    ran(LOST, 1, 0, 10, finished=False),
    ran(LOST, 2, 11, 20),
    ran(CANCELLED, 1, 12, 20, finished=False),
    ran(AGAIN, 1, 30, 31),
    ran(AGAIN, 2, 32, 33),
]
"""Executions of the good story."""


COMMANDS = commands_of(a_story())


def given(**evidence: Any) -> Verdict:
    """Judge the good story with this evidence."""
    return judged(closed(a_story()), evidence=Evidence(**evidence))


def test_good_evidence_passes():
    report = given(
        ends={("q", GOOD): frozenset({JobState.SUCCEEDED}), ("q", CANCELLED): frozenset({JobState.CANCELLED})},
        commands={0: COMMANDS},
        offers=offers(),
        executions=EXECUTIONS,
        slack_ms=10,
    )
    assert report.violations == []
    assert report.timers_judged == 3


def without(job_id: str, attempt: int) -> list[Execution]:
    return [each for each in EXECUTIONS if (each.job_id, each.attempt) != (job_id, attempt)]


MANY = next(number for number in range(2, 9) if partition_for("q", number))
FAULTS: dict[str, tuple[dict[str, Any], ViolationKind, str]] = {
    "a job that ends in another state than requested": (
        {"ends": {("q", CANCELLED): frozenset({JobState.SUCCEEDED, JobState.FAILED})}},
        ViolationKind.END,
        "q/cancelled: expected it to end FAILED or SUCCEEDED, but found it CANCELLED",
    ),
    "commands behind the last one that was consumed": (
        {"commands": {0: COMMANDS | dict.fromkeys((16, 17))}},
        ViolationKind.LOST,
        "events[0]: expected an answer to every command, but found none to 16, 17",
    ),
    "commands of a partition without events": (
        {"commands": {0: COMMANDS, 1: dict.fromkeys(range(2))}},
        ViolationKind.LOST,
        "events[1]: expected an answer to every command, but found none to 0, 1",
    ),
    "an answer to a command that does not exist": (
        {"commands": {0: {offset: asked for offset, asked in COMMANDS.items() if offset != 5}}},
        ViolationKind.ANSWER,
        "only, but found some to 5",
    ),
    "more attempts than were offered": (
        {"offers": offers(offered=0)},
        ViolationKind.LIMIT,
        "expected at most 0 attempts with session s1 by its offer 1, but found 1",
    ),
    "an attempt for a free slot where none is free": (
        {"offers": offers(offered=0, ahead=9)},
        ViolationKind.LIMIT,
        "expected attempts beyond the 0 slots of session s1, and no others, to go ahead",
    ),
    "a dispatch for an offer that was never made": (
        {"offers": offers(number=2)},
        ViolationKind.LIMIT,
        "expected that session s1 had made the offer 1, but found none",
    ),
    "more attempts at a time than there are slots": (
        {"offers": offers(slots=1), "executions": [*without(LOST, 2), ran(LOST, 2, 11, 20)]},
        ViolationKind.LIMIT,
        "expected at most 1 attempts at a time in session s1, but found 2",
    ),
    "an attempt that ran without a dispatch": (
        {"executions": [*EXECUTIONS, ran(GOOD, 2, 40, 41)]},
        ViolationKind.UNDISPATCHED,
        "q/good: expected a dispatch of attempt 2, which ran, but found none",
    ),
    "an attempt of a job that does not exist": (
        {"executions": [*EXECUTIONS, ran("ghost", 1, 40, 41)]},
        ViolationKind.UNDISPATCHED,
        "q/ghost: expected a dispatch of attempt 1, which ran, but found none",
    ),
    "an attempt that ran with another worker": (
        {"executions": [*without(GOOD, 1), ran(GOOD, 1, 0, 10, worker="v")]},
        ViolationKind.UNDISPATCHED,
        "q/good: expected attempt 1 to run with w, but found it with v",
    ),
    "a dispatch to a worker that does not serve the queue": (
        {"offers": offers(queue="r")},
        ViolationKind.UNDISPATCHED,
        "q/good: expected that session s1 served the queue q, but found that it does not",
    ),
    "a job in another partition than its key's": (
        {"partitions": MANY},
        ViolationKind.CHAIN,
        f"expected q/good in partition {partition_for('q', MANY)}, but found it in 0",
    ),
    "an attempt that ran twice": (
        {"executions": [*EXECUTIONS, ran(GOOD, 1, 40, 41)]},
        ViolationKind.DOUBLED,
        "q/good: expected attempt 1 to be started once, but found it 2 times",
    ),
    "a success that never ran": (
        {"executions": without(GOOD, 1)},
        ViolationKind.UNDISPATCHED,
        "expected attempt 1, which is recorded as a success, to have come to its end, but found no trace of it",
    ),
    "a success that was killed": (
        {"executions": [*without(GOOD, 1), ran(GOOD, 1, 0, 10, finished=False)]},
        ViolationKind.UNDISPATCHED,
        "to have come to its end, but found that it was killed",
    ),
    "two attempts at the same time": (
        {"executions": [*without(LOST, 2), ran(LOST, 2, 7.5, 20)]},
        ViolationKind.OVERLAPPED,
        "q/lost: expected attempts 1 and 2 one after the other, but found 2.5 ms of both",
    ),
    "two attempts at the same time, for longer than a woken host is allowed": (
        {"executions": [*without(LOST, 2), ran(LOST, 2, 7, 20)], "woken": {"w": [(6, 9)]}},
        ViolationKind.OVERLAPPED,
        "q/lost: expected attempts 1 and 2 one after the other, but found 1.0 ms of both",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    evidence, kind, text = FAULTS[fault]
    report = given(**evidence)
    assert report.kinds[kind], report.violations
    assert any(text in violation for violation in report.violations), report.violations


def test_an_old_attempt_may_run_on_for_a_moment_after_its_host_wakes():
    executions = [*without(LOST, 2), ran(LOST, 2, 7, 20)]
    assert given(executions=executions, woken={"w": [(6, 10)]}).passed
    assert not given(executions=executions, woken={"another": [(6, 10)]}).passed


def late_story(*, by_next_owner: bool, **evidence: Any) -> Verdict:
    """Judge a story whose delay, due at 1,004, ends at 1,900: by the same owner, or by the next one."""
    story = a_story()
    story[1][1] = submitted(LATE, 3, priority=10, delay_ms=2)
    batches = closed(story)
    for number, batch in enumerate(batches):
        if number >= 3:
            for index, event in enumerate(batch):
                field = "at" if index < len(batch) - 1 else "now"
                batch[index] = msgspec.structs.replace(event, **{field: 1_900 + number})
            owner = {"owner": "b", "owner_epoch": 2} if by_next_owner else {"owner": "a", "owner_epoch": 1}
            batch[-1] = msgspec.structs.replace(batch[-1], **owner)
    batches = batches[:6]
    last = batches[-1]
    batches[-1] = [last[0], msgspec.structs.replace(last[-1], events=1, next_command=6)]
    return judged(batches, [], Evidence(slack_ms=100, **evidence))


def test_a_late_timer_is_named():
    report = late_story(by_next_owner=False)
    assert report.kinds == {ViolationKind.TIMER: 1, ViolationKind.LOST: 1}, "the job has not ended"
    assert (
        "q/late: expected what was due at 1004 within 100 ms beyond all pauses, but found it 899 ms late"
        in report.violations[0]
    )


def test_a_timer_that_is_late_by_the_brokers_clock_is_named():
    """By the owner's clock, which is slow, the timer is in time."""
    records = [record for batch in closed(a_story())[:4] for record in batch]
    history = [entry(0, offset, record) for offset, record in enumerate(records)]
    history = [each._replace(time_ms=each.time_ms + 500 * (each.time_ms > 1_003)) for each in history]
    report = check(history, evidence=Evidence(slack_ms=100))
    assert report.kinds[ViolationKind.TIMER] == 1
    assert any("q/late: expected what was due at 1004 within 100 ms" in text for text in report.violations)


def test_a_pause_excuses_timers_of_its_partition():
    late = [(1_000.0, 1_850.0)]
    assert late_story(by_next_owner=False, pauses={0: late}).kinds == {ViolationKind.LOST: 1}
    assert late_story(by_next_owner=False, pauses={1: late}).kinds == {ViolationKind.LOST: 1, ViolationKind.TIMER: 1}
    judged = [late_story(by_next_owner=False, pauses={p: late}).timers_judged for p in (0, 1)]
    assert judged == [0, 1]


def test_the_time_between_two_owners_excuses_a_late_timer():
    assert late_story(by_next_owner=True).kinds == {ViolationKind.LOST: 1}


def test_a_command_that_is_forwarded_to_the_wrong_partition_is_named():
    story = a_story()
    sent_on = e.CommandForwarded(queue="q", job_id="x", partition=partition_for("q", 4) ^ 1, body=b"", cause_ref="16")
    report = judged(closed([*story, [sent_on]]), evidence=Evidence(partitions=4))
    assert f"expected q/x in partition {partition_for('q', 4)}, but found it in {partition_for('q', 4) ^ 1}" in str(
        report.violations
    )


@pytest.mark.parametrize("length", range(9))
def test_the_checker_and_the_product_choose_the_same_partition(length):
    for number in range(50):
        key = f"{number:03}" * 3
        assert partition_of(key[:length], 64) == partition_for(key[:length], 64)


def test_uncovered_time_is_outside_of_all_spans():
    assert uncovered(0, 10, []) == 10
    assert uncovered(0, 10, [(2, 4), (3, 5)]) == 7
    assert uncovered(0, 10, [(8, 20), (-5, 1)]) == 7
    assert uncovered(0, 10, [(0, 10)]) == 0
    assert uncovered(5, 5, [(6, 7)]) == 0


def test_a_lazy_heap_keeps_the_order_and_drops_stale_entries():
    fresh: set[str] = set()
    agenda: LazyHeap[str] = LazyHeap(lambda entry: entry in fresh)
    for number in range(10 * ROOM):
        fresh = {f"{number}", f"{number - 1}"}
        agenda.add(-number, f"{number}")
    assert len(agenda._heap) <= 2 * 2 + ROOM
    assert agenda.head() == f"{10 * ROOM - 1}"
    agenda.drop_head()
    assert agenda.head() == f"{10 * ROOM - 2}"
    fresh = set()
    assert agenda.head() is None

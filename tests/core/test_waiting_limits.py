"""Limits of waiting: when a job is looked at, and what follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.decide.processes import next_slice
from ftjm.core.queue_gates import GATES
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobState
from ftjm.core.state.processes import ProcessKind
from ftjm.core.state.queues import WaitingAction, WaitingLimit
from ftjm.core.waiting_limits import REASONS, acting_limit, next_look
from tests.core.story import NOW, POLICY, Story, command, declined, dispatched, given, like, submit, submitted
from tests.core.test_keys import FINAL
from tests.core.test_queue_limits import apply, delete

FAIL, HOLD, NOTIFY = WaitingAction.FAIL, WaitingAction.HOLD, WaitingAction.NOTIFY
SECOND = 1_000


def limit(reason: str, after_ms: int = SECOND, action: WaitingAction = NOTIFY) -> WaitingLimit:
    return WaitingLimit(reason, after_ms, action)


def story(*limits: WaitingLimit, **declared: Any) -> Story:
    """Job `a` is READY in a queue with these limits since `NOW`."""
    found = given(FINAL).when(apply(waiting_limits=list(limits), **declared), at=NOW)
    return found.evolve(submitted()).written()


def settle(found: Story) -> None:
    """Do all slices that give waiting jobs their times."""
    while found.state.process(ProcessKind.REORDER, "q") is not None:
        found.decided = next_slice(found.state, ProcessKind.REORDER, "q", 4, found.now, POLICY)
        found._record(found.decided, e.Cause.CONTINUATION, "REORDER/q", "")


def test_a_job_that_waits_for_the_reason_of_a_limit_is_told_of_each_time():
    found = story(limit("Resources")).has_timers(NOW + SECOND)
    stuck = like(e.JobStuck, reason="Resources", waited_ms=1_005, after_ms=SECOND, next_at=NOW + 2 * SECOND)
    found.when_due(NOW + 1_005).then(stuck).job_is(JobState.READY).has_timers(NOW + 2 * SECOND)
    found.when_due(NOW + 2_000).then(like(e.JobStuck, waited_ms=2_000))


def test_a_job_fails_or_is_held_where_its_limit_says_so():
    found = story(limit("", action=FAIL)).when_due(NOW + SECOND)
    found.then(like(e.JobFailed, reason="WAITING_LIMIT"))
    assert found.state.outcome("q/a").error == "it has waited 1000 ms, now for Resources, and its queue allows 1000 ms"
    found = story(limit("Resources", action=HOLD)).when_due(NOW + SECOND).then(like(e.JobHeld))
    assert found.job().reason.startswith("WAITING_LIMIT: it has waited 1000 ms")
    found.has_timers()
    found.when(command(c.ReleaseJob), at=NOW + 5_000).has_timers(NOW + 6_000)


def test_a_limit_does_not_act_while_the_job_waits_for_another_reason():
    found = story(limit("NoWorker"))
    found.when_due(NOW + SECOND).then(like(e.JobReviewed, reason="Resources", next_at=NOW + 2 * SECOND))
    nobody = msgspec.structs.replace(POLICY, served=frozenset({"other"}))
    found.when_due(NOW + 2 * SECOND, nobody).then(like(e.JobStuck, reason="NoWorker"))
    somebody = msgspec.structs.replace(POLICY, served=frozenset({"q"}))
    found.when_due(NOW + 3 * SECOND, somebody).then(like(e.JobReviewed, reason="Resources"))


def test_a_closed_gate_of_the_queue_is_the_reason():
    found = story(limit("QueuePaused"), concurrency=1)
    found.when(e_pause()).when_due(NOW + SECOND).then(like(e.JobStuck, reason="QueuePaused"))
    found = story(limit("QueueLimit"), concurrency=1).evolve(dispatched(), submitted(job_id="b")).written()
    found.when_due(NOW + SECOND).then(like(e.JobStuck, job_id="b", reason="QueueLimit"))


def e_pause() -> c.Command:
    return c.PauseQueue(queue="q")


def test_a_job_behind_others_waits_for_its_priority():
    found = story(limit("Priority")).evolve(submitted(job_id="b")).written()
    found.when_due(NOW + SECOND).then(like(e.JobReviewed, job_id="a"), like(e.JobStuck, job_id="b", reason="Priority"))


def test_a_job_that_waits_for_its_key_is_judged_by_that_and_begins_anew_when_it_has_it():
    found = given(FINAL).when(apply(waiting_limits=[limit("ConcurrencyLimit")]), at=NOW)
    found.evolve(submitted(concurrency_key="k")).when(submit("b", concurrency_key="k"), at=NOW + 10)
    found.when_due(NOW + 1_010)
    found.then(like(e.JobReviewed, job_id="a"), like(e.JobStuck, job_id="b", reason="ConcurrencyLimit"))
    found.when(command(c.CancelJob), at=NOW + 1_500).job_is_of("b", state=JobState.READY, look_at=NOW + 2_500)


def test_a_job_that_leaves_its_line_is_not_looked_at():
    found = story(limit("")).evolve(dispatched()).written().has_timers()
    found.evolve(declined(at=NOW + 5_000)).written().has_timers(NOW + 6_000)


def test_each_limit_has_its_own_times_and_a_late_look_leaves_none_out():
    found = story(limit("NoWorker", SECOND), limit("Resources", 3_500, FAIL))
    found.when_due(NOW + SECOND).then(like(e.JobReviewed, next_at=NOW + 2_000))
    found.when_due(NOW + 9_000).then(like(e.JobFailed, reason="WAITING_LIMIT"))
    found = story(limit("Resources", SECOND), limit("", 2_500))
    found.when_due(NOW + 2_000).then(like(e.JobStuck, after_ms=SECOND, next_at=NOW + 2_500))
    found.when_due(NOW + 2_500).then(like(e.JobStuck, after_ms=2_500, next_at=NOW + 3_000))


def test_jobs_that_wait_already_are_looked_at_when_limits_are_declared():
    found = given(FINAL, submitted(), *(submitted(job_id=f"w{n}", concurrency_key="k") for n in range(3))).has_timers()
    found.when(apply(waiting_limits=[limit("", 5_000)]), at=NOW + 7_000)
    settle(found)
    found.has_timers(*[NOW + 10_000] * 4)
    found.when(apply(waiting_limits=[limit("", 9_000)]), at=NOW + 7_000)
    settle(found)
    found.has_timers(*[NOW + 9_000] * 4).when(delete())
    settle(found)
    found.has_timers()


def test_a_look_that_is_due_when_limits_change_is_not_left_out():
    found = story(limit("Resources"))
    found.when(apply(waiting_limits=[limit("Resources", SECOND, FAIL)], ageing_ms=1), at=NOW + 1_500)
    settle(found)
    found.when_due(NOW + 1_500).then(like(e.JobFailed))
    found = story(limit("Resources")).when(delete(), at=NOW + 1_500)
    found.when_due(NOW + 1_500).then(like(e.JobReviewed, next_at=0)).has_timers()
    settle(found)
    found.has_timers()


@pytest.mark.parametrize("reason", ["Held", "StartTime", "Window?"])
def test_a_reason_that_no_owner_can_tell_is_refused(reason: str):
    refused = given(FINAL).when(apply(waiting_limits=[limit("Resources"), limit(reason)]))
    refused.refused("INVALID", "waiting_limits.reason: expected one of ConcurrencyLimit", repr(reason))


def test_every_gate_of_a_queue_is_a_reason():
    assert set(GATES) < set(REASONS)


@every(
    st.lists(st.integers(1_000, 20_000), min_size=1, max_size=3),
    st.lists(st.integers(0, 3_000), min_size=1, max_size=20),
)
def test_a_limit_whose_reason_holds_acts_at_each_multiple_of_its_time(afters: list[int], late: list[int]):
    """However late the looks are, each limit is judged at the first look behind each multiple of its time."""
    limits = [WaitingLimit(str(number), after) for number, after in enumerate(afters)]
    judged = [0] * len(limits)
    due_at = next_look(limits, 0, 0)
    for more in late:
        now = due_at + more
        for number, one in enumerate(limits):
            acts = acting_limit([one], 0, due_at, now, str(number)) is not None
            assert acts == (now // one.after_ms > judged[number])
            judged[number] = now // one.after_ms
        due_at = next_look(limits, 0, now)
        assert due_at > now

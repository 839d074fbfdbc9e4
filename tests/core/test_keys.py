"""Concurrency keys: who has a key, who gets it next, and what becomes of a job that finds it taken."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.decide import keys, processes
from ftjm.core.decide.bulk import next_slice as bulk_slice
from ftjm.core.decide.processes import next_slice
from ftjm.core.evolve import keys as evolve_keys
from ftjm.core.limits import AGEING_MS_MAX
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.state.model import STATE_VERSION, JobState, OnWorkerLoss, StopReason
from ftjm.core.state.processes import Bulk, BulkAction, JobFilter, ProcessKind
from ftjm.core.state.queues import OnConflict
from tests.core.story import (
    NOW,
    POLICY,
    REPLY_TO,
    Story,
    command,
    dispatched,
    given,
    like,
    report,
    submit,
    submitted,
)
from tests.core.test_queue_limits import apply, delete

FINAL = e.UpgradeFinalized(level=SHARING_LEVEL, state_version=STATE_VERSION)
READY, PENDING, HELD = JobState.READY, JobState.PENDING, JobState.HELD
RUNS, CANCELLED, SKIPPED = JobState.DISPATCHED, JobState.CANCELLED, JobState.SKIPPED


def job(job_id: str, at: int = NOW, **fields: Any) -> e.Event:
    return submitted(job_id=job_id, at=at, **{"concurrency_key": "k", **fields})


def runs(job_id: str, **fields: Any) -> e.Event:
    return dispatched(job_id=job_id, **fields)


def story(*jobs: str, **declared: Any) -> Story:
    """Jobs of one key, submitted one after the other; the first one runs."""
    found = given(FINAL)
    if declared:
        found.when(apply(**declared))
    for at, job_id in enumerate(jobs):
        found.when(submit(job_id, concurrency_key="k"), at=NOW + at)
        if not at:
            found.evolve(runs(job_id)).written()
    return found


def states(found: Story, job_ids: str) -> list[JobState]:
    return [found.job(job_id).state for job_id in job_ids]


def ends(job_id: str, **fields: Any) -> c.Command:
    return report(c.CompleteAttempt, job_id=job_id, **fields)


def settle(found: Story, rows: int = 1_000) -> list[e.Event]:
    """Do the next slice of the process that settles keys."""
    found.decided = next_slice(found.state, ProcessKind.KEYS, "q", rows, found.now, POLICY)
    found._record(found.decided, e.Cause.CONTINUATION, "KEYS/q", "")
    return found.decided


def settles_all(found: Story, rows: int = 1_000) -> int:
    """Do all slices. Returns how many there were."""
    slices = 0
    while found.state.process(ProcessKind.KEYS, "q") is not None:
        settle(found, rows)
        slices += 1
    return slices


# ---- who has the key


def test_one_job_of_a_key_is_ready_and_the_others_wait_in_the_order_of_their_places():
    found = story("a", "b", "c")
    assert states(found, "abc") == [RUNS, PENDING, PENDING]
    found.job_is_of("b", pending_at=NOW + 1, eligible_at=NOW + 1)
    found.when(ends("a")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="b", cause_ref="0"))
    assert states(found, "bc") == [READY, PENDING]
    found.job_is_of("b", pending_at=0, ready_at=found.now)


def test_other_keys_other_queues_and_jobs_without_a_key_do_not_wait():
    found = story("a").evolve(job("other", concurrency_key="k2"), job("none", concurrency_key=""))
    elsewhere = e.JobSubmitted(queue="q2", job_id="a", run=1, at=NOW, spec=job("x").spec)  # type: ignore[attr-defined]
    found.evolve(elsewhere).written()
    assert [found.job(one).state for one in ("other", "none")] == [READY, READY]
    assert found.state.job("q2/a").state is READY  # type: ignore[union-attr]


def test_a_higher_priority_gets_the_key_first():
    found = story("a", "b").when(submit("c", concurrency_key="k", priority=90))
    found.when(ends("a")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="c"))


def test_a_queue_may_give_its_keys_to_more_jobs():
    found = story("a", "b", "c", key_concurrency=2)
    assert states(found, "abc") == [RUNS, READY, PENDING]


@pytest.mark.parametrize(
    ("leaves", "following"),
    [
        (ends("a"), e.AttemptSucceeded),
        (report(c.FailAttempt), e.AttemptFailed),
        (command(c.CancelJob), e.JobStopRequested),
    ],
)
def test_whatever_ends_a_job_with_the_key_gives_it_to_the_next(leaves: c.Command, following: type[e.Event]):
    found = story("a", "b").when(leaves)
    found.when(report(c.FailAttempt)) if following is e.JobStopRequested else None
    assert found.decided[-1].job_id == "b"  # type: ignore[index]
    assert states(found, "b") == [READY]


def test_a_retry_gives_the_key_up_and_asks_for_it_again():
    found = given(FINAL, job("a", max_attempts=3, backoff_ms=50), runs("a")).when(submit("b", concurrency_key="k"))
    found.when(report(c.FailAttempt)).then(like(e.AttemptFailed), like(e.JobQueued, job_id="b"))
    retry_at = found.job("a").due_at
    found.when_due(retry_at)
    found.then(like(e.JobQueued), like(e.JobParked, job_id="a"), like(e.JobParked, job_id="b"), like(e.JobQueued))
    assert states(found, "ab") == [READY, PENDING], "a retry keeps its age, and b has not begun"


def test_a_job_that_comes_back_at_once_keeps_the_key_unless_a_better_one_waits():
    found = story("a", "b").when(report(c.DeclineAttempt)).then(like(e.AttemptDeclined))
    assert states(found, "ab") == [READY, PENDING]
    found = story("a").when(submit("c", concurrency_key="k", priority=90))
    found.when(report(c.DeclineAttempt)).then(like(e.AttemptDeclined), like(e.JobParked), like(e.JobQueued, job_id="c"))
    assert states(found, "ac") == [PENDING, READY]


def test_holding_gives_the_key_up_and_a_release_asks_for_it_again():
    found = given(FINAL, job("a")).when(submit("b", concurrency_key="k"))
    found.when(command(c.HoldJob)).then(like(e.JobHeld), like(e.JobQueued, job_id="b"))
    found.evolve(runs("b")).written()
    found.when(command(c.ReleaseJob)).then(like(e.JobReleased), like(e.JobParked))
    assert states(found, "ab") == [PENDING, RUNS]
    found.when(command(c.HoldJob)).then(like(e.JobHeld))
    found.when(command(c.CancelJob)).then(like(e.JobCancelled))
    found.when(command(c.RerunJob, command_id="again")).then(like(e.JobRerun), like(e.JobParked))
    assert states(found, "ab") == [PENDING, RUNS]


def test_a_job_that_waits_for_its_time_keeps_no_key():
    found = given(FINAL, job("a", due_at=NOW + 50)).when(submit("b", concurrency_key="k"))
    assert states(found, "ab") == [JobState.SCHEDULED, READY]
    found.evolve(runs("b")).written().when_due(NOW + 50).then(like(e.JobQueued, job_id="a"), like(e.JobParked))
    assert states(found, "ab") == [PENDING, RUNS]


def test_a_job_that_waits_for_its_key_can_be_cancelled_and_has_its_deadline():
    found = story("a", "b").when(command(c.CancelJob, job_id="b")).then(like(e.JobCancelled))
    found.when(submit("d", concurrency_key="k", deadline_ms=50))
    found.when_due(found.now + 50).then(like(e.JobFailed, job_id="d", reason="DEADLINE"))
    assert found.state.concurrency_key("q/k").parked == 0  # type: ignore[union-attr]


def test_all_attempts_that_are_lost_at_once_give_their_keys_to_as_many():
    found = given(FINAL).when(apply(key_concurrency=3))
    found.evolve(*(job(one, on_worker_loss=OnWorkerLoss.FAIL) for one in "abc"), *map(runs, "abc"))
    for one in "defg":
        found.when(submit(one, concurrency_key="k"))
    found.when_silent("s1", 10_000)
    assert states(found, "defg") == [READY, READY, READY, PENDING]


def test_a_key_that_no_job_wants_has_no_row():
    found = story("a", "b")
    assert found.state.concurrency_key("q/k") is not None
    found.when(command(c.CancelJob, job_id="b")).when(ends("a"))
    assert found.state.concurrency_key("q/k") is None


def test_the_owner_reads_on_where_it_was_and_finds_what_came_before():
    found = story("a", "b", "c", "d")
    found.when(ends("a"))
    found.evolve(runs("b")).when(submit("first", concurrency_key="k", priority=90))
    found.when(ends("b")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="first"))
    with patch.object(keys, "HEADS_MAX", 0):
        found.evolve(runs("first")).when(ends("first")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="c"))
    assert found.taken_over().evolve(runs("c")).written().job("d").state is PENDING


# ---- changing places


def test_a_job_that_comes_before_one_that_waits_for_a_slot_gets_its_key():
    found = given(FINAL, job("a", priority=10)).when(submit("b", concurrency_key="k", priority=90), reply=REPLY_TO)
    parked = [like(e.JobParked, job_id="b"), like(e.JobParked, job_id="a")]
    found.then(like(e.JobSubmitted, reply=REPLY_TO), *parked, like(e.JobQueued, job_id="b"))
    assert states(found, "ab") == [PENDING, READY]


def test_a_job_that_has_a_worker_keeps_its_key():
    found = story("a").when(submit("b", concurrency_key="k", priority=99)).then(like(e.JobSubmitted), like(e.JobParked))
    assert states(found, "ab") == [RUNS, PENDING]


def test_another_priority_may_give_the_key_to_another_job():
    found = given(FINAL, job("a"), job("b")).written()
    found.when(command(c.PrioritizeJob, job_id="b", priority=90))
    found.then(like(e.JobPrioritized), like(e.JobParked, job_id="a"), like(e.JobQueued, job_id="b"))
    found.when(command(c.PrioritizeJob, job_id="b", priority=10))
    found.then(like(e.JobPrioritized), like(e.JobParked, job_id="b"), like(e.JobQueued, job_id="a"))


def test_another_ageing_gives_those_that_wait_for_a_key_their_new_places():
    found = story("a", "old").when(submit("new", concurrency_key="k", priority=60), at=NOW + 3_600_000)
    found.when(submit("plain"))
    found.when(apply(ageing_ms=AGEING_MS_MAX))
    slices = 0
    while found.state.process(ProcessKind.REORDER, "q") is not None:
        found._record(next_slice(found.state, ProcessKind.REORDER, "q", 4, found.now, POLICY), e.Cause.TIMER, "", "")
        slices += 1
    assert slices > 2
    found.when(ends("a")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="new"))


def test_a_job_that_gets_its_key_before_it_is_reordered_may_give_it_away_again():
    found = given(FINAL, job("a")).when(submit("low", concurrency_key="k", priority=10))
    found.when(apply(ageing_ms=1)).when(submit("new", concurrency_key="k", priority=50))
    found.when(command(c.CancelJob))
    assert states(found, "a") == [CANCELLED]
    assert [found.job(one).state for one in ("low", "new")] == [PENDING, READY]


# ---- other limits


def test_a_higher_limit_gives_keys_to_those_that_wait_in_slices():
    found = story("a", *(f"w{n}" for n in range(9)))
    for n in range(3):
        found.when(submit(f"v{n}", concurrency_key=f"k{n}"))
        found.when(submit(f"u{n}", concurrency_key=f"k{n}"))
    found.when(apply(key_concurrency=8))
    assert settles_all(found, rows=6 * processes.ROWS_OF_A_KEY) > 1
    has = [f"w{n}" for n in range(9) if found.job(f"w{n}").state is READY]
    assert has == [f"w{n}" for n in range(7)]
    assert all(found.job(f"u{n}").state is READY for n in range(3))


def test_a_slice_looks_at_some_keys_only():
    found = given(FINAL)
    for n in range(4):
        found.when(submit(f"v{n}", concurrency_key=f"k{n}")).when(submit(f"u{n}", concurrency_key=f"k{n}"))
    found.when(apply(key_concurrency=2))
    with patch.object(keys, "LOOKED_MAX", 2):
        assert settles_all(found) == 2
    assert all(found.job(f"u{n}").state is READY for n in range(4))


def test_a_job_that_comes_while_keys_are_given_away_waits_behind_the_others():
    found = story("a", "b", "c").when(apply(key_concurrency=2))
    found.when(submit("d", concurrency_key="k"))
    found.then(like(e.JobSubmitted), like(e.JobParked, job_id="d"), like(e.JobQueued, job_id="b"))
    assert states(found, "abcd") == [RUNS, READY, PENDING, PENDING]


def test_a_lower_limit_stops_no_job_and_gives_no_key_until_fewer_have_it():
    found = given(FINAL).when(apply(key_concurrency=3))
    found.evolve(job("a"), job("b"), job("c"), *map(runs, "abc")).written()
    found.when(apply(key_concurrency=1)).when(submit("d", concurrency_key="k"))
    assert found.state.process(ProcessKind.KEYS, "q") is None
    found.when(submit("e", concurrency_key="k", priority=90)).then(like(e.JobSubmitted), like(e.JobParked))
    found.when(ends("a")).then(like(e.AttemptSucceeded))
    found.when(ends("b")).then(like(e.AttemptSucceeded))
    found.when(ends("c")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="e"))


def test_without_its_declaration_a_queue_gives_each_key_to_one_job():
    found = given(FINAL).when(apply(key_concurrency=2)).evolve(job("a"), job("b"), *map(runs, "ab")).written()
    found.when(submit("c", concurrency_key="k")).when(delete())
    found.when(ends("a")).then(like(e.AttemptSucceeded))
    found.when(ends("b")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="c"))


def test_a_queue_that_begins_to_let_jobs_wait_lets_them_change_places():
    found = given(FINAL).when(apply(on_conflict=OnConflict.DROP)).evolve(job("a", max_attempts=2), runs("a")).written()
    found.when(report(c.FailAttempt)).when(submit("b", concurrency_key="k")).when_due(found.job("a").due_at)
    assert states(found, "ab") == [PENDING, READY]
    found.when(delete())
    assert settles_all(found) == 1
    assert states(found, "ab") == [READY, PENDING]


# ---- on_conflict


def test_a_job_that_finds_its_key_taken_is_skipped_where_its_queue_says_so():
    found = story("a", on_conflict=OnConflict.DROP)
    found.when(submit("b", concurrency_key="k", awaits=True), reply=REPLY_TO)
    skipped = like(e.JobSkipped, job_id="b", reason="CONCURRENCY_LIMIT")
    found.then(like(e.JobSubmitted, reply=REPLY_TO), like(e.JobParked), skipped)
    found.job_is_of("b", state=SKIPPED, reason="CONCURRENCY_LIMIT", ended_at=found.now)
    assert [type(message).__name__ for message in found.messages] == ["ReplyMessage", "OutcomeMessage"]
    found.when(command(c.RerunJob, job_id="b", command_id="again"))
    found.then(like(e.JobRerun), like(e.JobParked), like(e.JobSkipped))


def test_a_retry_is_not_skipped():
    found = given(FINAL).when(apply(on_conflict=OnConflict.DROP))
    found.evolve(job("a", max_attempts=2), runs("a")).written().when(report(c.FailAttempt))
    found.when(submit("b", concurrency_key="k")).evolve(runs("b")).written()
    found.when_due(found.job("a").due_at).then(like(e.JobQueued, job_id="a"), like(e.JobParked))
    assert states(found, "ab") == [PENDING, RUNS]
    found.when(ends("b")).then(like(e.AttemptSucceeded), like(e.JobQueued, job_id="a"))


def test_a_job_whose_key_is_free_is_not_skipped():
    found = given(FINAL).when(apply(on_conflict=OnConflict.DROP)).when(submit("a", concurrency_key="k"))
    assert states(found, "a") == [READY]


def test_a_newer_job_replaces_one_that_runs_and_waits_for_its_end():
    found = story("a", on_conflict=OnConflict.REPLACE).when(submit("b", concurrency_key="k"))
    stop = like(
        e.JobStopRequested, job_id="a", reason=StopReason.CANCELLED, text="replaced at its concurrency key by q/b"
    )
    found.then(like(e.JobSubmitted), like(e.JobParked), stop)
    found.when(submit("c", concurrency_key="k"))
    replaced = like(e.JobCancelled, job_id="b", reason="replaced at its concurrency key by q/c")
    found.then(like(e.JobSubmitted), like(e.JobParked), replaced)
    found.when(report(c.FailAttempt)).then(
        like(e.AttemptFailed), like(e.JobCancelled, job_id="a"), like(e.JobQueued, job_id="c")
    )


def test_a_newer_job_replaces_one_that_waits_for_a_slot_at_once():
    found = given(FINAL).when(apply(on_conflict=OnConflict.REPLACE)).evolve(job("a")).written()
    found.when(submit("b", concurrency_key="k"))
    found.then(like(e.JobSubmitted), like(e.JobParked), like(e.JobCancelled, job_id="a"), like(e.JobQueued, job_id="b"))
    assert states(found, "ab") == [CANCELLED, READY]


def test_an_older_job_that_comes_later_is_the_one_that_is_cancelled():
    found = given(FINAL).when(apply(on_conflict=OnConflict.REPLACE)).evolve(job("a", held=True)).written()
    found.when(submit("b", concurrency_key="k")).evolve(runs("b")).written()
    found.when(command(c.ReleaseJob))
    found.then(
        like(e.JobReleased), like(e.JobParked), like(e.JobCancelled, reason="replaced at its concurrency key by q/b")
    )
    found.when(submit("d", concurrency_key="k", held=True)).when(submit("e", concurrency_key="k"))
    assert states(found, "abde") == [CANCELLED, RUNS, HELD, PENDING]
    found.when(command(c.ReleaseJob, job_id="d"))
    found.then(
        like(e.JobReleased),
        like(e.JobParked),
        like(e.JobCancelled, job_id="d", reason="replaced at its concurrency key by q/e"),
    )


def test_what_waits_when_a_queue_begins_to_replace_jobs_is_replaced_by_the_next_one():
    found = story("a", "b", "c").when(apply(on_conflict=OnConflict.REPLACE)).then(like(e.QueueApplied))
    found.when(submit("d", concurrency_key="k"))
    assert states(found, "abcd") == [RUNS, CANCELLED, CANCELLED, PENDING]
    assert found.job("a").stopping


def test_many_that_wait_are_replaced_in_slices_and_none_of_them_gets_the_key():
    found = story("a", *(f"w{n}" for n in range(20))).when(apply(on_conflict=OnConflict.REPLACE))
    with patch.object(evolve_keys, "REPLACED_AT_ONCE_MAX", 5), patch.object(keys, "FOLLOWING_MAX", 4):
        found.when(submit("new", concurrency_key="k"))
        found.when(ends("a"))
        assert found.job("new").state is PENDING
        assert settles_all(found, rows=6 * processes.ROWS_OF_A_KEY) > 1
    assert all(found.job(f"w{n}").state is CANCELLED for n in range(20))
    assert found.job("new").state is READY


def test_a_job_that_replaced_others_and_is_forgotten_replaces_none():
    found = story("a", on_conflict=OnConflict.REPLACE).when(submit("b", concurrency_key="k"))
    found.when(command(c.CancelJob, job_id="b")).when_due(NOW + 10**8)
    assert found.state.job("q/b") is None
    found.when(apply(on_conflict=OnConflict.WAIT)).when(submit("c", concurrency_key="k"))
    assert states(found, "ac") == [RUNS, PENDING]


def test_another_job_with_the_id_of_one_that_replaced_others_replaces_none():
    found = story("a", on_conflict=OnConflict.REPLACE).when(submit("b", concurrency_key="k"))
    found.when(command(c.CancelJob, job_id="b")).when_due(NOW + 10**8)
    found.when(apply(on_conflict=OnConflict.WAIT)).when(submit("x", concurrency_key="k"))
    found.when(apply(on_conflict=OnConflict.REPLACE)).when(submit("b"))  # without a key
    found.when(apply(on_conflict=OnConflict.REPLACE, key_concurrency=2))
    settles_all(found)
    assert states(found, "ax") == [RUNS, READY]


def test_a_queue_that_replaces_jobs_no_longer_replaces_none():
    found = story("a", on_conflict=OnConflict.WAIT).when(submit("x", concurrency_key="k"))
    found.when(apply(on_conflict=OnConflict.REPLACE)).when(submit("b", concurrency_key="k"))
    assert states(found, "axb") == [RUNS, CANCELLED, PENDING]
    found.when(apply(on_conflict=OnConflict.WAIT)).when(submit("y", concurrency_key="k", priority=90))
    assert states(found, "by") == [PENDING, PENDING]


# ---- in bulk


def test_a_bulk_request_gives_keys_free_and_they_are_given_away():
    found = given(FINAL).when(apply(key_concurrency=2)).evolve(*(job(one) for one in "abcd")).written()
    request = Bulk("q", BulkAction.HOLD, JobFilter(), "", 0, 99, "", NOW)
    with patch("ftjm.core.decide.bulk.CHANGED_MAX", 2):
        events = bulk_slice(found.state, "q/r", request, 1_000, NOW, POLICY)
    held = [event for event in events if isinstance(event, e.JobHeld)]
    found._record(list(held), e.Cause.CONTINUATION, "BULK/q/r", "")
    assert states(found, "abcd") == [HELD, HELD, READY, READY]


# ---- at any prefix


class Free:
    """A story of jobs of two keys to which anything may happen."""

    def __init__(self) -> None:
        self.story = given(FINAL)

    def act(self, what: int, which: int, more: int) -> None:
        found, job_id = self.story, f"j{which}"
        known = found.state.job(f"q/{job_id}")
        key = "k" if which % 3 else "k2"
        if what == 0 or known is None:
            found.when(submit(job_id, concurrency_key=key, priority=(10, 50, 90)[more % 3], max_attempts=2))
        elif what == 1 and known.state is READY:
            found.evolve(dispatched(job_id=job_id, attempt=known.attempt + 1, at=found.now)).written()
        elif what == 2:
            kind = (c.CompleteAttempt, c.FailAttempt, c.DeclineAttempt)[more % 3]
            found.when(report(kind, job_id=job_id, attempt=known.attempt))
        elif what == 3:
            kinds = (c.CancelJob, c.HoldJob, c.ReleaseJob, c.RerunJob)
            found.when(command(kinds[more % 4], job_id=job_id, command_id=f"c{found.now}"))
        elif what == 4:
            found.when_due(found.now + (1, 2_000)[more % 2])
        elif what == 5:
            found.when(command(c.PrioritizeJob, job_id=job_id, priority=more % 101))
        elif what == 6:
            conflict = list(OnConflict)[more % 3]
            found.when(apply(key_concurrency=1 + more % 3, on_conflict=conflict, ageing_ms=(1, 60_000)[more % 2]))
        else:
            for of, name in found.state.processes():
                found._record(next_slice(found.state, of, name, 30, found.now, POLICY), e.Cause.CONTINUATION, "", "")
        found.now += 1


@every(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 8), st.integers(0, 120)), max_size=60))
def test_no_key_is_ever_had_by_more_jobs_than_may_and_none_is_left_idle(acts: list[tuple[int, int, int]]):
    """`evolve` asserts the first at every event, and `check_state` the second behind every decision."""
    free = Free()
    for what, which, more in acts:
        free.act(what, which, more)


def test_the_limit_is_asserted_where_state_is_made():
    found = story("a", "b")
    with pytest.raises(AssertionError, match="is taken"):
        found.evolve(e.JobQueued(queue="q", job_id="b", run=1, at=NOW))


def test_a_limit_that_is_not_raised_begins_no_process():
    found = story("a", "b").when(apply(key_concurrency=1, concurrency=3))
    assert found.state.process(ProcessKind.KEYS, "q") is None
    found = given(FINAL).when(apply(key_concurrency=9))
    assert found.state.process(ProcessKind.KEYS, "q") is None

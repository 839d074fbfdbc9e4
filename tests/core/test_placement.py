"""Placement: which ready job gets which free slot."""

from __future__ import annotations

from typing import Any

from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.evolve.handlers import evolve
from ftjm.core.placement import Offer, match
from ftjm.core.records import events as e
from ftjm.core.records.levels import AHEAD_LEVEL
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.queues import QueueSpec
from tests.core.story import NOW, Story, dispatched, given, held, submitted, worker_lost


def offer(session: str = "s1", slots: int = 1, queues: tuple[str, ...] = ("q",), **fields: Any) -> Offer:
    return Offer(session, f"worker-{session}", 3, 5_000, queues, number=7, slots=slots, **fields)


def matched(story: Story, *offers: Offer, most: int = 100) -> list[tuple[str, str]]:
    return [(event.job_id, event.session) for event in match(story.state, offers, most, NOW).dispatches]


def test_without_ready_jobs_or_offers_nothing_is_matched():
    assert matched(given(), offer()) == []
    assert matched(given(submitted())) == []


def test_a_dispatch_has_all_fields_that_the_session_needs():
    story = given(submitted(), dispatched(session="s0"))
    story.evolve(submitted(job_id="b")).written()
    (event,) = match(story.state, [offer()], 1, NOW).dispatches
    assert (event.queue, event.job_id, event.run, event.attempt) == ("q", "b", 1, 1)
    assert (event.session, event.worker, event.lane, event.lease_ms, event.offer) == ("s1", "worker-s1", 3, 5_000, 7)


def test_higher_priority_goes_first_then_the_older_job():
    story = given(
        submitted(job_id="low", priority=1),
        submitted(job_id="old", priority=9),
        submitted(job_id="new", priority=9),
    )
    assert [job for job, _ in matched(story, offer(slots=9))] == ["old", "new", "low"]


def test_queues_that_share_workers_take_turns_and_priority_counts_within_each():
    other = [submitted(job_id=f"other-{number}") for number in (1, 2)]
    for event in other:
        event.queue = "other"
    jobs = [
        submitted(job_id="low", priority=1),
        *(submitted(job_id=f"high-{number}", priority=99) for number in (1, 2)),
    ]
    story = given(*jobs, *other)
    both = offer(slots=9, queues=("q", "other"))
    assert [job for job, _ in matched(story, both)] == ["high-1", "other-1", "high-2", "other-2", "low"]
    story.evolve(dispatched(job_id="high-1"), dispatched(job_id="high-2")).written()
    assert [job for job, _ in matched(story, both)] == ["other-1", "other-2", "low"], "those that have workers count"


def test_queues_have_slots_in_proportion_to_their_weights():
    jobs = []
    for queue, name in (("q", "q"), ("other", "o")):
        for number in range(9):
            jobs.append(submitted(job_id=f"{name}{number}"))
            jobs[-1].queue = queue
    heavy = e.QueueApplied(queue="other", revision=19, spec=QueueSpec(weight=3), labels={})
    story = given(*jobs, heavy)
    found = [job[0] for job, _ in matched(story, offer(slots=8, queues=("q", "other")))]
    assert (found.count("q"), found.count("o")) == (2, 6)
    found = [job[0] for job, _ in matched(story, offer(slots=16, queues=("q", "other")))]
    assert (found.count("q"), found.count("o")) == (7, 9), "what one leaves, the other takes"


def test_a_session_gets_jobs_of_its_queues_only():
    assert matched(given(submitted()), offer(queues=("other",))) == []


def test_no_more_jobs_are_dispatched_than_free_slots_were_offered():
    story = given(*(submitted(job_id=name) for name in "abc"), dispatched())
    assert matched(story, offer(slots=2)) == [("b", "s1")]
    assert matched(story, offer(slots=1)) == []
    assert matched(story, offer(slots=0)) == []
    assert matched(story, offer(slots=-5)) == []


def test_no_more_jobs_are_matched_than_requested():
    story = given(*(submitted(job_id=name) for name in "abc"))
    assert matched(story, offer(slots=9), most=2) == [("a", "s1"), ("b", "s1")]


def test_the_emptiest_worker_comes_first():
    story = given(*(submitted(job_id=name) for name in "abcd"))
    assert matched(story, offer("s1", slots=1), offer("s2", slots=3)) == [
        ("a", "s2"),
        ("b", "s2"),
        ("c", "s2"),
        ("d", "s1"),
    ]


def test_equally_free_workers_are_ordered_by_name():
    story = given(*(submitted(job_id=name) for name in "ab"))
    assert matched(story, offer("s1"), offer("s2")) == matched(story, offer("s2"), offer("s1"))


def test_a_queue_whose_workers_are_full_does_not_stop_another():
    other = submitted(job_id="x", priority=1)
    other.queue = "other"
    story = given(submitted(job_id="a"), submitted(job_id="b"), other)
    assert matched(story, offer("s1"), offer("s2", queues=("other",))) == [("a", "s1"), ("x", "s2")]


def test_a_session_that_is_over_gets_nothing():
    story = given(submitted(), submitted(job_id="b"), dispatched(), worker_lost())
    assert matched(story, offer(slots=9)) == []


def test_jobs_that_do_not_wait_for_a_slot_are_skipped():
    story = given(submitted(), held(), submitted(job_id="b", due_at=NOW + 5), submitted(job_id="c"))
    assert matched(story, offer(slots=9)) == [("c", "s1")]


def test_a_queue_whose_last_job_has_passed_its_deadline_starts_nothing():
    story = given(submitted(job_id="passed", deadline_at=NOW - 1))
    assert match(story.state, [offer()], 10, NOW).dispatches == []


def test_a_job_whose_deadline_has_passed_is_not_started_and_holds_up_no_other():
    story = given(
        submitted(job_id="passed", deadline_at=NOW - 1),
        submitted(job_id="just now", deadline_at=NOW),
        submitted(job_id="in time", deadline_at=NOW + 1),
        submitted(job_id="without"),
    )
    assert matched(story, offer(slots=1)) == [("in time", "s1")]
    assert matched(story, offer(slots=9)) == [("in time", "s1"), ("without", "s1")]


QUEUES = st.sampled_from([("q",), ("other",), ("q", "other")])


@every(
    st.lists(st.tuples(st.sampled_from(["q", "other"]), st.booleans()), max_size=12),
    st.dictionaries(
        st.sampled_from(["s1", "s2", "s3", "s4"]), st.tuples(st.integers(0, 3), st.integers(0, 3), QUEUES), max_size=4
    ),
)
def test_each_job_goes_to_the_emptiest_session_with_room(jobs, offers):
    story = Story()
    story.evolve(e.UpgradeFinalized(level=AHEAD_LEVEL, state_version=STATE_VERSION))
    for i, (queue, may_go_ahead) in enumerate(jobs):
        event = submitted(job_id=f"j{i:02}", continue_for_ms=0 if may_go_ahead else 1_000)
        event.queue = queue
        story.evolve(event)
    story.written()
    free = {session: slots for session, (slots, _, _) in offers.items()}
    least = {session: -ahead for session, (_, ahead, _) in offers.items()}
    lines = {name: [i for i, (queue, _) in enumerate(jobs) if queue == name] for name in ("q", "other")}
    live = dict.fromkeys(lines, 0)
    expected = []
    while waiting := [name for name in lines if lines[name]]:
        queue = min(waiting, key=lambda name: (live[name], lines[name][0]))
        i, may_go_ahead = lines[queue][0], jobs[lines[queue][0]][1]
        room = [name for name in offers if queue in offers[name][2] and free[name] > least[name]]
        best = max(room, key=lambda name: (free[name], name), default="")
        if not best or (free[best] <= 0 and not may_go_ahead):
            least |= {best: 0} if best else {}
            lines[queue].clear()
            continue
        free[best] -= 1
        live[queue] += 1
        del lines[queue][0]
        expected.append((f"j{i:02}", best))
    given_offers = [offer(name, slots, queues, ahead=ahead) for name, (slots, ahead, queues) in offers.items()]
    assert matched(story, *given_offers) == expected


@every(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["q", "other"])), max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from(["s1", "s2", "s3"]),
            st.integers(0, 3),
            QUEUES,
        ),
        max_size=3,
        unique_by=lambda it: it[0],
    ),
)
def test_every_match_is_possible_and_no_possible_match_is_left(jobs, offers):
    story = Story()
    for i, (priority, queue) in enumerate(jobs):
        event = submitted(job_id=f"j{i}", priority=priority)
        event.queue = queue
        story.evolve(event)
    given_offers = [offer(session, slots, queues) for session, slots, queues in offers]
    for event in match(story.state, given_offers, 100, NOW).dispatches:
        evolve(story.state, event)
    story.written()
    for one in given_offers:
        session = story.state.session(one.session)
        live = session.live if session else 0
        assert live <= max(0, one.slots)
        waiting = [job for queue in one.queues for job in story.state.ready(queue)]
        assert not waiting or live == one.slots, "a slot is free, and a job waits for it"

"""Which ready job goes to which free slot."""

from __future__ import annotations

from typing import Any

from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.evolve import evolve
from ftjm.core.matching import Offer, match
from tests.core.story import NOW, Story, dispatched, given, held, submitted, worker_lost


def offer(session: str = "s1", slots: int = 1, queues: tuple[str, ...] = ("q",), **fields: Any) -> Offer:
    return Offer(session, f"worker-{session}", 3, 5_000, queues, number=7, slots=slots, **fields)


def matched(story: Story, *offers: Offer, most: int = 100) -> list[tuple[str, str]]:
    return [(event.job_id, event.session) for event in match(story.state, offers, most)]


def test_nothing_ready_and_nothing_offered_match_nothing():
    assert matched(given(), offer()) == []
    assert matched(given(submitted())) == []


def test_a_dispatch_says_all_that_the_session_needs():
    story = given(submitted(), dispatched(session="s0"))
    story.evolve(submitted(job_id="b")).written()
    (event,) = match(story.state, [offer()], 1)
    assert (event.queue, event.job_id, event.run, event.attempt) == ("q", "b", 1, 1)
    assert (event.session, event.worker, event.lane, event.lease_ms, event.offer) == ("s1", "worker-s1", 3, 5_000, 7)


def test_higher_priority_goes_first_then_the_older_job():
    story = given(
        submitted(job_id="low", priority=1),
        submitted(job_id="old", priority=9),
        submitted(job_id="new", priority=9),
    )
    assert [job for job, _ in matched(story, offer(slots=9))] == ["old", "new", "low"]


def test_priority_and_age_count_over_all_queues_that_a_worker_serves():
    second = submitted(job_id="second", priority=9)
    second.queue = "other"
    story = given(submitted(job_id="third", priority=1), submitted(job_id="first", priority=9), second)
    assert [job for job, _ in matched(story, offer(slots=9, queues=("q", "other")))] == ["first", "second", "third"]


def test_a_session_gets_jobs_of_its_queues_only():
    assert matched(given(submitted()), offer(queues=("other",))) == []


def test_no_more_than_the_slots_that_are_offered_less_those_in_use():
    story = given(*(submitted(job_id=name) for name in "abc"), dispatched())
    assert matched(story, offer(slots=2)) == [("b", "s1")]
    assert matched(story, offer(slots=1)) == []
    assert matched(story, offer(slots=0)) == []
    assert matched(story, offer(slots=-5)) == []


def test_no_more_than_asked_for():
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


def test_workers_with_as_much_room_are_told_apart_by_name_whatever_the_order_of_offers():
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


def test_jobs_that_do_not_wait_for_a_slot_are_passed_over():
    story = given(submitted(), held(), submitted(job_id="b", due_at=NOW + 5), submitted(job_id="c"))
    assert matched(story, offer(slots=9)) == [("c", "s1")]


@every(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["q", "other"])), max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from(["s1", "s2", "s3"]),
            st.integers(0, 3),
            st.sampled_from([("q",), ("other",), ("q", "other")]),
        ),
        max_size=3,
        unique_by=lambda it: it[0],
    ),
)
def test_every_match_can_happen_and_none_is_left_that_could(jobs, offers):
    story = Story()
    for i, (priority, queue) in enumerate(jobs):
        event = submitted(job_id=f"j{i}", priority=priority)
        event.queue = queue
        story.evolve(event)
    given_offers = [offer(session, slots, queues) for session, slots, queues in offers]
    for event in list(match(story.state, given_offers, 100)):
        evolve(story.state, event)
    story.written()
    for one in given_offers:
        session = story.state.session(one.session)
        live = session.live if session else 0
        assert live <= max(0, one.slots)
        waiting = [job for queue in one.queues for job in story.state.ready(queue)]
        assert not waiting or live == one.slots, "a slot is free, and a job waits for it"

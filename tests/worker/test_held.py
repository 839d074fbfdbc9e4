"""What a session keeps of its attempts agrees with the attempts themselves, whatever happens to them."""

import select
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.core.records.messages import RunAttempt
from ftjm.core.state.model import JobSpec
from ftjm.worker.attempts.protocol import Checkpointed
from ftjm.worker.inbox import Inbox, LeaveRequested, ReportConfirmed
from ftjm.worker.rules.held import AtHand, HeldAttempt, HeldAttempts, key_of
from ftjm.worker.rules.slot_offers import Offers


def run_attempt(job: int, attempt: int, partition: int) -> RunAttempt:
    return RunAttempt(
        session="s",
        partition=partition,
        number=1,
        queue="q",
        job_id=f"j{job}",
        shard_key="",
        run=1,
        attempt=attempt,
        deadline_at=0,
        spec=JobSpec(),
    )


STEPS = st.lists(
    st.tuples(st.sampled_from(("hold", "start", "progress", "report", "release")), st.integers(0, 3), st.integers(1, 2))
)


@given(STEPS)
@settings(max_examples=200)
def test_counts_and_open_reports_follow_the_attempts(steps: list[tuple[str, int, int]]) -> None:
    attempts = HeldAttempts()
    for now, (step, job, attempt) in enumerate(steps):
        dispatch = run_attempt(job, attempt, job % 2)
        held = attempts.get(key_of(dispatch))
        if step == "hold" and held is None:
            attempts.hold(HeldAttempt(key=key_of(dispatch), dispatch=dispatch, ordered_boot=now))
        elif step == "start" and held is not None:
            attempts.started(held, 1, now)
        elif step == "progress" and held is not None:
            held.progress = Checkpointed(key=held.key)
            attempts.progressed[held.key] = held
        elif step == "report":
            due = [each for each in attempts.values() if each.started_boot and not each.start_reported]
            expected = {each.key for each in due if each.started_boot <= now - 2}
            found = list(attempts.take_started(now - 2))
            for each in found:
                each.start_reported = True
            assert {each.key for each in found} == expected
        elif step == "release":
            assert attempts.release(key_of(dispatch)) is held
        assert attempts.live == Counter(each.dispatch.partition for each in attempts.values())
        jobs = {each.dispatch.job_id for each in attempts.values()}
        assert all(attempts.has_job("q", f"j{number}") == (f"j{number}" in jobs) for number in range(4))
        open_starts = [each.started_boot for each in attempts.values() if each.started_boot and not each.start_reported]
        assert attempts.oldest_start() == min(open_starts, default=None)
        assert attempts.progressed.keys() <= attempts.keys()


@given(st.lists(st.tuples(st.sampled_from(("add", "take", "late", "first", "all")), st.integers(0, 5))))
def test_the_partitions_of_what_is_at_hand_are_those_of_its_attempts(steps: list[tuple[str, int]]) -> None:
    at_hand, kept = AtHand(), dict[str, tuple[int, RunAttempt]]()
    for now, (step, job) in enumerate(steps):
        dispatch = run_attempt(job, 1, job % 3)
        match step:
            case "add":
                at_hand.add(dispatch, now)
                kept[key_of(dispatch)] = now, dispatch
            case "take":
                at_hand.take(key_of(dispatch))
                kept.pop(key_of(dispatch), None)
            case "late":
                for late in at_hand.take_late(now - 3, now - 9, lambda partition: partition % 2):
                    del kept[key_of(late)]
            case "first":
                if first := at_hand.take_first(lambda _partition: True):
                    del kept[key_of(first)]
            case "all":
                at_hand.take_all()
                kept.clear()
        assert at_hand.partitions() == {each.partition for _, each in kept.values()}


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 3)), st.integers(0, 700), st.booleans())),
)
def test_offers_that_are_settled_would_not_have_moved(
    partitions: int, steps: list[tuple[int, set[int], int, bool]]
) -> None:
    remembering, plain = Offers(range(partitions)), Offers(range(partitions))
    now = 0
    for slots, demand, ms, answered in steps:
        now += ms
        plain._settled = None
        assert remembering.update(slots, {}, demand, now) == plain.update(slots, {}, demand, now)
        assert remembering.messages() == plain.messages()
        for offers in (remembering, plain) if answered else ():
            for offer in offers.messages():
                offers.taken(offer.partition, offer.number)


def readable(inbox: Inbox) -> bool:
    return bool(select.select([inbox], [], [], 0)[0])


def test_a_patient_item_wakes_only_a_taker_that_hurries() -> None:
    inbox = Inbox()
    assert not inbox.hurry(wanted=False)
    inbox.put_patiently(ReportConfirmed("s"))
    assert not readable(inbox)
    assert inbox.hurry(wanted=True)
    assert inbox.take(readable=False) == [ReportConfirmed("s")]
    assert not inbox.hurry(wanted=True)
    inbox.put_patiently(ReportConfirmed("s"))
    assert readable(inbox)
    assert inbox.take() == [ReportConfirmed("s")]
    assert not readable(inbox)
    inbox.close()


def test_items_that_are_put_together_are_taken_in_their_order() -> None:
    inbox = Inbox()
    inbox.put(LeaveRequested())
    inbox.put_all([ReportConfirmed("s", 3), LeaveRequested()])
    assert inbox.take() == [LeaveRequested(), ReportConfirmed("s", 3), LeaveRequested()]
    assert inbox.take() == []
    inbox.close()

"""Windows and cordons: which jobs start on which worker, and when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.placement import Offer, match
from ftjm.core.queue_gates import closed_gate, is_limited, opening, queue_rows
from ftjm.core.records import commands as c
from ftjm.core.state.resources import CordonSpec, KnownResource, ResourceSpec
from ftjm.core.state.windows import WindowEffect, WindowSpec
from ftjm.core.windows import QueueWindow, closing, is_named, may_start_on, windows_of
from tests.core.resource_story import CORDON, WINDOW, alone, apply
from tests.core.story import NOW, Story, submitted

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIDNIGHT = NOW - NOW % DAY_MS + DAY_MS
ALLOW, DENY = WindowEffect.ALLOW, WindowEffect.DENY


def window(hour: int, hours: int = 1, **fields: Any) -> WindowSpec:
    return WindowSpec(f"0 {hour} * * *", hours * HOUR_MS, **{"queues": ["q"], **fields})


def with_windows(**windows: WindowSpec) -> Story:
    """A job of queue `q` waits, and these windows are declared, at midnight."""
    story = alone().evolve(submitted()).written()
    for name, spec in windows.items():
        story.when(apply(name, spec), at=MIDNIGHT)
    return story


def starts(story: Story, hour: float, worker: str = "w9") -> bool:
    """Whether the job would start at this hour."""
    at = MIDNIGHT + int(hour * HOUR_MS)
    story.when_due(at)
    offer = Offer("s9", worker, 3, 5_000, ("q",), number=1, slots=1)
    return bool(match(story.state, [offer], 10, at).dispatches)


def test_a_queue_with_a_window_that_allows_starts_jobs_only_while_it_is_open():
    story = with_windows(night=window(8, 2))
    assert [starts(story, hour) for hour in (0, 7.99, 8, 9.99, 10, 32)] == [False, False, True, True, False, True]


def test_one_of_several_that_allow_is_enough_and_one_that_denies_wins():
    story = with_windows(first=window(1), second=window(3), never=window(3, effect=DENY))
    assert [starts(story, hour) for hour in (1, 2, 3, 4, 25)] == [True, False, False, False, True]


def test_a_queue_that_no_window_names_starts_jobs_at_any_time():
    assert starts(with_windows(other=window(8, queues=["other", "r*"])), 0)


def test_names_may_be_patterns():
    story = with_windows(night=window(8, queues=["x", "*q*"]))
    assert [starts(story, hour) for hour in (0, 8)] == [False, True]
    assert is_named(["batch-*"], "batch-1")
    assert is_named(["a*c"], "abbc")
    assert not is_named(["batch-*", "a.c"], "abc")
    assert not is_named([], "abc")


def test_a_window_with_workers_is_about_starts_on_these_alone():
    story = with_windows(big=window(8, workers=["big-*"]))
    assert starts(story, 0, "small-1")
    assert not starts(story, 0, "big-1")
    assert starts(story, 8, "big-1")


def test_of_two_workers_the_one_that_the_window_lets_takes_the_job():
    story = with_windows(big=window(8, workers=["big-*"]))
    offers = [Offer(f"s-{name}", name, 3, 5_000, ("q",), number=1, slots=9) for name in ("big-1", "small-1")]
    assert [event.worker for event in match(story.state, offers, 10, MIDNIGHT).dispatches] == ["small-1"]


def test_openings_that_touch_are_one():
    story = with_windows(always=window(0, 24))
    assert all(starts(story, hour) for hour in (0, 12, 24, 47, 48, 72))


def test_the_gate_says_when_it_opens():
    story = with_windows(night=window(8), later=window(9))
    rows = queue_rows(story.state, "q")
    assert closed_gate(rows, MIDNIGHT) == ("Window", (0, MIDNIGHT + 8 * HOUR_MS))
    assert is_limited(rows, MIDNIGHT)
    story = with_windows(one=window(0, 2, effect=DENY), two=window(0, 3, effect=DENY))
    assert opening(queue_rows(story.state, "q"), MIDNIGHT).more_at == MIDNIGHT + 3 * HOUR_MS


def test_a_window_that_never_turns_again_has_no_time():
    spec = window(8)
    assert closing([QueueWindow("n", spec, False, 0)]) == [QueueWindow("n", spec, False, 0)]
    story = alone().evolve(submitted())
    story.state.save_resource("Window/n", KnownResource(1, ResourceSpec(window=[spec])))
    assert opening(queue_rows(story.state, "q"), NOW) == (0, 0)


WINDOWS = st.lists(
    st.builds(
        QueueWindow,
        name=st.just("n"),
        spec=st.builds(
            WindowSpec,
            cron=st.just("0 8 * * *"),
            duration_ms=st.just(HOUR_MS),
            effect=st.sampled_from(WindowEffect),
            workers=st.sampled_from([[], ["a"], ["b"], ["a", "b"]]),
        ),
        open=st.booleans(),
        turns_at=st.just(1),
    ),
    max_size=5,
)


@every(WINDOWS)
def test_where_the_gate_is_closed_no_worker_may_start_a_job(windows):
    if closing(windows):
        assert not any(may_start_on(windows, worker) for worker in ("a", "b", "c"))


@every(WINDOWS)
def test_without_windows_for_some_workers_the_gate_and_the_workers_agree(windows):
    everywhere = [one for one in windows if not one.spec.workers]
    assert bool(closing(everywhere)) != may_start_on(everywhere, "a")


def test_a_cordoned_worker_gets_nothing_new_until_it_is_uncordoned():
    story = alone().evolve(submitted()).written()
    story.when(apply("w9", CordonSpec("broken fan")))
    assert not starts(story, 0)
    assert starts(story, 0, "w8")
    story.when(c.DeleteResource(kind=CORDON, name="w9"))
    assert starts(story, 0)


def test_a_deleted_window_closes_nothing():
    story = with_windows(night=window(8))
    story.when(c.DeleteResource(kind=WINDOW, name="night"))
    assert starts(story, 0)


@pytest.mark.parametrize("name", ["q", "other"])
def test_windows_are_found_by_queue(name):
    known = {"n": KnownResource(1, ResourceSpec(window=[window(8, queues=["q", "o*"])]), open=True, turns_at=7)}
    assert windows_of(known, name) == (QueueWindow("n", known["n"].spec.window[0], True, 7),)
    assert windows_of(known, "x") == ()

"""Random histories with schedules, and what a batch makes of their firings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import CatchUp, Overlap, ScheduleSpec
from ftjm.engine import batch as batch_module
from tests.engine.test_history import ADDRESSES, Histories
from tests.engine.world import QUEUE, Broken, World

NAMES = st.sampled_from(["n", "m"])
SPECS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"every_ms": st.sampled_from([1_000, 3_000])},
    optional={
        "overlap": st.sampled_from(Overlap),
        "catch_up": st.sampled_from(CatchUp),
        "starting_deadline_ms": st.sampled_from([1_000, 60_000]),
        "jitter_ms": st.sampled_from([0, 700]),
    },
)


def schedule(**fields: Any) -> ScheduleSpec:
    return ScheduleSpec(job=JobSpec(command=["true"]), **fields)


class ScheduleHistories(Histories):
    """Schedules are declared and fire, and workers run their jobs beside the others."""

    @rule(name=NAMES, spec=SPECS, to=ADDRESSES)
    def declare(self, name: str, spec: dict[str, Any], to: str) -> None:
        self.world.send(c.ApplySchedule(queue=QUEUE, name=name, spec=schedule(**spec)), to)

    @rule(
        kind=st.sampled_from([c.DeleteSchedule, c.PauseSchedule, c.ResumeSchedule, c.TriggerSchedule]),
        name=NAMES,
        wish=st.sampled_from(["w1", "w2", ""]),
        to=ADDRESSES,
    )
    def change(self, kind: type[c.ScheduleCommand], name: str, wish: str, to: str) -> None:
        self.world.send(kind(queue=QUEUE, name=name, command_id=wish), to)

    @rule(pick=st.integers(0, 9))
    def cancel_the_last_job(self, pick: int) -> None:
        rows = [row for name in "nm" if (row := self.world.owner.state.schedule(f"{QUEUE}/{name}")) is not None]
        if rows:
            self.world.send(c.CancelJob(queue=QUEUE, job_id=rows[pick % len(rows)].last_job or "none"))

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "world"):
            check_firings(self.world)


def check_firings(world: World) -> None:
    """Each instant fires once while its job is remembered, and each firing has its job in its batch."""
    born: Counter[str] = Counter()
    for event in world.events():
        if isinstance(event, e.JobSubmitted):
            born[event.job_id] += 1
        elif isinstance(event, e.ScheduleFired):
            assert born[event.job_id] == 1
        elif isinstance(event, e.JobForgotten):
            born[event.job_id] -= 1
        elif isinstance(event, e.BatchClosed):
            assert max(born.values(), default=0) <= 1


TestScheduleHistories = pytest.mark.timeout(600)(ScheduleHistories.TestCase)
TestScheduleHistories.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def fired(world: World) -> list[str]:
    return [event.job_id for event in world.events() if isinstance(event, e.ScheduleFired)]


def apply(world: World, name: str, **fields: Any) -> None:
    spec = schedule(**{"every_ms": 1_000, **fields})
    world.send(c.ApplySchedule(queue=QUEUE, name=name, spec=spec))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_outcome_is_unknown_neither_loses_nor_repeats_an_instant(when: str):
    world = World()
    apply(world, "n")
    world.work()
    world.now += 1_000
    world.writer.breaks = when
    with pytest.raises(Broken):
        world.work()
    world.owner.reopen()
    world.lead()
    world.work()
    assert len(fired(world)) == len(set(fired(world))) == 1
    world.check()


def test_firings_with_large_jobs_are_spread_over_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_module, "BATCH_BYTES_MAX", 5_000)
    world = World()
    for number in range(20):
        spec = ScheduleSpec(job=JobSpec(command=["true"], payload=b"x" * 900), every_ms=1_000)
        world.send(c.ApplySchedule(queue=QUEUE, name=f"n{number}", spec=spec))
    world.work_all()
    world.now += 1_000
    counts = []
    while list(world.owner.state.due(world.now)):
        before = len(fired(world))
        world.work()
        counts.append(len(fired(world)) - before)
    assert sum(counts) == 20
    assert max(counts) < 6
    world.check()


def test_a_standby_with_other_time_zones_folds_the_same_rows():
    """It never asks a calendar: what an owner was told is in the events."""
    world = World()
    apply(world, "n", time_zone="Europe/Berlin")
    world.work()
    world.now += 1_000
    world.work()
    follower = world.partition()
    follower.policy = type(world.policy)(partition=0, partitions=world.policy.partitions)
    assert world.catch_up(follower).state.schedule(f"{QUEUE}/n") == world.owner.state.schedule(f"{QUEUE}/n")
    world.check()

"""Plan and load are pure functions of the seed, and a plan always leaves a part of the cluster well."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from ftjm.core.state.model import JobState
from ftjm.lab.chaos.jobs import _KINDS, CROWD, PlannedJob, jobs
from ftjm.lab.chaos.plan import FAULT_RULES, KINDS, ClusterShape, PlannedFault, TargetRole, plan
from ftjm.specs.job import parse_job

SHAPES = [ClusterShape(), ClusterShape(brokers=3, schedulers=2, workers=4)]
SEEDS = range(50)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_is_one_plan(shape):
    assert plan(7, 60, shape) == plan(7, 60, shape)
    assert plan(7, 60, shape) != plan(8, 60, shape)


def test_the_plan_of_a_seed_does_not_change_unnoticed():
    """A seed in an old report must inject the same faults today."""
    first = [(f.at_seconds, str(f.kind), f.target, f.seconds) for f in plan(1, 60, ClusterShape())[:3]]
    assert first == [
        (2.0, "stop-scheduler", 0, 0.447),
        (2.657, "kill-guard", 1, 0.124),
        (3.149, "cut-api", 0, 0.806),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_of_fault_is_drawn(shape):
    found = {fault.kind for seed in SEEDS for fault in plan(seed, 60, shape)}
    assert found == set(KINDS)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plan_is_dense_and_ends_in_time(shape):
    for seed in SEEDS:
        faults = plan(seed, 60, shape)
        assert len(faults) > 40
        assert [fault.number for fault in faults] == list(range(1, len(faults) + 1))
        assert all(2 <= fault.at_seconds < 58 for fault in faults)
        assert [fault.at_seconds for fault in faults] == sorted(fault.at_seconds for fault in faults)


def overlap(one: PlannedFault, other: PlannedFault) -> bool:
    return other.at_seconds < one.at_seconds + one.seconds and one.at_seconds < other.at_seconds + other.seconds


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plan_leaves_a_scheduler_and_all_but_one_broker_well(shape):
    """At any time at most one fault for each target, at most one for all brokers, and a scheduler that is well."""
    for seed in SEEDS:
        faults = plan(seed, 60, shape)
        for one, other in combinations(faults, 2):
            if overlap(one, other):
                roles = FAULT_RULES[one.kind].role, FAULT_RULES[other.kind].role
                assert roles != (TargetRole.BROKER, TargetRole.BROKER)
                assert roles[0] is not roles[1] or one.target != other.target
        for fault in faults:
            broken = {
                each.target
                for each in faults
                if FAULT_RULES[each.kind].role is TargetRole.SCHEDULER
                and each.at_seconds <= fault.at_seconds < each.at_seconds + each.seconds
            }
            assert len(broken) < shape.schedulers


def kind(job: PlannedJob) -> str:
    return job.name[1].partition("-")[0]


def test_the_load_is_a_pure_function_of_the_seed():
    planned = jobs(3, 60, ["a", "b"], Path("/marks"))
    assert planned == jobs(3, 60, ["a", "b"], Path("/marks"))
    assert planned != jobs(4, 60, ["a", "b"], Path("/marks"))
    assert len({job.name for job in planned}) == len(planned) > 500
    assert {kind(job) for job in planned} == {*_KINDS, "crowd"}
    assert [job.at_seconds for job in planned] == sorted(job.at_seconds for job in planned)
    for job in planned:
        parse_job(job.fields)
        assert job.ends
        assert not job.by_http or (job.cancel_after < 0 and job.release_after < 0 and job.rerun_after < 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_the_jobs_of_a_kind_are_python_tasks(seed):
    planned = jobs(seed, 120, ["a", "b"], Path("/marks"))
    quick = [job.is_task for job in planned if kind(job) == "quick"]
    assert 0.3 < sum(quick) / len(quick) < 0.7
    only_tasks = {"crashing", "leaving", "resuming", "stubborn", "isolated", "crowd"}
    for job in planned:
        assert job.is_task or kind(job) not in only_tasks
        # A fault may kill the process of a task as often as it likes.
        assert not job.is_task or JobState.FAILED in job.ends or job.fields["max_attempts"] > 1_000


def test_a_crowd_is_submitted_at_once_to_one_queue():
    crowds: dict[float, list[PlannedJob]] = {}
    for job in jobs(3, 60, ["a", "b"], Path("/marks")):
        if kind(job) == "crowd":
            crowds.setdefault(job.at_seconds, []).append(job)
    assert len(crowds) > 3
    for crowd in crowds.values():
        assert CROWD[0] <= len(crowd) <= CROWD[1]
        assert len({job.name[0] for job in crowd}) == 1

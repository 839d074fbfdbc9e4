"""What breaks when is a pure function of the seed, and leaves something alive; so is the load."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from ftjm.chaos.load import _KINDS, jobs
from ftjm.chaos.plan import KINDS, WAYS, Fault, Role, Shape, plan
from ftjm.inputs import parse_job

SHAPES = [Shape(), Shape(brokers=3, schedulers=2, workers=4)]
SEEDS = range(50)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_is_one_plan(shape):
    assert plan(7, 60, shape) == plan(7, 60, shape)
    assert plan(7, 60, shape) != plan(8, 60, shape)


def test_what_a_plan_is_does_not_change_unnoticed():
    """A seed that somebody has noted must break the same things tomorrow."""
    first = [(f.at_seconds, str(f.kind), f.target, f.seconds) for f in plan(1, 60, Shape())[:3]]
    assert first == [
        (2.0, "stop-scheduler", 0, 0.447),
        (2.657, "kill-supervisor", 1, 0.933),
        (3.149, "cut-api", 0, 0.806),
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_comes(shape):
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


def last_together(one: Fault, other: Fault) -> bool:
    return other.at_seconds < one.at_seconds + one.seconds and one.at_seconds < other.at_seconds + other.seconds


@pytest.mark.parametrize("shape", SHAPES)
def test_something_is_left(shape):
    """One fault at a time for each target and for all brokers, and a scheduler that is well."""
    for seed in SEEDS:
        faults = plan(seed, 60, shape)
        for one, other in combinations(faults, 2):
            if last_together(one, other):
                roles = WAYS[one.kind].role, WAYS[other.kind].role
                assert roles != (Role.BROKER, Role.BROKER)
                assert roles[0] is not roles[1] or one.target != other.target
        for fault in faults:
            broken = {
                each.target
                for each in faults
                if WAYS[each.kind].role is Role.SCHEDULER
                and each.at_seconds <= fault.at_seconds < each.at_seconds + each.seconds
            }
            assert len(broken) < shape.schedulers


def test_the_load_is_a_pure_function_too():
    planned = jobs(3, 60, ["a", "b"], Path("/marks"))
    assert planned == jobs(3, 60, ["a", "b"], Path("/marks"))
    assert planned != jobs(4, 60, ["a", "b"], Path("/marks"))
    assert len({job.name for job in planned}) == len(planned) > 500
    assert {job.name[1].partition("-")[0] for job in planned} == set(_KINDS)
    for job in planned:
        parse_job(job.fields)
        assert job.ends
        assert not job.by_http or (job.cancel_after < 0 and job.release_after < 0 and job.rerun_after < 0)

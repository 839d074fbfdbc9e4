"""Names, identities, the partition of a key, and the delay before the next attempt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.core.backoff import LOSS_BACKOFF_MAX_MS, backoff_ms, loss_backoff_ms
from ftjm.core.decide.decision import Policy
from ftjm.core.decide.handlers import home_partition
from ftjm.core.identity import (
    CONTENT_VERSION,
    content_hash,
    murmur2,
    pack_content,
    parse_job,
    partition_for,
    unpack_content,
)
from ftjm.core.names import is_task_name
from ftjm.core.records import commands as c
from ftjm.core.state.model import JobSpec, OnWorkerLoss, job_key

JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
    b"": 275646681,
}
"""`org.apache.kafka.common.utils.UtilsTest.testMurmur2`, signed as there; the empty one is its value too."""


@pytest.mark.parametrize(("data", "signed"), JAVA_MURMUR2.items(), ids=str)
def test_murmur2_equals_the_java_clients(data, signed):
    assert murmur2(data) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("data", "signed"), JAVA_MURMUR2.items(), ids=str)
def test_a_key_gets_the_partition_that_the_java_client_gives_it(data, signed):
    assert partition_for(data.decode(), 12) == (signed & 0x7FFFFFFF) % 12


@given(st.text(), st.integers(1, 1_000))
def test_every_key_has_a_partition(key, partitions):
    assert 0 <= partition_for(key, partitions) < partitions


def test_a_shard_key_chooses_the_partition_in_place_of_the_queue():
    policy = Policy(partition=0, partitions=16)
    plain = c.CancelJob(queue="q", job_id="a")
    sharded = c.CancelJob(queue="q", job_id="a", shard_key="q#7")
    assert home_partition(plain, policy) == partition_for("q", 16)
    assert home_partition(sharded, policy) == partition_for("q#7", 16)


def test_a_job_is_named_by_queue_and_id_or_by_its_id_alone():
    assert parse_job("q/a") == ("q", "a")
    assert parse_job("a") == ("default", "a")
    assert job_key("q", "a") == "q/a"


@pytest.mark.parametrize(("text", "what"), [("", "job id"), ("/a", "queue"), ("q/", "job id"), ("q/a/b", "job id")])
def test_an_invalid_job_name_is_refused_and_its_wrong_part_named(text, what):
    with pytest.raises(ValueError, match=f"the {what} is"):
        parse_job(text)


@pytest.mark.parametrize(("text", "may"), [("a", True), ("größe.<locals>.f", True), ("", False), ("a\n", False)])
def test_names_of_tasks_are_printable(text, may):
    assert is_task_name(text) == may
    assert not is_task_name("a" * 301)


def test_content_differs_with_every_field():
    different = [
        JobSpec(),
        JobSpec(command=["x"]),
        JobSpec(payload=b"x"),
        JobSpec(environment={"x": ""}),
        JobSpec(labels={"x": ""}),
        JobSpec(priority=51),
        JobSpec(held=True),
        JobSpec(delay_ms=1),
        JobSpec(retention_ms=1),
    ]
    assert len({content_hash(spec) for spec in different}) == len(different)


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({}, "392ee112f46e00e72b5182a6bf0a6f0d"),
        ({"command": ["true"]}, "139b3d06679c200da5969ac8df8dc825"),
        (
            {
                "command": ["a", "b c"],
                "payload": b"[1]",
                "environment": {"Z": "1", "A": "2"},
                "labels": {"team": "x", "b": "y"},
                "priority": 7,
                "held": True,
                "delay_ms": 5,
                "backoff_factor": 1.5,
                "on_worker_loss": OnWorkerLoss.HOLD,
                "retention_ms": 99,
                "max_attempts": 3,
            },
            "cce7cce7574205819e635fb8167691b7",
        ),
        (
            {
                "executor": "python",
                "command": ["app.task"],
                "payload": b"{}",
                "start_at": 1_700_000_000_000,
                "timeout_ms": 1000,
                "deadline_ms": 9,
                "deadline_at": 8,
                "backoff_ms": 0,
                "backoff_max_ms": 1,
                "worker_losses_max": 0,
                "continue_for_ms": 60_000,
                "cancel_grace_ms": 1,
                "working_directory": "/srv",
            },
            "6700d6b8e213d04514ac46180aad5c3b",
        ),
    ],
)
def test_the_first_version_of_the_content_hash_is_frozen(fields, content):
    """The hashes were computed by the release that knew version 1 only."""
    assert content_hash(JobSpec(**fields), 1).hex() == content


@pytest.mark.parametrize(
    ("version", "explicit", "content"),
    [
        (2, [], "ca58d6c1578fbf5d323e4a3027f77223"),
        (3, [], "ca58d6c1578fbf5d323e4a3027f77223"),
        (3, ["max_attempts", "timeout_ms"], "c6c59b0e1fa1f989c123b732057699a8"),
    ],
)
def test_later_versions_of_the_content_hash_are_frozen(version, explicit, content):
    assert content_hash(JobSpec(command=["a"], priority=7), version, explicit).hex() == content


class LaterSpec(JobSpec, frozen=True, array_like=True):
    """`JobSpec` of a later release, with one more field."""

    nice: int = 0


@pytest.mark.parametrize("version", [1, CONTENT_VERSION])
def test_a_new_field_changes_no_hash_of_a_job_that_does_not_use_it(version):
    fields: dict[str, Any] = {"command": ["true"], "priority": 7, "environment": {"A": "1"}}
    assert content_hash(LaterSpec(**fields), version) == content_hash(JobSpec(**fields), version)
    assert content_hash(LaterSpec(**fields, nice=1), version) != content_hash(JobSpec(**fields), version)


def test_a_hash_of_an_unknown_version_is_empty():
    assert content_hash(JobSpec(), CONTENT_VERSION + 1) == b""


def test_the_content_hash_in_an_event_has_its_version():
    assert unpack_content(bytes(16)) == (1, bytes(16))
    assert unpack_content(pack_content(2, bytes(16))) == (2, bytes(16))
    assert pack_content(1, bytes(16)) == bytes(16)


@given(
    st.integers(0, 2**53),
    st.floats(1, 1_000),
    st.integers(0, 2**53),
    st.text(max_size=5),
    st.integers(1, 2**31),
    st.integers(1, 2**31),
)
def test_a_backoff_is_within_its_bounds_whatever_its_settings(base, factor, most, key, run, failures):
    spec = JobSpec(backoff_ms=base, backoff_factor=factor, backoff_max_ms=most)
    delay = backoff_ms(spec, key, run, failures)
    assert 0 <= delay <= most
    assert failures > 1 or delay <= base
    assert delay == backoff_ms(spec, key, run, failures)


def test_backoff_draws_differ_by_job_run_and_failure():
    spec = JobSpec(backoff_ms=2**40, backoff_factor=1.0, backoff_max_ms=2**40)
    draws = {backoff_ms(spec, key, run, failures) for key in ("a", "b") for run in (1, 2) for failures in (1, 2)}
    assert len(draws) == 8


def test_backoff_grows_on_average():
    spec = JobSpec(backoff_ms=1_000, backoff_factor=2.0, backoff_max_ms=10**9)
    means = [sum(backoff_ms(spec, f"q/{i}", 1, failures) for i in range(300)) / 300 for failures in (1, 2, 3)]
    for mean, expected in zip(means, (500, 1_000, 2_000), strict=True):
        assert 0.85 * expected < mean < 1.15 * expected


def test_there_is_no_delay_after_the_first_loss_and_then_it_doubles():
    assert [loss_backoff_ms(losses) for losses in range(5)] == [0, 0, 1_000, 2_000, 4_000]
    assert loss_backoff_ms(10**9) == LOSS_BACKOFF_MAX_MS

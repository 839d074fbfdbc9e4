"""Names, identities, where a key lives, and when an attempt comes again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.core import commands as c
from ftjm.core.decide import Policy, home
from ftjm.core.identity import content_hash, murmur2, parse_job, partition_for
from ftjm.core.model import JobSpec, job_key
from ftjm.core.names import is_task_name
from ftjm.core.retry import LOSS_BACKOFF_MAX_MS, backoff_ms, loss_backoff_ms

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
def test_murmur2_is_that_of_the_java_client(data, signed):
    assert murmur2(data) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("data", "signed"), JAVA_MURMUR2.items(), ids=str)
def test_a_key_lives_where_the_java_client_puts_it(data, signed):
    assert partition_for(data.decode(), 12) == (signed & 0x7FFFFFFF) % 12


@given(st.text(), st.integers(1, 1_000))
def test_every_key_lives_somewhere(key, partitions):
    assert 0 <= partition_for(key, partitions) < partitions


def test_a_shard_key_decides_where_it_is_given():
    policy = Policy(partition=0, partitions=16)
    plain = c.CancelJob(queue="q", job_id="a")
    sharded = c.CancelJob(queue="q", job_id="a", shard_key="q#7")
    assert home(plain, policy) == partition_for("q", 16)
    assert home(sharded, policy) == partition_for("q#7", 16)


def test_a_job_is_named_by_queue_and_id_or_by_its_id_alone():
    assert parse_job("q/a") == ("q", "a")
    assert parse_job("a") == ("default", "a")
    assert job_key("q", "a") == "q/a"


@pytest.mark.parametrize(("text", "what"), [("", "job id"), ("/a", "queue"), ("q/", "job id"), ("q/a/b", "job id")])
def test_what_names_no_job_is_refused_and_says_which_part(text, what):
    with pytest.raises(ValueError, match=f"the {what} is"):
        parse_job(text)


@pytest.mark.parametrize(("text", "may"), [("a", True), ("größe.<locals>.f", True), ("", False), ("a\n", False)])
def test_names_of_tasks_can_be_shown(text, may):
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


def test_the_first_loss_is_nobodys_fault_and_then_the_delay_doubles():
    assert [loss_backoff_ms(losses) for losses in range(5)] == [0, 0, 1_000, 2_000, 4_000]
    assert loss_backoff_ms(10**9) == LOSS_BACKOFF_MAX_MS

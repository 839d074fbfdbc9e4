"""Who stands by for a partition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ftjm.engine.standbys import EVERYWHERE_MAX, REPLICAS, ranked, stands_by

NAMES = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=12)
PARTITION = st.integers(0, 4095)


@given(PARTITION, NAMES, st.data())
def test_one_that_leaves_moves_only_its_own(partition, names, data):
    gone = data.draw(st.sampled_from(sorted(names)))
    assert [name for name in ranked(partition, names) if name != gone] == ranked(partition, names - {gone})


@given(PARTITION, NAMES, st.integers(0, 5), st.data())
def test_as_many_stand_by_as_are_wanted_and_the_owner_is_none_of_them(partition, names, replicas, data):
    owner = data.draw(st.sampled_from([*sorted(names), ""]))
    standbys = {name for name in names if stands_by(partition, name, names, owner, replicas)}
    assert len(standbys) == min(replicas, len(names - {owner}))
    assert owner not in standbys


@given(PARTITION, NAMES, st.data())
def test_by_default_few_hold_everything_and_many_share(partition, names, data):
    owner = data.draw(st.sampled_from(sorted(names)))
    standbys = {name for name in names if stands_by(partition, name, names, owner, None)}
    expected = len(names) - 1 if len(names) <= EVERYWHERE_MAX else REPLICAS
    assert len(standbys) == expected


def test_work_is_spread():
    names = [f"s{n}" for n in range(5)]
    firsts = [ranked(partition, names)[0] for partition in range(1_000)]
    assert all(150 < firsts.count(name) < 250 for name in names)

"""Whatever is lost between the home and the other partitions: in the end, all know what the home knows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.core.evolve.resources import TELL_AGAIN_MS_MAX
from ftjm.core.records import commands as c
from ftjm.core.state.resources import CordonSpec
from tests.core.resource_story import CORDON, Partitions, apply, work_through

COUNT = 3
NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), NAMES, st.integers(0, 5)),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.sampled_from(["deliver", "lose", "slice"])),
        st.tuples(st.just("wait"), st.sampled_from([1_000, 5_000, 60_000])),
        st.tuples(st.sampled_from(["remember", "lose tail"]), st.integers(0, COUNT - 1)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=100)
@given(STEPS)
def test_in_the_end_all_partitions_know_what_the_home_knows(steps: list[tuple[object, ...]]) -> None:
    cluster = Partitions(COUNT)
    now = cluster.at_home.now
    kept = {number: cluster.remember(number) for number in range(COUNT)}
    for step in steps:
        match step:
            case ("apply", str(name), int(reason)):
                cluster.when(apply(name, CordonSpec(str(reason))), at=now)
            case ("delete", str(name)):
                cluster.when(c.DeleteResource(kind=CORDON, name=name), at=now)
            case ("deliver",):
                cluster.deliver()
            case ("lose",):
                cluster.deliver(lose=True)
            case ("slice",):
                work_through(cluster)
            case ("wait", int(length)):
                now += length
                cluster.when_due(now)
            case ("remember", int(number)):
                kept[number] = cluster.remember(number)
            case ("lose tail", int(number)):
                cluster.lose_tail(number, kept[number])
                kept[number] = cluster.remember(number)
    # A log whose tail is lost is noticed with the next message: numbers are given out twice, or have a gap.
    for _ in range(6):
        cluster.when(apply("last", CordonSpec(str(now))), at=now)
        cluster.deliver()
        work_through(cluster)
        now += TELL_AGAIN_MS_MAX
        cluster.when_due(now)
        cluster.deliver()
        work_through(cluster)
    cluster.deliver()
    home = cluster.at_home.state
    wanted = {name: row.spec for name, row in home.cordons().items()}
    for story in cluster.stories:
        assert {name: row.spec for name, row in story.state.cordons().items()} == wanted
        assert not any(story.state.peer(other).ask_at for other in range(COUNT))
    for name in wanted:
        adoption = home.adoption(f"Cordon/{name}")
        assert adoption is not None
        assert adoption.lagging == []

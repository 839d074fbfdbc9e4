"""What schedulers know of each other, and which one takes over the partitions of a dead one."""

from __future__ import annotations

from collections.abc import Mapping

from ftjm.core.records.messages import PartitionReport, SchedulerHeartbeat
from ftjm.scheduler.heirs import inherited
from ftjm.scheduler.peers import DEAD_SECONDS, SILENT_SECONDS, Peers, lifelines


def heartbeat(name: str, roles: str, *, pid: int = 1, epoch: int = 1, **fields: object) -> SchedulerHeartbeat:
    """A heartbeat. `roles` has one letter for each partition: o(wner), s(tandby), t(aking over), c(old)."""
    full = {"o": "owner", "s": "standby", "t": "taking-over", "c": "cold"}
    return SchedulerHeartbeat(
        instance=f"{name}@host:{pid}",
        host="host",
        pid=pid,
        port=1,
        partitions=[
            PartitionReport(
                partition=p,
                role=full[role],
                owner_epoch=epoch,
                applied_offset=0,
                next_command=0,
                demand=[],
                taken=[],
            )
            for p, role in enumerate(roles)
        ],
        **fields,  # type: ignore[arg-type]
    )


def among(*heartbeats: SchedulerHeartbeat) -> dict[str, Peers]:
    """What each instance knows once it has received all heartbeats, by name."""
    known = {beat.instance.partition("@")[0]: Peers(beat.instance) for beat in heartbeats}
    for peers in known.values():
        for beat in heartbeats:
            peers.receive(beat, 0.0)
    return known


def fell(
    peers: Peers, now: float, last: Mapping[int, tuple[str, int]], orphaned: Mapping[int, int] | None = None
) -> dict[int, int]:
    """The partitions that fall to this instance, with their epochs."""
    return {
        one.partition: one.epoch for one in inherited(peers._me, peers.present(now), peers.dead(), last, orphaned or {})
    }


def test_each_partition_of_a_dead_one_falls_to_exactly_one_with_a_warm_store():
    known = among(heartbeat("a", "oooott"), heartbeat("b", "ssssss"), heartbeat("c", "sscccc"))
    for peers in known.values():
        peers.mark_dead("a@host:1", 1.0)
    b, c = (fell(known[name], 1.0, {}) for name in "bc")
    assert {*b, *c} == set(range(6))
    assert not b.keys() & c.keys()
    assert c.keys() <= {0, 1}
    assert set(b.values()) | set(c.values()) == {1}


def test_an_active_heir_comes_before_a_passive_one():
    known = among(heartbeat("a", "oooo"), heartbeat("b", "ssss"), heartbeat("p", "ssss", passive=True))
    for peers in known.values():
        peers.mark_dead("a@host:1", 1.0)
    assert set(fell(known["b"], 1.0, {})) == set(range(4))
    assert fell(known["p"], 1.0, {}) == {}
    known["p"].mark_dead("b@host:1", 1.1)
    assert set(fell(known["p"], 1.1, {})) == set(range(4))


def test_what_another_has_taken_since_is_left_to_it():
    known = among(heartbeat("a", "oo"), heartbeat("b", "ss"))
    known["b"].mark_dead("a@host:1", 1.0)
    known["b"].receive(heartbeat("c", "oc", epoch=2), 1.0)
    assert set(fell(known["b"], 1.0, {})) == {1}


def test_a_late_heartbeat_does_not_revive_the_dead_but_a_new_process_is_another():
    (peers,) = among(heartbeat("a", "s")).values()
    peers.receive(heartbeat("b", "o"), 0.0)
    peers.mark_dead("b@host:1", 1.0)
    peers.receive(heartbeat("b", "o"), 1.0)
    assert set(peers.others(1.0)) == set()
    peers.receive(heartbeat("b", "o", pid=2), 1.0)
    assert set(peers.others(1.0)) == {"b@host:2"}


def test_one_that_was_wrongly_taken_for_dead_is_heard_again_in_the_end():
    (peers,) = among(heartbeat("a", "s")).values()
    peers.receive(heartbeat("b", "o"), 0.0)
    peers.mark_dead("b@host:1", 1.0)
    peers.receive(heartbeat("b", "s"), DEAD_SECONDS)
    assert not peers.has_warm(0, DEAD_SECONDS)
    peers.receive(heartbeat("b", "s"), DEAD_SECONDS + 2)
    assert peers.has_warm(0, DEAD_SECONDS + 2)


def test_one_that_leaves_or_falls_silent_is_not_there():
    (peers,) = among(heartbeat("a", "s")).values()
    peers.receive(heartbeat("b", "o"), 0.0)
    peers.receive(heartbeat("p", "s", passive=True), 0.0)
    assert peers.has_active(0.0)
    peers.receive(heartbeat("b", "o", leaving=True), 0.5)
    assert not peers.has_active(0.5)
    assert set(peers.others(0.5)) == {"p@host:1"}
    assert not peers.others(SILENT_SECONDS)


def test_who_does_not_hear_itself_knows_nothing_of_what_to_follow():
    peers = Peers("a@host:1")
    assert peers.followed(4, None, 0.0) is None
    peers.receive(heartbeat("a", "cccc"), 0.0)
    assert peers.followed(4, None, 0.0) == {0, 1, 2, 3}
    assert peers.followed(4, 0, 0.0) == set()


def test_a_passive_one_follows_everything_however_few_standbys_are_wanted():
    known = among(heartbeat("a", "oooo"), heartbeat("b", "ssss"), heartbeat("p", "cccc", passive=True))
    assert known["p"].followed(4, 0, 0.0) == {0, 1, 2, 3}


def test_a_loopback_lifeline_is_of_its_own_host_only():
    near = heartbeat("near", "s", lifeline="127.0.0.1:5")
    far = heartbeat("far", "s", lifeline="127.0.0.1:6")
    far.host = "elsewhere"
    wide = heartbeat("wide", "s", lifeline="0.0.0.0:7")
    wide.host = "elsewhere"
    old = heartbeat("old", "s")
    peers = {beat.instance: beat for beat in (near, far, wide, old)}
    assert lifelines(peers, "host") == {"near@host:1": ("127.0.0.1", 5), "wide@host:1": ("elsewhere", 7)}


def test_one_that_died_before_it_told_is_known_by_its_batch():
    known = among(heartbeat("a", "so"), heartbeat("b", "os"), heartbeat("c", "ss"))
    for peers in known.values():
        peers.mark_dead("a@host:1", 1.0)
    last = {0: ("a@host:1", 2), 1: ("a@host:1", 5)}
    heirs = {name: fell(known[name], 1.0, last) for name in "bc"}
    assert heirs["b"] | heirs["c"] == {0: 2, 1: 5}, "the batch is newer than what b told of itself"
    assert not heirs["b"].keys() & heirs["c"].keys()
    assert fell(known["b"], 1.0, {0: ("a@host:1", 0)}).keys() <= {1}, "b owns it since"


def test_what_was_fenced_by_one_that_died_before_it_wrote_falls_back_to_whom_it_fenced():
    known = among(heartbeat("a", "oo"), heartbeat("b", "ss"))
    assert fell(known["a"], 1.0, {}, {1: 1}) == {}, "nobody has died"
    known["a"].mark_dead("b@host:1", 1.0)
    assert fell(known["a"], 1.0, {}, {1: 1}) == {1: 1}
    assert fell(known["a"], 1.0, {}, {1: 0}) == {}, "it has been led again since"
    known["a"].receive(heartbeat("c", "ct"), 1.0)
    assert fell(known["a"], 1.0, {}, {1: 1}) == {}, "a living one is about to lead it"


def test_a_new_life_of_the_same_name_and_number_is_not_its_dead_one():
    """In a container every process has the same name and the same number."""
    known = among(heartbeat("a", "ss", lifeline="127.0.0.1:1"), heartbeat("b", "oo", lifeline="127.0.0.1:2"))
    known["a"].mark_dead("b@host:1", 1.0)
    known["a"].receive(heartbeat("b", "oo", lifeline="127.0.0.1:3"), 1.0)
    assert set(known["a"].others(1.0)) == {"b@host:1"}
    assert fell(known["a"], 1.0, {0: ("b@host:1", 1)}) == {}


def test_passive_ones_take_no_standby_s_place():
    known = among(heartbeat("a", "oooo"), heartbeat("b", "cccc"), heartbeat("p", "ssss", passive=True))
    assert known["b"].followed(4, 1, 0.0) == {0, 1, 2, 3}


def test_who_does_not_hear_itself_does_not_know_that_it_is_alone():
    peers = Peers("a@host:1")
    assert not peers.is_alone(0.0)
    peers.receive(heartbeat("a", "ss"), 0.0)
    assert peers.is_alone(0.0)
    assert not peers.is_alone(SILENT_SECONDS), "nothing has been heard for long, not even of itself"
    peers.receive(heartbeat("a", "ss"), 10.0)
    peers.receive(heartbeat("b", "ss"), 10.0)
    assert not peers.is_alone(10.0)

"""Schedulers die, freeze, come and go under load: nothing is lost or doubled, and others go on at once."""

from __future__ import annotations

import time

from integration.harness import Cluster
from integration.waiting import until

TAKEOVER_MS_MAX = 3_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_kill_9_of_a_scheduler_under_load(running: Cluster) -> None:
    victims = [running.scheduler("a"), running.scheduler("b")]
    running.worker()
    with running.load() as load:
        for victim, survivor in (victims, reversed(victims)):
            owners = running.until_owners("a", "b")
            lost = [p for p, owner in owners.items() if owner == victim.name]
            load.until(40)
            killed_at = victim.kill()
            running.until_owners(survivor.name)
            log = running.log()
            for p in lost:
                first = next(b for b in log.batches[p] if b.owner == survivor.name and b.time_ms > killed_at)
                print(f"kill -9 of {victim.name}: partition {p} decided again after {first.time_ms - killed_at} ms")
                assert first.time_ms - killed_at < TAKEOVER_MS_MAX
            victim.start()
    jobs = load.acknowledged
    running.until_done(jobs).check(jobs)


def test_a_frozen_scheduler_wakes_to_refused_writes_and_rejoins(running: Cluster) -> None:
    frozen = running.scheduler("a")
    running.scheduler("b")
    running.worker()
    with running.load() as load:
        owners = running.until_owners("a", "b")
        lost = [p for p, owner in owners.items() if owner == "a"]
        load.until(20)
        frozen.pause()
        running.until_owners("b")
        before = running.log()
        load.until(20)
        frozen.resume()
        until(lambda: len(frozen.said("stepped_back")) >= len(lost), "the woken scheduler to step back")
        # The same process, in the group again, and trusted with partitions.
        running.until_owners("a", "b")
    jobs = load.acknowledged
    log = running.until_done(jobs)
    log.check(jobs)
    for p in lost:
        taken = before.batches[p][-1]
        assert [
            b for b in log.batches[p] if b.offset > taken.offset and b.closed.owner_epoch < taken.closed.owner_epoch
        ] == []
    assert frozen.complaints() == []


def test_scale_out_and_in_under_load(running: Cluster) -> None:
    first = running.scheduler("a")
    running.worker()
    with running.load(per_second=60.0) as load:
        running.until_owners("a")
        load.until(40)
        began = now_ms()
        others = [running.scheduler("b"), running.scheduler("c")]
        running.until_owners("a", "b", "c")
        load.until(40)
        grown = now_ms()
        for leaving in (first, others[0]):
            assert leaving.stop() == 0
        running.until_owners("c")
        load.until(40)
        shrunk = now_ms()
    jobs = load.acknowledged
    log = running.until_done(jobs)
    log.check(jobs)
    for what, since, to in (("1 to 3", began, grown), ("3 to 1", grown, shrunk)):
        pauses = {p: log.longest_pause_ms(p, since, to) for p in log.batches}
        print(f"{what} schedulers, longest pause in ms by partition: {pauses}")
        assert max(pauses.values()) < TAKEOVER_MS_MAX
    assert [p.complaints() for p in (first, *others)] == [[], [], []]

"""Schedulers die, freeze, come and go under load: nothing is lost or doubled, and others go on at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.config import Settings
from integration.harness import Cluster
from integration.waiting import until

TAKEOVER_MS_MAX = 3_000


@pytest.fixture
def running(cluster: Settings, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(cluster, tmp_path) as processes:
        yield processes


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_kill_9_of_a_scheduler_under_load(running: Cluster) -> None:
    victims = [running.scheduler("a"), running.scheduler("b")]
    running.worker()
    with running.load() as load:
        for victim in victims:
            owners = running.until_owners("a", "b")
            lost = [p for p, owner in owners.items() if owner == victim.name]
            load.until(40)
            killed_at = victim.kill()
            survivor = "b" if victim.name == "a" else "a"
            running.until_owners(survivor)
            log = running.log()
            for p in lost:
                first = next(b for b in log.batches[p] if b.owner == survivor and b.time_ms > killed_at)
                print(f"takeover of partition {p}: {first.time_ms - killed_at} ms")
                assert first.time_ms - killed_at < TAKEOVER_MS_MAX
            victim.start()
    jobs = load.acknowledged
    running.until_done(jobs).check(jobs)

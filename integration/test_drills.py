"""Drills on one broker: all schedulers are down; schedulers and workers have two versions. See docs/runbook.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjm.core.records import events as e
from ftjm.runtime.config import Settings
from integration.drills import Ground, first_decision_ms, now_ms
from integration.harness import Batch, Process
from integration.waiting import until
from integration.workers import print_figure

OLDER = "integration.older"


@pytest.fixture
def ground(cluster: Settings, tmp_path: Path) -> Iterator[Ground]:
    with Ground(cluster, tmp_path) as found:
        yield found


def test_a_drill_ends_with_the_first_decision_after_it() -> None:
    def batch(time_ms: int, *events: e.Event) -> Batch:
        rest: dict[str, Any] = dict.fromkeys(e.BatchClosed.__struct_fields__, 0)
        return Batch(0, 1, time_ms, e.BatchClosed(**rest), list(events))

    something = e.CommandRejected(code="INVALID", text="")
    batches = [batch(90, something), batch(110), batch(120, something), batch(130, something)]
    assert first_decision_ms(batches, 100) == 120
    assert first_decision_ms(batches[:2], 100) == 0


def _all_schedulers_down(ground: Ground, seconds: float, per_second: float) -> None:
    schedulers = [ground.scheduler("a"), ground.scheduler("b")]
    ground.worker()
    with ground.working(per_second) as load:
        ground.until_owners("a", "b")
        load.until(20)
        long = ground.submit("long", 2.0)
        ground.until_running(long)
        for scheduler in schedulers:
            scheduler.kill()
        down = time.monotonic()
        load.until(30)
        # Dispatched attempts go on and finish, although no scheduler can receive their reports.
        ground.until_finished(long)
        time.sleep(max(0.0, seconds - (time.monotonic() - down)))
        repaired = now_ms()
        for scheduler in schedulers:
            scheduler.start()
        ground.until_decided_again(f"all schedulers down for {time.monotonic() - down:.0f} s, started again", repaired)
    ground.check()
    assert set(ground.attempts(long).values()) == {1}, "a running attempt was run again"
    assert [scheduler.error_lines() for scheduler in schedulers] == [[], []]


def test_all_schedulers_are_down_for_a_while(ground: Ground) -> None:
    _all_schedulers_down(ground, seconds=0, per_second=10)


@pytest.mark.long
def test_all_schedulers_are_down_for_ten_minutes(ground: Ground) -> None:
    _all_schedulers_down(ground, seconds=600, per_second=4)


def test_a_rolling_upgrade_and_its_rollback(ground: Ground) -> None:
    """Schedulers and workers of this build run beside those of a build that lacks the newest schemas: see `older`."""
    processes = [ground.scheduler("a", OLDER), ground.scheduler("b", OLDER), ground.worker("w"), ground.worker("x")]
    for worker in processes[2:]:
        worker.stop()
        change(worker, OLDER)
    with ground.working() as load:
        ground.until_owners("a", "b")
        for module in ("ftjm", OLDER):
            long = ground.submit(f"long-before-{module}", 2.0)
            ground.until_running(long)
            for process in processes:
                began = now_ms()
                assert process.stop() == 0
                change(process, module)
                load.until(20)
                log = ground.log()
                pause = max(log.longest_pause_ms(p, began, now_ms()) for p in log.batches)
                print_figure(f"{process.name} restarted as {module}, longest pause of a partition", pause)
            ground.until_owners("a", "b")
    ground.check()
    for process in processes:
        assert process.error_lines() == []
        assert process.log_lines("store_discarded") == []
    # Proof that the two were different builds.
    assert processes[0].log_lines("heartbeat_undecodable")


def change(process: Process, module: str) -> None:
    """Stop a process and start another build under its name and with its stores. Wait until it is ready."""
    ready = "session_opened" if "worker" in process.command else "scheduler_started"
    before = len(process.log_lines(ready))
    process.command[2] = module
    process.start()
    until(lambda: len(process.log_lines(ready)) > before, f"{process.name} to be ready")

"""A partition that does not get on is told of, and left to others where there are any."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from structlog.testing import capture_logs

from ftjm.scheduler.watchdog import FAILED_SECONDS_MAX, Watchdog, Watched


@dataclass
class Runner:
    role: str = "owner"
    alive_at: float = field(default_factory=time.monotonic)
    thread_id: int | None = field(default_factory=threading.get_ident)
    failed: bool = False


def watchdog(
    runners: Mapping[int, Watched], *, answered: bool = True, leads: bool = True, warm: bool = True
) -> Watchdog:
    return Watchdog(runners, 30.0, lambda: answered, lambda _: leads, lambda _: warm)


def stuck() -> Runner:
    return Runner(alive_at=time.monotonic() - 31)


def test_the_one_that_is_stuck_is_named_with_what_its_thread_does():
    with capture_logs() as said:
        assert watchdog({0: Runner(), 1: stuck()}).stalled() == 1
    assert (said[0]["event"], said[0]["partition"]) == ("partition_stalled", 1)
    assert "test_watchdog.py" in said[0]["where"]


def test_while_kafka_answers_nobody_nothing_is_stuck():
    assert watchdog({1: stuck()}, answered=False).stalled() is None


def test_where_nobody_could_take_over_it_stays_and_says_so_now_and_then():
    dog = watchdog({1: stuck()}, warm=False)
    with capture_logs() as said:
        assert [dog.stalled() for _ in range(5)] == [None] * 5
    assert len(said) == 1


def test_where_no_broker_leads_the_log_nobody_could_get_on():
    dog = watchdog({1: stuck()}, leads=False)
    with capture_logs() as said:
        assert [dog.stalled() for _ in range(5)] == [None] * 5
    assert len(said) == 1
    assert "does not answer" in said[0]["todo"]


def test_leaders_that_are_away_are_asked_one_at_a_time_and_seldom():
    asked: list[int] = []

    def leads(partition: int) -> bool:
        asked.append(partition)
        return False

    dog = Watchdog({n: stuck() for n in range(3)}, 30.0, lambda: True, leads, lambda _: True)
    for count in (1, 2, 3, 3, 3):
        assert dog.stalled() is None
        assert len(asked) == count


def test_one_that_stops_with_one_fault_after_another_is_stuck_soon():
    silent = Runner(alive_at=time.monotonic() - FAILED_SECONDS_MAX)
    assert watchdog({1: silent}).stalled() is None
    silent.failed = True
    assert watchdog({1: silent}).stalled() == 1


def test_a_thread_that_has_ended_is_told_as_such():
    runner = stuck()
    runner.thread_id = 0
    with capture_logs() as said:
        assert watchdog({1: runner}).stalled() == 1
    assert said[0]["where"] == "its thread has ended"

"""Why a scheduler leaves though nobody has told it to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ftjm.adapters.kafka import membership as kafka_membership
from ftjm.adapters.kafka.errors import BrokersForgotten
from ftjm.adapters.kafka.membership import Membership
from ftjm.core.errors import NewerLogError
from ftjm.scheduler.process import Scheduler


@pytest.mark.parametrize(
    ("stalled", "lost", "fault", "found"),
    [
        (None, False, None, None),
        (3, False, None, "it was stuck"),
        (None, True, None, "no broker"),
        (None, False, BrokersForgotten("the client has forgotten all brokers"), "forgotten all brokers"),
    ],
)
def test_each_fault_is_told_in_its_words(stalled: int | None, lost: bool, fault: Any, found: str | None) -> None:
    scheduler: Any = object.__new__(Scheduler)
    scheduler._context = SimpleNamespace(producer=SimpleNamespace(fault=fault), newer_log=None)
    error = scheduler._find_fault(SimpleNamespace(stalled=lambda: stalled), SimpleNamespace(lost=lost))
    if found is None:
        assert error is None
    else:
        assert found in error.found
        assert "start this process again" in error.todo


def test_a_scheduler_leaves_a_log_whose_upgrade_to_a_newer_build_is_final() -> None:
    scheduler: Any = object.__new__(Scheduler)
    scheduler._context = SimpleNamespace(newer_log=NewerLogError("level 1", "level 2"))
    error = scheduler._find_fault(None, None)
    assert (error.expected, error.found) == ("level 1", "level 2")
    assert "start a build that knows these" in error.todo


@pytest.mark.parametrize("lost", [False, True])
def test_who_has_lost_all_brokers_takes_no_leave_of_them(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """It would wait for an answer that cannot come; the group misses it once its session is over."""
    closed: list[bool] = []
    monkeypatch.setattr(kafka_membership, "Consumer", lambda _: SimpleNamespace(close=lambda: closed.append(True)))
    membership = Membership({}, "t", 1_500, 300, lambda _: None, lambda *_: None)
    membership._watch.lost = lost
    membership.leave()
    assert closed == [True] * (not lost)

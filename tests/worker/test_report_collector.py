"""Which reports wait for others, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records.commands import (
    AttemptReport,
    CheckpointAttempt,
    CompleteAttempt,
    DeclineAttempt,
    FailAttempt,
    StartAttempt,
)
from ftjm.core.state.model import FailureReason
from ftjm.worker.report_collector import COMPANY_MS, ReportCollector

ENVELOPE: dict[str, Any] = {"queue": "q", "run": 1, "attempt": 1, "session": "s"}
ENDED: dict[str, Any] = {"started_at": 1, "ended_at": 2}
OTHERS = [
    StartAttempt(**ENVELOPE, job_id="b", started_at=1),
    FailAttempt(**ENVELOPE, **ENDED, job_id="b", reason=FailureReason.EXIT_CODE),
    CheckpointAttempt(**ENVELOPE, job_id="b"),
    DeclineAttempt(**ENVELOPE, job_id="b", reason=""),
]


def success(job: str) -> CompleteAttempt:
    return CompleteAttempt(**ENVELOPE, **ENDED, job_id=job)


def test_without_reports_nothing_is_due() -> None:
    sent: list[tuple[str, AttemptReport]] = []
    collector = ReportCollector(lambda *one: sent.append(one))
    assert collector.due is None
    collector.send()
    assert not sent


def test_successes_wait_for_others_since_the_first_one() -> None:
    sent: list[tuple[str, AttemptReport]] = []
    collector = ReportCollector(lambda *one: sent.append(one))
    collector.add("s", success("a"), 1_000, may_wait=True)
    collector.add("s", success("b"), 1_000 + COMPANY_MS - 1, may_wait=True)
    assert collector.due == 1_000 + COMPANY_MS
    collector.send_due(1_000 + COMPANY_MS - 1)
    assert not sent
    collector.send_due(1_000 + COMPANY_MS)
    taken = list(sent)
    sent.clear()
    assert [(session, each.job_id) for session, each in taken] == [("s", "a"), ("s", "b")]
    assert len({each.sent_at for _, each in taken} - {0}) == 1
    assert collector.due is None
    collector.send()
    assert not sent


@pytest.mark.parametrize("other", OTHERS)
def test_any_other_report_is_due_at_once_and_takes_along_what_waits(other: AttemptReport) -> None:
    sent: list[tuple[str, AttemptReport]] = []
    collector = ReportCollector(lambda *one: sent.append(one))
    collector.add("s", success("a"), 1_000, may_wait=True)
    collector.add("t", other, 1_003, may_wait=True)
    collector.add("s", success("c"), 1_004, may_wait=True)
    assert collector.due == 1_003
    collector.send()
    assert [each.job_id for _, each in sent] == ["a", "b", "c"]


def test_a_success_is_due_at_once_where_no_attempt_is_at_hand_for_its_slot() -> None:
    sent: list[tuple[str, AttemptReport]] = []
    collector = ReportCollector(lambda *one: sent.append(one))
    collector.add("s", success("a"), 1_000, may_wait=False)
    assert collector.due == 1_000

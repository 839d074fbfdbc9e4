"""One suite of outcomes, which a process that is kept, one that is not, and `ftjm.testing` all pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

import ftjm.testing
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason
from ftjm.sdk.tasks import TASKS
from tests.worker import outcome_tasks
from tests.worker.guarding import Tasks

APP = "tests.worker.outcome_tasks"


class Outcome(NamedTuple):
    """How a run of one attempt has ended."""

    reason: str
    exit_code: int
    error: str
    result: object


Perform = Callable[[str], Outcome]


@pytest.fixture(params=["kept", "alone"])
def on_a_worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Perform]:
    guard = Tasks(tmp_path / "attempts", (APP,))

    def perform(name: str) -> Outcome:
        end = guard.does(f"{name}_{request.param}")
        result = msgspec.json.decode(end.result) if end.result else None
        return Outcome(end.reason or "", end.exit_code, end.error, result)

    yield perform
    guard.link.leave()


def in_testing(name: str) -> Outcome:
    with ftjm.testing.Cluster(app=[APP]) as cluster:
        cluster.client.submit(TASKS[f"{name}_kept"]())
        cluster.run()
        [event] = [event for event in cluster.events() if isinstance(event, e.AttemptFailed | e.AttemptSucceeded)]
    if isinstance(event, e.AttemptFailed):
        return Outcome(event.reason, event.exit_code, event.error, None)
    return Outcome("", event.exit_code, "", msgspec.json.decode(event.result) if event.result else None)


def check(outcome: Outcome, name: str) -> None:
    expected = outcome_tasks.OUTCOMES[name]
    assert (outcome.reason, outcome.exit_code, outcome.result) == expected[1:4], outcome
    assert all(text in outcome.error for text in expected.error), outcome.error
    if outcome.reason == FailureReason.EXCEPTION:
        assert "Traceback (most recent call last):\n" in outcome.error
        assert "outcome_tasks.py" in outcome.error, "the place where it was raised"
        assert "perform.py" not in outcome.error, "frames of ftjm do not help the user"
    outcome.error.encode()


@pytest.mark.parametrize("name", list(outcome_tasks.OUTCOMES))
def test_a_worker_has_the_outcome(on_a_worker: Perform, name: str) -> None:
    check(on_a_worker(name), name)


@pytest.mark.parametrize("name", list(outcome_tasks.OUTCOMES))
def test_the_cluster_in_memory_has_the_same_outcome(name: str) -> None:
    check(in_testing(name), name)

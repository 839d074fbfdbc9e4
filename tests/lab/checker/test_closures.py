"""Dispatches that a window or a cordon forbids are named, and stops that windows do not say, or say in vain."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records import events as e
from ftjm.core.records.levels import STOP_LEVEL
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.core.state.windows import OnClose, WindowEffect, WindowSpec
from ftjm.lab.checker.closures import Closures
from ftjm.lab.checker.waiting_jobs import STALLED_BATCHES


def window(name: str, **fields: Any) -> e.Event:
    spec = WindowSpec("0 8 * * *", 3_600_000, **{"queues": ["q"], **fields})
    return e.ResourceAdopted(
        kind=ResourceKind.WINDOW,
        name=name,
        revision=1,
        spec=ResourceSpec(window=[spec]),
        labels={},
        applied_at=1,
        home=0,
    )


def cordon(name: str, spec: ResourceSpec) -> e.Event:
    return e.ResourceAdopted(
        kind=ResourceKind.CORDON, name=name, revision=1, spec=spec, labels={}, applied_at=1, home=0
    )


def turned(name: str, is_open: bool) -> e.Event:
    return e.WindowTurned(name=name, open=is_open, until=0, tzdata="")


def dispatched(queue: str = "q", worker: str = "w") -> e.Event:
    return e.AttemptDispatched(
        queue=queue, job_id="a", attempt=1, session="s", worker=worker, lane=0, lease_ms=5_000, offer=1
    )


def found(*events: e.Event, closures: Closures | None = None) -> list[str]:
    """The violations of all these events."""
    closures = closures or Closures()
    texts: list[str] = []
    for event in events:
        of_job = event.job_id != ""
        violations = closures.take_job_event((event.queue, event.job_id), event) if of_job else closures.take(event)
        texts += [violation.text for violation in violations]
    return texts


def faults(*events: e.Event, queue: str = "q", worker: str = "w") -> list[str]:
    """The violations of a dispatch behind these events."""
    return found(*events, dispatched(queue, worker))


def test_an_attempt_outside_all_windows_that_allow_is_named():
    closed = [window("a"), turned("a", False), window("b"), turned("b", False)]
    assert "all of its windows are closed (a, b)" in faults(*closed)[0]
    assert faults(*closed, turned("b", True)) == []
    assert faults(*closed, queue="other") == []


def test_an_attempt_while_a_window_that_denies_is_open_is_named():
    denied = [window("a", effect=WindowEffect.DENY, queues=["x*", "q*"], workers=["w*"]), turned("a", True)]
    assert "while the window a is open" in faults(*denied)[0]
    assert faults(*denied, worker="other") == faults(*denied, turned("a", False)) == []


def test_an_attempt_on_a_cordoned_worker_is_named():
    cordoned = cordon("w", ResourceSpec(cordon=[CordonSpec()]))
    assert "worker w, which is cordoned" in faults(cordoned)[0]
    assert faults(cordoned, cordon("w", ResourceSpec())) == []
    assert faults(cordoned, worker="other") == []
    assert faults(cordoned, e.ResourcesReconciled(dropped=["Cordon/w"], home=0)) == []
    assert (
        faults(cordoned, e.ResourceDeleted(kind=ResourceKind.CORDON, name="w", revision=2, partitions=3, home=0)) == []
    )


# -- windows that stop attempts


def stop_window(name: str = "a", **fields: Any) -> e.Event:
    return window(name, on_close=OnClose.STOP, **fields)


def asked(reason: str = "WINDOW", **fields: Any) -> e.Event:
    cause = {"cause": e.Cause.CONTINUATION, "cause_ref": "WINDOW_STOP/"} if reason == "WINDOW" else {}
    return e.JobStopRequested(**{"queue": "q", "job_id": "a", "attempt": 1, "reason": reason, **cause, **fields})


def advanced(next_session: str = "", ref: str = "WINDOW_STOP/") -> e.Event:
    return e.WindowStopsAdvanced(next_session=next_session, next_job="q/a", cause=e.Cause.CONTINUATION, cause_ref=ref)


def ended() -> e.Event:
    return e.AttemptStopped(queue="q", job_id="a", attempt=1, session="s", started_at=1, ended_at=2)


FINAL = e.UpgradeFinalized(level=STOP_LEVEL, state_version=1)
RUNS = [FINAL, stop_window(), turned("a", True), dispatched()]
CLOSED = [*RUNS, turned("a", False)]


def test_attempts_are_stopped_where_windows_say_so():
    assert found(*CLOSED, asked(), advanced(), ended()) == []
    denied = stop_window("d", effect=WindowEffect.DENY)
    assert found(FINAL, dispatched(), denied, turned("d", True), asked(), advanced()) == []
    assert found(*CLOSED, asked("CANCELLED"), advanced()) == []


@pytest.mark.parametrize(
    "events",
    [
        [*RUNS, asked()],
        [*RUNS[:-1], window("b"), turned("b", False), dispatched(), turned("a", False), asked()],
        [*RUNS, stop_window("d", effect=WindowEffect.DENY), turned("d", False), asked()],
        [*RUNS, window("d", effect=WindowEffect.DENY), turned("d", True), asked()],
        [FINAL, dispatched(), stop_window(workers=["other"]), turned("a", False), asked()],
        [FINAL, dispatched(), stop_window(queues=["other"]), turned("a", False), asked()],
    ],
)
def test_an_attempt_that_is_stopped_although_its_windows_let_it_run_is_named(events: list[e.Event]):
    assert found(*events) == ["expected attempts of q to run on w now, by its windows, but found one stopped"]


def test_an_attempt_that_is_stopped_twice_is_named():
    assert "not being stopped" in found(*CLOSED, asked(), asked())[0]
    assert "not being stopped" in found(*CLOSED, asked("DEADLINE"), asked())[0]
    assert found(*CLOSED, asked(), asked("CANCELLED"), advanced()) == []


def test_what_no_process_has_done_is_named():
    assert "expected the process WINDOW_STOP/" in found(*CLOSED, asked(cause_ref="BULK/q/x"), asked())[0]
    assert "expected the process WINDOW_STOP/" in found(*CLOSED, asked(), advanced(ref="KEYS/q"))[0]
    assert "but found a slice" in found(FINAL, advanced())[0]
    below = e.UpgradeFinalized(level=STOP_LEVEL - 1, state_version=1)
    assert "to be under way" in found(below, *CLOSED[1:], asked())[0]
    assert "to be under way" in found(*CLOSED, asked(), advanced(), advanced())[0]


def test_an_attempt_that_is_left_at_the_end_of_the_process_is_named():
    assert found(*CLOSED, advanced("s")) == []
    assert "found it running at the end of the process" in found(*CLOSED, advanced("s"), advanced())[0]
    assert "found it running" in found(*CLOSED, asked(), ended(), turned("a", True), dispatched(), turned("a", False),
                                       advanced())[0]  # fmt: skip
    dropped = e.ResourcesReconciled(dropped=["Window/b"], home=0)
    assert (
        "found it running" in found(*RUNS, window("b"), turned("b", False), turned("a", False), dropped, advanced())[0]
    )


def test_a_process_that_does_not_go_on_is_named():
    closures = Closures()
    assert found(*CLOSED, advanced("s"), closures=closures) == []
    texts = [violation.text for _ in range(STALLED_BATCHES + 1) for violation in closures.close_batch()]
    assert texts == [
        f"q/a: expected its windows to stop its attempt on w, but found no slice in {STALLED_BATCHES} batches"
    ]
    assert found(asked(), advanced(), closures=closures) == []
    assert [violation for _ in range(2 * STALLED_BATCHES) for violation in closures.close_batch()] == []

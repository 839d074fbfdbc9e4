"""Dispatches that a window or a cordon forbids are named."""

from __future__ import annotations

from typing import Any

from ftjm.core.records import events as e
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from ftjm.core.state.windows import WindowEffect, WindowSpec
from ftjm.lab.checker.closures import Closures


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


def faults(*events: e.Event, queue: str = "q", worker: str = "w") -> list[str]:
    closures = Closures()
    for event in events:
        closures.take(event)
    dispatch = e.AttemptDispatched(
        queue=queue, job_id="a", attempt=1, session="s", worker=worker, lane=0, lease_ms=5_000, offer=1
    )
    return [violation.text for violation in closures.attempt_started(dispatch)]


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

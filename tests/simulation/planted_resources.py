"""Rules of resources that every partition knows, each switched off at its smallest place."""

from typing import Any
from unittest.mock import patch

from ftjm.core import placement, queue_gates
from ftjm.core.decide import attempts, resources, windows
from ftjm.core.decide import handlers as decide
from ftjm.core.decide.decision import Policy, Rejected
from ftjm.core.placement import Placement, match
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import LOSSES
from ftjm.core.state.resources import resource_key
from ftjm.core.state.state import State
from ftjm.core.windows import may_start_on
from ftjm.engine import batch
from tests.simulation.planted import Patch, planted


@planted
def a_window_that_is_closed_lets_jobs_start() -> list[Patch]:
    gate = patch.dict(queue_gates.GATES, {"Window": lambda _rows, _now: queue_gates.OPEN})
    return [gate, patch.object(placement, "may_start_on", lambda _windows, _worker: True)]


@planted
def what_a_window_stops_is_charged_as_a_failure() -> list[Patch]:
    def fail(state: State, command: c.FailAttempt, now: int, policy: Policy) -> Any:
        job = attempts._reported(state, command)
        if isinstance(job, Rejected) or command.reason in LOSSES:
            return attempts.fail(state, command, now, policy)
        return attempts._failure(state, job, command, command.reason, command.error, now, policy)

    return [patch.dict(decide._HANDLERS, {c.FailAttempt: fail})]


@planted
def attempts_are_stopped_whose_window_says_finish() -> list[Patch]:
    return [patch.object(windows, "stops_on", lambda found, worker: not may_start_on(found, worker))]


@planted
def a_window_that_closes_stops_nothing() -> list[Patch]:
    return [patch.object(windows, "stops_on", lambda _windows, _worker: False)]


@planted
def a_cordoned_worker_gets_jobs() -> list[Patch]:
    def blind(state: State, *arguments: Any) -> Placement:
        with patch.object(state, "cordons", dict):
            return match(state, *arguments)

    return [patch.object(batch, "match", blind)]


@planted
def a_partition_keeps_the_first_revision_of_a_resource() -> list[Patch]:
    def adopt(state: State, command: c.AdoptResource, *arguments: Any) -> Any:
        if state.resource(resource_key(command.kind, command.name)) is None:
            return resources.adopt(state, command, *arguments)
        about: dict[str, Any] = {
            "kind": command.kind,
            "name": command.name,
            "revision": command.revision,
            "home": command.home,
        }
        return [e.ResourceConfirmed(**about)]

    return [patch.dict(decide._HANDLERS, {c.AdoptResource: adopt})]

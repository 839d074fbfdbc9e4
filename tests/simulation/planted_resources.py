"""Rules of resources that every partition knows, each switched off at its smallest place."""

from typing import Any
from unittest.mock import patch

from ftjm.core import placement, queue_gates
from ftjm.core.decide import handlers as decide
from ftjm.core.decide import resources
from ftjm.core.placement import Placement, match
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.resources import resource_key
from ftjm.core.state.state import State
from ftjm.engine import batch
from tests.simulation.planted import Patch, planted


@planted
def a_window_that_is_closed_lets_jobs_start() -> list[Patch]:
    gate = patch.dict(queue_gates.GATES, {"Window": lambda _rows, _now: queue_gates.OPEN})
    return [gate, patch.object(placement, "may_start_on", lambda _windows, _worker: True)]


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

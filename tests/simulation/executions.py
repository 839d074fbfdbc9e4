"""What truly ran, against what the log says of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from itertools import combinations
from typing import TYPE_CHECKING

from ftjm.core.records import events as e
from tests.simulation.guards import Execution
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from tests.simulation.workers import Supervisor

Attempt = tuple[str, str, int]


def check_executions(
    workers: Iterable["Supervisor"],
    dispatches: Mapping[Attempt, e.AttemptDispatched],
    successes: Iterable[e.AttemptSucceeded],
    declined: Set[Attempt],
) -> None:
    """Raises Violation."""
    ran: dict[Attempt, Execution] = {}
    by_job: dict[tuple[str, str], list[Execution]] = defaultdict(list)
    for worker in workers:
        _check_slots(worker.name, worker.identity.slots, worker.kernel.history)
        for execution in worker.kernel.history:
            name = execution.name
            dispatch = dispatches.get(name)
            if dispatch is None or dispatch.session != execution.order.session:
                raise Violation(f"{name} ran in {execution.order.session}, and was never dispatched there: {dispatch}")
            if name in declined:
                raise Violation(f"{name} ran, although it was sent back")
            if name in ran:
                raise Violation(f"{name} ran twice")
            ran[name] = execution
            by_job[name[:2]].append(execution)
    for event in successes:
        attempt = event.queue, event.job_id, event.attempt
        found = ran.get(attempt)
        if found is None or not found.success or found.order.session != event.session:
            raise Violation(f"{attempt} is recorded as a success, and was none")
    for job, executions in by_job.items():
        for one, other in combinations(executions, 2):
            _check_apart(job, one, other)


def _check_apart(job: tuple[str, str], one: Execution, other: Execution) -> None:
    for start, end in one.spans:
        for start_other, end_other in other.spans:
            if min(end, end_other) > max(start, start_other):
                raise Violation(
                    f"attempts {one.name[2]} and {other.name[2]} of {job} executed at the same time, from "
                    f"{max(start, start_other):.1f} to {min(end, end_other):.1f}"
                )


def _check_slots(worker: str, slots: int, history: Iterable[Execution]) -> None:
    moments = sorted(
        moment for execution in history for start, end in execution.spans for moment in ((start, 1), (end, -1))
    )
    running = 0
    for at, change in moments:
        running += change
        if running > slots:
            raise Violation(f"{worker} ran {running} attempts in {slots} slots at {at:.1f}")

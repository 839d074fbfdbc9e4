"""The simulation runs with one rule of the product switched off, and the checker names the violation in its history.

The checker cannot name faults that no log and no execution shows, such as messages that were not sent again, or stores
that differ from the log.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from ftjm.lab.checker import Verdict, ViolationKind
from tests.simulation import planted_resources, planted_rules, planted_schedules
from tests.simulation.cluster import Cluster, judge
from tests.simulation.planted import PLANTED, plant
from tests.simulation.test_planted import KNOWN

assert planted_rules  # imported because they add rules to PLANTED
assert planted_schedules
assert planted_resources

SEEDS = 300
"""Seeds to try where the known seed no longer shows the fault."""
NAMED = {
    "an owner decides without fencing": ViolationKind.CHAIN,
    "an owner decides without folding to the end": ViolationKind.CHAIN,
    "the end of the log is read before the fence": ViolationKind.CHAIN,
    "an unknown commit is taken for a success": ViolationKind.CHAIN,
    "an owner acts before its commit": ViolationKind.DOUBLED,
    "an owners time may go back": ViolationKind.CHAIN,
    "forwarded commands are not told apart by number": ViolationKind.LOST,
    "a paused queue goes on": ViolationKind.LIMIT,
    "a window that is closed lets jobs start": ViolationKind.LIMIT,
    "a cordoned worker gets jobs": ViolationKind.LIMIT,
    "a queue runs more jobs than it is declared to": ViolationKind.LIMIT,
    "a queue starts more jobs than its rate": ViolationKind.LIMIT,
    "a rate begins anew with each owner": ViolationKind.LIMIT,
    "waiting makes no difference": ViolationKind.ORDER,
    "a changed ageing leaves waiting jobs where they are": ViolationKind.ORDER,
    "a bulk request is about jobs that come later too": ViolationKind.CAUSE,
    "a bulk request begins anew with each owner": ViolationKind.DOUBLED,
    "a stale attempt is accepted": ViolationKind.ANSWER,
    "a job may be submitted twice": ViolationKind.DOUBLED,
    "command ids are not remembered": ViolationKind.DOUBLED,
    "losses are not counted": ViolationKind.END,
    "an attempt that may continue is given up with its session": ViolationKind.OVERLAPPED,
    "the memory of a session ends with its attempts": ViolationKind.CAUSE,
    "a deadline is checked by its timer alone": ViolationKind.TIMER,
    "silence does not start again with a new owner": ViolationKind.OVERLAPPED,
    "a worker is given up without reading the lanes to their ends": ViolationKind.OVERLAPPED,
    "a worker takes repeated messages": ViolationKind.OVERLAPPED,
    "starts do not check the deadline": ViolationKind.OVERLAPPED,
    "the guard does not kill at the deadline": ViolationKind.OVERLAPPED,
    "a lapsed session goes on": ViolationKind.OVERLAPPED,
    "the lease counts from the acknowledgement": ViolationKind.OVERLAPPED,
    "a session goes by the clock of its host alone": ViolationKind.OVERLAPPED,
    "the deadline has no margin": ViolationKind.OVERLAPPED,
    "a backfill begins more runs than it may": ViolationKind.LIMIT,
    "a backfill runs jobs again that it should leave alone": ViolationKind.CAUSE,
    "a calendar that changes is not noticed": ViolationKind.LOST,
    "a schedule does not look whether its last job has ended": ViolationKind.LIMIT,
    "an instant fires that waits though the job has not ended": ViolationKind.LIMIT,
    "what is missed fires late": ViolationKind.TIMER,
    "a firing goes on with the next instant from now on": ViolationKind.TIMER,
    "a paused schedule goes on": ViolationKind.LIMIT,
    "a pause is caught up": ViolationKind.TRANSITION,
    "a job that is replaced goes on": ViolationKind.LOST,
}


def verdict_without(rule: str, seed: int) -> Verdict:
    """Return the verdict on the history up to the point at which the simulation itself noticed the fault."""
    with plant(rule):
        cluster = Cluster(seed)
        with suppress(Exception):
            cluster.run()
    return judge(cluster)


@pytest.mark.parametrize("rule", NAMED)
def test_a_rule_that_is_switched_off_is_named(rule):
    assert rule in PLANTED
    assert any(verdict_without(rule, seed).kinds[NAMED[rule]] for seed in (KNOWN[rule], *range(SEEDS)))

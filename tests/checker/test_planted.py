"""Rules of the product that are switched off in the simulation: the checker names what its histories show of it.

It cannot name what shows in no log and in nothing that ran: messages that were not sent again, stores that differ.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from ftjm.checker import Kind, Report
from tests.checker.test_histories import judged
from tests.simulation import planted_rules
from tests.simulation.cluster import Cluster
from tests.simulation.planted import PLANTED, plant
from tests.simulation.test_planted import KNOWN

assert planted_rules  # imported for the rules that it adds

SEEDS = 300
"""To look at where the history of the known one has changed since."""
NAMED = {
    "an owner decides without fencing": Kind.CHAIN,
    "an owner decides without folding to the end": Kind.CHAIN,
    "the end of the log is read before the fence": Kind.CHAIN,
    "an unknown commit is taken for a success": Kind.CHAIN,
    "an owner acts before its commit": Kind.DOUBLED,
    "an owners time may go back": Kind.CHAIN,
    "forwarded commands are not told apart by number": Kind.LOST,
    "a stale attempt is accepted": Kind.ANSWER,
    "a job may be submitted twice": Kind.DOUBLED,
    "command ids are not remembered": Kind.DOUBLED,
    "losses are not counted": Kind.END,
    "an attempt that may continue is given up with its session": Kind.OVERLAPPED,
    "silence does not start again with a new owner": Kind.OVERLAPPED,
    "a worker is given up without reading the lanes to their ends": Kind.OVERLAPPED,
    "a worker takes repeated messages": Kind.OVERLAPPED,
    "starts do not check the deadline": Kind.OVERLAPPED,
    "the guard does not kill at the deadline": Kind.OVERLAPPED,
    "a lapsed session goes on": Kind.OVERLAPPED,
    "the lease counts from the acknowledgement": Kind.OVERLAPPED,
    "the deadline has no margin": Kind.OVERLAPPED,
}


def broken(rule: str, seed: int) -> Report:
    """The verdict on what happened until the simulation itself noticed."""
    with plant(rule):
        cluster = Cluster(seed)
        with suppress(Exception):
            cluster.run()
    return judged(cluster)


@pytest.mark.parametrize("rule", NAMED)
def test_a_rule_that_is_switched_off_is_named(rule):
    assert rule in PLANTED
    assert any(broken(rule, seed).kinds[NAMED[rule]] for seed in (KNOWN[rule], *range(SEEDS)))

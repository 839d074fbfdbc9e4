"""Each rule of the design is switched off in turn, and some seed must notice; with the rule, that seed passes."""

import pytest

from tests.simulation.parallel import failure_of, first_catches
from tests.simulation.planted import PLANTED

SEEDS_MAX = 1_500
KNOWN = {
    "an owner decides without fencing": 0,
    "an owner decides without folding to the end": 0,
    "the end of the log is read before the fence": 1,
    "an unknown commit is taken for a success": 0,
    "the outbox is not sent again after a takeover": 0,
    "the outbox counts as sent before it is delivered": 65,
    "the store is not checked for its lineage": 17,
    "the log of commands is taken to lose nothing": 0,
    "rows and position are written apart": 2,
    "the position is written before the rows": 2,
    "an owner acts before its commit": 5,
    "replay sends": 0,
    "an owners time may go back": 1,
    "forwarded commands are not told apart by number": 3,
    "a stale attempt is accepted": 1,
    "a job may be submitted twice": 0,
    "command ids are not remembered": 68,
    "losses are not counted": 2,
    "an attempt that may continue is given up with its session": 4,
    "silence does not start again with a new owner": 353,
    "a worker is given up without reading the lanes to their ends": 117,
    "a worker takes repeated messages": 3,
    "starts do not check the deadline": 4,
    "the guard does not kill at the deadline": 204,
    "a lapsed session goes on": 187,
    "the lease counts from the acknowledgement": 378,
    "the deadline has no margin": 450,
    "a full worker does not decline": 49,
}


@pytest.mark.timeout(1_200)
def test_every_rule_is_missed_when_it_is_switched_off() -> None:
    """A known seed first, since it notices at once; where the history has changed since, the first that does."""
    caught = {rule: seed for rule, seed in KNOWN.items() if failure_of(seed, rule) is not None}
    caught |= {
        rule: seed
        for rule, seed in first_catches((r for r in PLANTED if r not in caught), range(SEEDS_MAX)).items()
        if seed is not None
    }
    for rule, seed in caught.items():
        print(f"{rule}: seed {seed}")
        assert failure_of(seed) is None, f"seed {seed} fails with all rules in force"
    missed = PLANTED.keys() - caught.keys()
    assert not missed, f"nobody notices in {SEEDS_MAX} seeds: {missed}"

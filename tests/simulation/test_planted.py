"""Each rule of the design is switched off in turn, and some seed must notice; with the rule, that seed passes."""

import pytest

from tests.simulation.parallel import failure_of, first_catches
from tests.simulation.planted import PLANTED

SEEDS_MAX = 600
KNOWN: dict[str, int] = {}


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

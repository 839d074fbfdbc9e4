"""Each rule of the design is switched off in turn, and some seed must notice; with the rule, that seed passes."""

import pytest

from tests.simulation.parallel import failure_of, first_catches
from tests.simulation.planted import PLANTED

SEEDS_MAX = 1_500
KNOWN = {
    "an owner decides without fencing": 1,
    "an owner decides without folding to the end": 1,
    "the end of the log is read before the fence": 1,
    "an unknown commit is taken for a success": 5,
    "the outbox is not sent again after a takeover": 0,
    "the outbox counts as sent before it is delivered": 102,
    "the store is not checked for its lineage": 5,
    "the log of commands is taken to lose nothing": 40,
    "rows and position are written apart": 5,
    "the position is written before the rows": 5,
    "an owner acts before its commit": 5,
    "replay sends": 0,
    "an owners time may go back": 1,
    "forwarded commands are not told apart by number": 0,
    "a paused queue goes on": 2,
    "a window that is closed lets jobs start": 8,
    "what a window stops is charged as a failure": 3,
    "attempts are stopped whose window says finish": 113,
    "a window that closes stops nothing": 3,
    "a cordoned worker gets jobs": 8,
    "a partition keeps the first revision of a resource": 2,
    "a queue runs more jobs than it is declared to": 2,
    "a queue starts more jobs than its rate": 2,
    "a rate begins anew with each owner": 2,
    "a concurrency key is had by more jobs than may": 2,
    "a concurrency key that is free is left free": 2,
    "a queue gives its jobs no defaults": 2,
    "a queues defaults win over what a job gives": 2,
    "a limit of waiting acts whatever a job waits for": 8,
    "waiting makes no difference": 2,
    "a changed ageing leaves waiting jobs where they are": 2,
    "a bulk request is about jobs that come later too": 52,
    "a bulk request begins anew with each owner": 3,
    "the usage of shares makes no difference": 2,
    "what an attempt has used is not corrected": 2,
    "a dispatch does not say what it went past": 2,
    "a stale attempt is accepted": 13,
    "a job may be submitted twice": 0,
    "command ids are not remembered": 237,
    "losses are not counted": 7,
    "an attempt that may continue is given up with its session": 4,
    "the memory of a session ends with its attempts": 30,
    "a deadline is checked by its timer alone": 6,
    "silence does not start again with a new owner": 32,
    "a worker is given up without reading the lanes to their ends": 79,
    "a worker takes repeated messages": 5,
    "a session takes no request to stop once it was closed": 30,
    "starts do not check the deadline": 90,
    "the guard does not kill at the deadline": 200,
    "a lapsed session goes on": 72,
    "the lease counts from the acknowledgement": 710,
    "a session goes by the clock of its host alone": 159,
    "the deadline has no margin": 235,
    "a start takes no slot": 3,
    "what was sent back is started all the same": 3,
    "the loss of what may not have started is charged": 8,
    "a job whose loss is not tried again goes ahead": 3,
    "an owner sends more ahead than is offered": 2,
    "a schedule does not look whether its last job has ended": 2,
    "an instant fires that waits though the job has not ended": 3,
    "what is missed fires late": 32,
    "a firing goes on with the next instant from now on": 48,
    "each owner begins its schedules anew": 3,
    "a paused schedule goes on": 3,
    "a pause is caught up": 8,
    "a job that is replaced goes on": 3,
    "a backfill begins more runs than it may": 3,
    "a backfill runs jobs again that it should leave alone": 52,
    "a calendar that changes is not noticed": 2,
}


def is_noticed(rule: str, seed: int) -> bool:
    failure = failure_of(seed, rule)
    assert failure is None or "TypeError" not in failure.what, f"the planted rule does not fit the code: {failure.what}"
    return failure is not None


@pytest.mark.timeout(1_200)
def test_every_rule_is_missed_when_it_is_switched_off() -> None:
    """A known seed first, since it notices at once; where the history has changed since, the first that does."""
    caught = {rule: seed for rule, seed in KNOWN.items() if is_noticed(rule, seed)}
    caught |= {
        rule: seed
        for rule, seed in first_catches((r for r in PLANTED if r not in caught), range(SEEDS_MAX)).items()
        if seed is not None
    }
    for rule, seed in caught.items():
        print(f"{rule}: seed {seed}")
    for seed in set(caught.values()):
        assert failure_of(seed) is None, f"seed {seed} fails with all rules in force"
    missed = PLANTED.keys() - caught.keys()
    assert not missed, f"nobody notices in {SEEDS_MAX} seeds: {missed}"

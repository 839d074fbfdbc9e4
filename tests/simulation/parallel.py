"""Many seeds on all cores. A seed that fails is told with its story; a child that dies is a failure too."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import islice
from multiprocessing import get_context

from tests.simulation import planted_resources, planted_rules, planted_schedules, planted_shares
from tests.simulation.cluster import Failure, play
from tests.simulation.planted import plant

assert planted_rules  # imported for the rules that they add
assert planted_schedules
assert planted_shares
assert planted_resources

CHUNK = 20
PROCESSES = 2


def failure_of(seed: int, planted: str = "") -> Failure | None:
    """How the seed fails, if it does, with a rule switched off or with all of them."""
    with plant(planted) if planted else nullcontext():
        try:
            play(seed)
        except Failure as failure:
            return failure
    return None


def _failures(seeds: tuple[int, ...]) -> list[Failure]:
    return [failure for seed in seeds if (failure := failure_of(seed)) is not None]


def _chunks(seeds: Iterable[int]) -> Iterator[tuple[int, ...]]:
    rest = iter(seeds)
    while chunk := tuple(islice(rest, CHUNK)):
        yield chunk


def failures_of(seeds: Iterable[int]) -> Iterator[Failure]:
    """The failures among `seeds`, in their order."""
    # Spawned, since a fork would take the threads of other tests' libraries along, half of them.
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for found in pool.map(_failures, _chunks(seeds)):
            yield from found


def _caught(planted: str, seeds: range) -> tuple[str, int | None]:
    return planted, next((seed for seed in seeds if failure_of(seed, planted) is not None), None)


def first_catches(rules: Iterable[str], seeds: range) -> dict[str, int | None]:
    """For each rule that is switched off, the first of `seeds` that notices."""
    rules = list(rules)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        return dict(pool.map(_caught, rules, [seeds] * len(rules)))

"""Rules of shares, each switched off at its smallest place."""

from unittest.mock import patch

from ftjm.core import placement, queue_order
from ftjm.core.evolve import shares as evolve_shares
from ftjm.core.state.queues import ShareUsage
from tests.simulation.planted import Patch, planted


@planted
def the_usage_of_shares_makes_no_difference() -> list[Patch]:
    return [patch.object(queue_order, "rank", lambda _usage, _weight: 0)]


@planted
def what_an_attempt_has_used_is_not_corrected() -> list[Patch]:
    def correct(row: ShareUsage, *_about: int) -> None:
        row.live -= 1

    return [patch.object(evolve_shares, "correct", correct)]


@planted
def a_dispatch_does_not_say_what_it_went_past() -> list[Patch]:
    return [patch.object(placement, "SHARING_LEVEL", 99)]

"""Fair shares: how the jobs of one queue share its slot time, by weights.

A job names its share (`share_identifier`); jobs that name none are of a share without a name. The next job of a queue
is of the share that has used least for its weight, and within the share the one with the lowest score:

    rank = usage / weight        lower first; of equal ranks, the lower score first

**Usage** is slot time, in whole microseconds. An attempt is charged at its dispatch, with the mean duration of its
share's attempts, and corrected when it is over and its duration is known. If it were charged at its end alone, a share
would get all of many slots that become free at once. An attempt counts for a millisecond at least, since durations are
reported in milliseconds.

**Decay**: usage loses half of its value in each `half_life` of the queue, so that what a share used long ago does not
count against it. Time is divided into steps, 16 in each half-life, that begin at the same instants for all shares; at
each step usage is multiplied by 2^(-1/16), in integers, with a table of 16 factors of 32 bits. That is done when a row
is touched, for all steps since it was touched last. Idle shares cost nothing.

**Reservation**, after AWS Batch's `computeReservation`: while n shares have attempts with a worker, these use at most
capacity * (1 - (reservation / 100)^n), rounded down, of the slots that are offered to the queue, and one at least. So
some slots stay free for shares that have none yet; the more shares are active, the fewer.
https://docs.aws.amazon.com/batch/latest/APIReference/API_FairsharePolicy.html

Only integers are used, since the rows are part of the state's hash.
"""

from ftjm.core.state.queues import HALF_LIFE_MS, QueueDeclaration, ShareUsage

STEPS = 16
"""Steps of decay in a half-life."""
FACTORS = (
    *(0x100000000, 0xF5257D15, 0xEAC0C6E8, 0xE0CCDEEC, 0xD744FCCB, 0xCE248C15, 0xC5672A11, 0xBD08A39F),
    *(0xB504F334, 0xAD583EEA, 0xA5FED6AA, 0x9EF53261, 0x9837F052, 0x91C3D374, 0x8B95C1E4, 0x85AAC368),
)
"""2^(32 - step/16), rounded, for each step."""
US_OF_MS = 1_000
USAGE_MAX = 1 << 62
MEAN_OF = 8
"""Each attempt moves its share's mean by one eighth of the difference, once so many have ended."""
RANK_SHIFT = 20
"""A rank is in units of 2^-20 microseconds for a weight of 1."""


def half_life_of(declaration: QueueDeclaration | None) -> int:
    """The half-life of usage in a queue, ms."""
    return HALF_LIFE_MS if declaration is None else declaration.spec.half_life_ms


def weights_of(declaration: QueueDeclaration | None) -> dict[str, int]:
    """The weights of the shares that a queue lists. Others have the weight 1."""
    return {} if declaration is None else {share.identifier: share.weight for share in declaration.spec.shares}


def usage_at(row: ShareUsage, half_life_ms: int, now: int) -> int:
    """The usage of a share at the time `now` (ms), microseconds."""
    steps = now * STEPS // half_life_ms - row.at * STEPS // half_life_ms
    if steps <= 0:
        return row.usage
    return (row.usage >> steps // STEPS) * FACTORS[steps % STEPS] >> 32


def rank(usage: int, weight: int) -> int:
    """The place of a share among those of its queue, lower first."""
    return (usage << RANK_SHIFT) // weight


def charge(row: ShareUsage, half_life_ms: int, now: int) -> int:
    """Charge a share with an attempt that is dispatched at `now`, ms. Returns the charge, microseconds."""
    row.usage = min(usage_at(row, half_life_ms, now) + row.mean, USAGE_MAX)
    row.at = now
    row.live += 1
    return row.mean


def correct(row: ShareUsage, half_life_ms: int, now: int, charged: int, took: int) -> None:
    """An attempt that was charged so much is over at `now` (ms), and has used a slot for `took` microseconds."""
    row.usage = min(max(0, usage_at(row, half_life_ms, now) + took - charged), USAGE_MAX)
    row.at = now
    row.live -= 1


def learn(row: ShareUsage, took: int) -> None:
    """An attempt of a share has ended by itself after `took` microseconds: the mean follows."""
    row.ended = min(row.ended + 1, MEAN_OF)
    row.mean += (took - row.mean) // row.ended


def slots_allowed(capacity: int, reservation: int, active: int) -> int:
    """So many of a queue's slots its active shares may use.

    Args:
        capacity: the slots that are offered to the queue.
        reservation: percent, 0 to 99.
        active: how many shares have attempts with a worker.
    """
    whole: int = 100**active
    reserved: int = reservation**active
    return max(1, capacity * (whole - reserved) // whole)

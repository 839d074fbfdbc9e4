"""A queue as users declare it, and the `QueueSpec` of the log.

    concurrency: 20                              at most so many of its jobs have a worker at a time
    rate: {limit: 100, per: 1m, burst: 10}       at most so many attempts start
    ageing: 5m                                   so long a wait is worth one point of priority; or off
    concurrency_keys: {limit: 1, on_conflict: wait}    how many of its jobs with one key have a worker at a time
    dead_letter: {retention: 30d}                how long jobs that failed for good are kept at least
    waiting_limits: [{reason: Resources, after: 1h, action: notify}]   what happens to jobs that wait for long
    defaults: {max_attempts: 3, timeout: 10m}    what its jobs get in fields that their senders leave open
    weight: 2                                    among queues that share workers
    shares: [{identifier: finance, weight: 3}]   its jobs share its slots so
    half_life: 10m                               what a share used counts half after this time
    compute_reservation: 50                      percent of the slots that are kept for shares to come

Every field may be left out. `written` gives the fields that stand for a `QueueSpec`: what `ftjm queue describe -o yaml`
prints is what `ftjm apply -f` takes.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ftjm.core.limits import (
    AGEING_MS_MAX,
    DEAD_LETTER_MS_MAX,
    HALF_LIFE_MS_MAX,
    HALF_LIFE_MS_MIN,
    RATE_MAX,
    RATE_PER_MS_MAX,
    SHARES_MAX,
    SMALL_MAX,
    WAITING_LIMITS_MAX,
    WAITING_MS_MAX,
    WAITING_MS_MIN,
    WEIGHT_MAX,
)
from ftjm.core.queue_gates import rate_fault
from ftjm.core.state.queues import AGEING_MS, HALF_LIFE_MS, OnConflict, QueueSpec, Share, WaitingAction, WaitingLimit
from ftjm.core.waiting_limits import REASONS
from ftjm.runtime.durations import format_duration
from ftjm.runtime.errors import short
from ftjm.specs.executors import Fields
from ftjm.specs.fields import Name, at_most, between, duration, number_of, one_of, shown, written_as, wrong_value
from ftjm.specs.job_defaults import DefaultsFields, job_defaults
from ftjm.specs.written_job import written_fields

OFF = "off"
"""An ageing by which waiting makes no difference."""
CONCURRENCY_MAX = SMALL_MAX
RESERVATION_MAX = 99
BURST_MS = 100
"""A burst that is left out lets as many attempts start at once as the rate does in this time."""
TO_COME = ("resources", "gang", "workers", "placement")
"""Fields that a later build has. They are refused in words, since their authors have not misspelt anything."""


def _concurrency(value: Any) -> int:
    number = number_of(int, value)
    if number is None or number < 1:
        found = short(value) if isinstance(value, str) else shown(value)
        raise ValueError(f"expected 1 or more, but found {found}; leave it out for no limit")
    if number > CONCURRENCY_MAX:
        raise wrong_value(f"at most {CONCURRENCY_MAX}", value)
    return int(number)


def _per(value: Any) -> int:
    if not 0 < (ms := duration(value)) <= RATE_PER_MS_MAX:
        raise wrong_value(f"more than 0, and at most {format_duration(RATE_PER_MS_MAX)}", value)
    return ms


def _after(value: Any) -> int:
    if not WAITING_MS_MIN <= (ms := duration(value)) <= WAITING_MS_MAX:
        raise wrong_value(f"at least {format_duration(WAITING_MS_MIN)}", value)
    return ms


def _retention(value: Any) -> int:
    if not 0 < (ms := duration(value)) <= DEAD_LETTER_MS_MAX:
        raise wrong_value("more than 0", value)
    return ms


def _ageing(value: Any) -> int:
    if value == OFF:
        return AGEING_MS_MAX
    try:
        ms = duration(value)
    except ValueError as error:
        raise ValueError(str(error).replace(", but", f", or {OFF}, but", 1)) from None
    if not ms:
        raise wrong_value(f"more than 0, or {OFF}", value)
    return ms


def _half_life(value: Any) -> int:
    if not HALF_LIFE_MS_MIN <= (ms := duration(value)) <= HALF_LIFE_MS_MAX:
        raise wrong_value(f"{format_duration(HALF_LIFE_MS_MIN)} to {format_duration(HALF_LIFE_MS_MAX)}", value)
    return ms


Concurrency = Annotated[
    int, BeforeValidator(_concurrency), written_as("integer", minimum=1, maximum=CONCURRENCY_MAX, examples=[20])
]
Starts = Annotated[int, between(int, 1, RATE_MAX), written_as("integer", minimum=1, maximum=RATE_MAX, examples=[100])]
ConflictAction = one_of(OnConflict)
Per = Annotated[int, BeforeValidator(_per), written_as("string", examples=["1s", "1m", "1h"])]
After = Annotated[int, BeforeValidator(_after), written_as("string", examples=["1h", "90s"])]
_waiting_reason = one_of(cast("type[StrEnum]", StrEnum("Reason", {name: name for name in REASONS})))
_waiting_action = one_of(WaitingAction)
Retention = Annotated[int, BeforeValidator(_retention), written_as("string", examples=["30d", "12h"])]
Weight = Annotated[int, between(int, 1, WEIGHT_MAX), written_as("integer", minimum=1, maximum=WEIGHT_MAX, examples=[2])]
HalfLife = Annotated[int, BeforeValidator(_half_life), written_as("string", examples=["10m", "1h", "7d"])]
Reservation = Annotated[
    int, between(int, 0, RESERVATION_MAX), written_as("integer", minimum=0, maximum=RESERVATION_MAX, examples=[50])
]
Ageing = Annotated[int, BeforeValidator(_ageing), written_as("string", examples=["1m", "30s", OFF])]


class RateFields(Fields):
    """How many attempts may start in a time. In any span of it, at most `burst` more than `limit` start."""

    limit: Starts = Field(description="So many attempts may start in each `per`.")
    per: Per = Field(
        description=f"The time that `limit` is for, at most {format_duration(RATE_PER_MS_MAX)}. Starts are spread "
        "evenly over it."
    )
    burst: Starts | None = Field(
        None,
        description="So many attempts may start at once after a quiet time. Left out: the limit's share of 0.1 s, at "
        "least 1, so that a scheduler that looks some times a second reaches the rate.",
    )

    @model_validator(mode="after")
    def _can_be_kept(self) -> RateFields:
        if fault := rate_fault(_rate(self)):
            raise ValueError(fault)
        return self


class ConcurrencyKeyFields(Fields):
    """What holds for each `concurrency_key` of the queue's jobs."""

    limit: Starts = Field(
        1, description="So many jobs with the same key have a worker, or are about to get one, at a time, at most."
    )
    on_conflict: ConflictAction = Field(  # type: ignore[valid-type]
        OnConflict.WAIT,
        description="What becomes of a job whose key is taken. `wait`: it waits. `replace`: the jobs of the key that "
        "came before it are cancelled, and it waits for the end of those that run. `drop`: it ends as SKIPPED.",
    )


class DeadLetterFields(Fields):
    """What holds for jobs of the queue that failed for good."""

    retention: Retention = Field(
        description="So long they are kept at least, if their own retention is shorter. It holds for jobs that fail "
        "from then on. A job that is run again and succeeds has its own retention again."
    )


class ShareFields(Fields):
    """A share of the queue: the jobs that name it as their `share_identifier`."""

    identifier: Name = Field(description="The `share_identifier` of its jobs.")
    weight: Weight = Field(
        1,
        description="Under saturation, shares have slot time in proportion to their weights. AWS Batch's "
        "`weightFactor` is the inverse: there, a lower one gets more.",
    )


class WaitingLimitFields(Fields):
    """How long a job of the queue may wait for one reason, and what happens then."""

    reason: _waiting_reason | None = Field(  # type: ignore[valid-type]
        None, description="What the job waits for, as `ftjm explain` names it. Left out: whichever it is."
    )
    after: After = Field(
        description=f"The limit acts on a job that has waited for so long, at least {format_duration(WAITING_MS_MIN)}, "
        "and waits for the reason then. A job is looked at again whenever so much time has passed once more."
    )
    action: _waiting_action = Field(  # type: ignore[valid-type]
        WaitingAction.NOTIFY,
        description="`fail`: the job fails. `hold`: it is held. `notify`: an event JobStuck tells of it.",
    )


class QueueFields(Fields):
    """What a queue's declaration says. A field that is left out has its default."""

    concurrency: Concurrency | None = Field(
        None, description="So many of the queue's jobs have a worker at a time, at most. Left out: no limit."
    )
    rate: RateFields | None = Field(
        None,
        description="How many attempts may start in a time. In any span W, at most burst + W * limit / per start, "
        "whichever scheduler decides. Left out: no limit.",
    )
    concurrency_keys: ConcurrencyKeyFields | None = Field(
        None, description="What holds for jobs that have the same `concurrency_key`. Left out: one of them at a time."
    )
    dead_letter: DeadLetterFields | None = Field(
        None, description="How long jobs that failed for good are kept. Left out: as all others."
    )
    waiting_limits: Annotated[list[WaitingLimitFields], at_most(WAITING_LIMITS_MAX, "limits", "leave some out")] = (
        Field(
            default=[],
            description="What happens to jobs that have waited for long.",
            json_schema_extra={"maxItems": WAITING_LIMITS_MAX},
        )
    )
    ageing: Ageing | None = Field(
        None,
        description="So long a wait is worth one point of priority: a job of priority 40 goes before one of priority "
        "50 that became eligible 10 times `ageing` later. `off`: a higher priority always goes first.",
        json_schema_extra={"default": format_duration(AGEING_MS)},
    )
    defaults: DefaultsFields | None = Field(  # type: ignore[valid-type]
        None,
        description="What its jobs get in fields that their senders leave open. A job that is there already keeps what "
        "it has.",
    )
    weight: Weight = Field(
        1, description="Queues that wait for the same workers have their slots in proportion to their weights."
    )
    shares: list[ShareFields] | None = Field(
        None,
        max_length=SHARES_MAX,
        description="The shares of the queue, and their weights. A job may name another share; that has the weight 1, "
        "and so have the jobs that name none, all together.",
    )
    half_life: HalfLife | None = Field(
        None,
        description="What a share has used counts half after this time: the shorter, the sooner a share that used much "
        f"has its turn again. {format_duration(HALF_LIFE_MS_MIN)} to {format_duration(HALF_LIFE_MS_MAX)}.",
        json_schema_extra={"default": format_duration(HALF_LIFE_MS)},
    )
    compute_reservation: Reservation = Field(
        0,
        description="Percent of the queue's slots that stay free for shares that have no job with a worker yet, to the "
        "power of the number of shares that have one: of 50, one share leaves 50 % free, two leave 25 %, three 12.5 %.",
    )

    @field_validator("shares")
    @classmethod
    def _names_differ(cls, shares: list[ShareFields] | None) -> list[ShareFields] | None:
        names = Counter(share.identifier for share in shares or ())
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"expected each identifier once, but found {twice[0]} more often; leave one of them out")
        return shares


def _rate(fields: RateFields) -> QueueSpec:
    """The rate alone, with its burst."""
    burst = fields.burst or max(1, -(-fields.limit * BURST_MS // fields.per))
    return QueueSpec(rate_limit=fields.limit, rate_per_ms=fields.per, rate_burst=min(burst, RATE_MAX))


def queue_spec(fields: QueueFields) -> QueueSpec:
    """The `QueueSpec` that validated fields stand for."""
    given: dict[str, Any] = {
        "concurrency": fields.concurrency,
        "ageing_ms": fields.ageing,
        "defaults": None if fields.defaults is None else job_defaults(fields.defaults),
        "weight": fields.weight,
        "half_life_ms": fields.half_life,
        "compute_reservation": fields.compute_reservation,
    }
    if fields.shares:
        given["shares"] = [Share(share.identifier, share.weight) for share in fields.shares]
    if fields.rate is not None:
        rate = _rate(fields.rate)
        given |= {"rate_limit": rate.rate_limit, "rate_per_ms": rate.rate_per_ms, "rate_burst": rate.rate_burst}
    if (keys := fields.concurrency_keys) is not None:
        given |= {"key_concurrency": keys.limit, "on_conflict": keys.on_conflict}
    given["waiting_limits"] = [
        WaitingLimit(str(one.reason or ""), one.after, one.action) for one in fields.waiting_limits
    ]
    if fields.dead_letter is not None:
        given["dead_letter_ms"] = fields.dead_letter.retention
    return QueueSpec(**{name: value for name, value in given.items() if value is not None})


def written(spec: QueueSpec) -> dict[str, Any]:
    """The fields that users write for this `QueueSpec`: its limits, and the ageing, also where that is the default.

    So a declaration that is written and read again is the same, also under a build with other defaults.
    """
    found: dict[str, Any] = {"concurrency": spec.concurrency} if spec.concurrency else {}
    if spec.rate_limit:
        found["rate"] = {
            "limit": spec.rate_limit,
            "per": format_duration(spec.rate_per_ms),
            "burst": spec.rate_burst,
        }
    if (keys := (spec.key_concurrency, spec.on_conflict)) != (QueueSpec().key_concurrency, OnConflict.WAIT):
        found["concurrency_keys"] = {"limit": keys[0], "on_conflict": str(keys[1])}
    if spec.dead_letter_ms:
        found["dead_letter"] = {"retention": format_duration(spec.dead_letter_ms)}
    if spec.waiting_limits:
        found["waiting_limits"] = [
            ({"reason": one.reason} if one.reason else {})
            | {"after": format_duration(one.after_ms), "action": one.action.value}
            for one in spec.waiting_limits
        ]
    found["ageing"] = OFF if spec.ageing_ms >= AGEING_MS_MAX else format_duration(spec.ageing_ms)
    for one in spec.defaults:
        found["defaults"] = written_fields(one.spec, one.fields)
    if spec.weight != 1:
        found["weight"] = spec.weight
    if spec.shares:
        found["shares"] = [{"identifier": share.identifier, "weight": share.weight} for share in spec.shares]
    if spec.shares or spec.half_life_ms != HALF_LIFE_MS:
        found["half_life"] = format_duration(spec.half_life_ms)
    if spec.compute_reservation:
        found["compute_reservation"] = spec.compute_reservation
    return found

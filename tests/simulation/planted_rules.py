"""Rules of decisions, of liveness and of workers, each switched off at its smallest place."""

from typing import Any
from unittest.mock import patch

import msgspec

from ftjm.core import attempts, decide
from ftjm.core import commands as c
from ftjm.core.model import Job
from ftjm.core.state import State
from ftjm.engine.liveness import Liveness
from ftjm.worker import session as worker_session
from ftjm.worker.life import Life
from ftjm.worker.session import Session
from tests.simulation.guards import Guard
from tests.simulation.planted import Patch, planted

# -- decisions


@planted
def a_stale_attempt_is_accepted() -> list[Patch]:
    real = attempts._reported

    def reported(state: State, command: c.AttemptReport) -> Any:
        job = state.job(f"{command.queue}/{command.job_id}")
        return job if job is not None and job.session else real(state, command)

    return [patch.object(attempts, "_reported", reported)]


@planted
def a_job_may_be_submitted_twice() -> list[Patch]:
    real = decide._HANDLERS[c.SubmitJob]

    def submit(state: State, command: c.SubmitJob, now: int, policy: Any) -> Any:
        with patch.object(state, "job", lambda _key: None):
            return real(state, command, now, policy)

    return [patch.dict(decide._HANDLERS, {c.SubmitJob: submit})]


@planted
def command_ids_are_not_remembered() -> list[Patch]:
    return [patch.object(State, "remembers", lambda _self, _command_id: False)]


@planted
def losses_are_not_counted() -> list[Patch]:
    real = attempts.lost

    def lost(state: State, key: str, job: Job, reason: str, now: int) -> Any:
        return real(state, key, msgspec.structs.replace(job, losses=-9), reason, now)

    return [patch.object(attempts, "lost", lost)]


@planted
def an_attempt_that_may_continue_is_given_up_with_its_session() -> list[Patch]:
    real = decide._lost_with

    def lost_with(state: State, session: str, reason: str, now: int, _past_lease_ms: int | None = None) -> Any:
        return real(state, session, reason, now)

    return [patch.object(decide, "_lost_with", lost_with)]


# -- who is there


@planted
def silence_does_not_start_again_with_a_new_owner() -> list[Patch]:
    def silence(_self: Liveness, heard: Any, until: int, _since: int = 0) -> int:
        return until - (heard.at if heard else 0)

    return [patch.object(Liveness, "_silence", silence)]


@planted
def a_worker_is_given_up_without_reading_the_lanes_to_their_ends() -> list[Patch]:
    def suspects(self: Liveness, now: int) -> bool:
        self.confirm(now)
        return False

    return [patch.object(Liveness, "suspects", suspects)]


# -- workers


@planted
def a_worker_takes_repeated_messages() -> list[Patch]:
    def accept(self: Session, message: Any) -> bool:
        return bool(message.session == self.name)

    return [patch.object(Session, "accept", accept)]


@planted
def starts_do_not_check_the_deadline() -> list[Patch]:
    return [
        patch.object(Guard, "may_start", lambda _self, _session, _now: True),
        patch.object(Session, "in_lease", lambda _self, _now: True),
        patch.object(Session, "observe", lambda _self, _now: False),
    ]


@planted
def the_guard_does_not_kill_at_the_deadline() -> list[Patch]:
    return [patch.object(Guard, "enforce", lambda _self: None)]


@planted
def a_lapsed_session_goes_on() -> list[Patch]:
    def observe(_self: Session, _now: int) -> bool:
        return False

    return [patch.object(Session, "observe", observe)]


@planted
def the_lease_counts_from_the_acknowledgement() -> list[Patch]:
    real = Session.acknowledged

    def acknowledged(self: Session, _token: int, now: int) -> None:
        real(self, now, now)

    return [patch.object(Session, "acknowledged", acknowledged)]


@planted
def the_deadline_has_no_margin() -> list[Patch]:
    return [patch.object(worker_session, "GUARD_MARGIN_MS", 0)]


@planted
def a_full_worker_does_not_decline() -> list[Patch]:
    real = Life._refusal

    def refusal(self: Life, session: Session, order: Any, now: int) -> str:
        why = real(self, session, order, now)
        return "" if "slots are taken" in why else why

    return [patch.object(Life, "_refusal", refusal)]

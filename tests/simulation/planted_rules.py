"""Rules of decisions, of liveness and of workers, each switched off at its smallest place."""

from typing import Any
from unittest.mock import patch

import msgspec

from ftjm.core import ageing, job_defaults, job_gates, placement, queue_gates, waiting_limits
from ftjm.core.decide import attempts, bulk, keys, processes, sessions, submissions, waiting
from ftjm.core.decide import handlers as decide
from ftjm.core.decide.timers import decide_timer
from ftjm.core.evolve import attempts as evolve_attempts
from ftjm.core.evolve import handlers as evolve
from ftjm.core.evolve import keys as evolve_keys
from ftjm.core.placement import Placement, match
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason, Job
from ftjm.core.state.processes import Bulk
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.engine import batch
from ftjm.engine.liveness import Liveness
from ftjm.engine.partition import Partition
from ftjm.worker.rules import session as worker_session
from ftjm.worker.rules import starting, worker_life
from ftjm.worker.rules.held import AtHand
from ftjm.worker.rules.session import WorkerSession
from tests.simulation import guards, network
from tests.simulation.guards import Guard
from tests.simulation.planted import Patch, planted

# -- decisions


@planted
def a_paused_queue_goes_on() -> list[Patch]:
    def blind(state: State, *arguments: Any) -> Placement:
        with patch.object(state, "queue_status", lambda _queue: None):
            return match(state, *arguments)

    return [patch.object(batch, "match", blind)]


@planted
def a_queue_runs_more_jobs_than_it_is_declared_to() -> list[Patch]:
    return [patch.dict(queue_gates.GATES, {"QueueLimit": lambda _rows, _now: queue_gates.OPEN})]


@planted
def a_queue_starts_more_jobs_than_its_rate() -> list[Patch]:
    return [patch.dict(queue_gates.GATES, {"RateLimit": lambda _rows, _now: queue_gates.OPEN})]


@planted
def a_rate_begins_anew_with_each_owner() -> list[Patch]:
    def lead(partition: Partition, *arguments: Any) -> None:
        real(partition, *arguments)
        for queue in [key[1:].decode() for key, _ in partition.state.rows.scan(b"h", b"i")]:
            partition.state._rates[queue] = None

    real = Partition.lead
    return [patch.object(Partition, "lead", lead)]


@planted
def a_concurrency_key_is_had_by_more_jobs_than_may() -> list[Patch]:
    return [
        patch.dict(job_gates.GATES, {"ConcurrencyLimit": lambda *_arrival: None}),
        patch.object(evolve_keys, "free_places", lambda *_of: 1),
    ]


@planted
def a_concurrency_key_that_is_free_is_left_free() -> list[Patch]:
    def follow_up(*arguments: Any) -> list[e.Event]:
        return [event for event in keys.follow_up(*arguments) if not isinstance(event, e.JobQueued)]

    return [patch.object(batch, "follow_up", follow_up)]


@planted
def a_queue_gives_its_jobs_no_defaults() -> list[Patch]:
    return [patch.object(submissions, "filled", lambda spec, _explicit, _defaults: spec)]


@planted
def a_queues_defaults_win_over_what_a_job_gives() -> list[Patch]:
    real = job_defaults.filled
    return [patch.object(submissions, "filled", lambda spec, _explicit, defaults: real(spec, [], defaults))]


@planted
def a_limit_of_waiting_acts_whatever_a_job_waits_for() -> list[Patch]:
    def acting(limits: Any, since: int, due_at: int, now: int, _reason: str) -> Any:
        return next((one for limit in limits if (one := real([limit], since, due_at, now, limit.reason))), None)

    real = waiting_limits.acting_limit
    return [patch.object(waiting, "acting_limit", acting)]


@planted
def waiting_makes_no_difference() -> list[Patch]:
    return [patch.object(ageing, "score", lambda _finalized, _declaration, job: -job.priority)]


@planted
def a_changed_ageing_leaves_waiting_jobs_where_they_are() -> list[Patch]:
    def nothing(_state: State, queue: str, *_arguments: Any) -> e.QueueReordered:
        return e.QueueReordered(queue=queue, jobs=[], next_key=b"")

    return [patch.object(processes, "_reorder", nothing)]


@planted
def a_bulk_request_is_about_jobs_that_come_later_too() -> list[Patch]:
    def begun(state: State, event: e.BulkBegun, key: str) -> None:
        with patch.object(state.counters, "order", 1 << 40):
            real(state, event, key)

    real = evolve._HANDLERS[e.BulkBegun]
    return [patch.dict(evolve._HANDLERS, {e.BulkBegun: begun})]


@planted
def a_bulk_request_begins_anew_with_each_owner() -> list[Patch]:
    def begins_anew(state: State, name: str, request: Bulk, *arguments: Any) -> Any:
        if id(state) not in known:
            known.add(id(state))
            request = msgspec.structs.replace(request, next_job="")
        return real(state, name, request, *arguments)

    known: set[int] = set()
    real = bulk.next_slice
    return [patch.object(bulk, "next_slice", begins_anew), patch.object(bulk, "LOOKED_MAX", 3)]


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
    real = sessions.lost_attempts

    def lost_attempts(state: State, session: str, reason: str, now: int, _past_lease_ms: int | None = None) -> Any:
        return real(state, session, reason, now)

    return [patch.object(sessions, "lost_attempts", lost_attempts)]


@planted
def the_memory_of_a_session_ends_with_its_attempts() -> list[Patch]:
    def decide_timer_and_lose(state: State, timer: Timer, now: int, policy: Any) -> Any:
        found = decide_timer(state, timer, now, policy)
        lost = sessions.lost_attempts(state, timer.key, "LAPSED", now) if timer.kind is TimerKind.SESSION else []
        return [*lost, *found]

    return [
        patch.object(batch, "decide_timer", decide_timer_and_lose),
        patch.object(State, "_holds_attempts", lambda _self, _timer: False),
    ]


@planted
def a_deadline_is_checked_by_its_timer_alone() -> list[Patch]:
    return [patch.object(batch, "match", lambda state, offers, limit, _now: match(state, offers, limit, 0))]


# -- who is there


@planted
def silence_does_not_start_again_with_a_new_owner() -> list[Patch]:
    def silence(_self: Liveness, heard: Any, until: int, _since: int = 0) -> int:
        return until - (heard.at if heard else 0)

    return [patch.object(Liveness, "_silence", silence)]


@planted
def a_worker_is_given_up_without_reading_the_lanes_to_their_ends() -> list[Patch]:
    def suspects_in_ms(self: Liveness, now: int) -> int:
        self.confirm(now)
        return 1

    return [patch.object(Liveness, "suspects_in_ms", suspects_in_ms)]


# -- workers


@planted
def a_worker_takes_repeated_messages() -> list[Patch]:
    def accept(self: WorkerSession, message: Any) -> bool:
        return bool(message.session == self.name)

    return [patch.object(WorkerSession, "accept", accept)]


@planted
def a_session_takes_no_request_to_stop_once_it_was_closed() -> list[Patch]:
    accept, close = WorkerSession.accept, WorkerSession.close_by_owner
    closed: set[tuple[str, int]] = set()

    def close_by_owner(self: WorkerSession, partition: int) -> Any:
        closed.add((self.name, partition))
        return close(self, partition)

    def accept_until_closed(self: WorkerSession, message: Any) -> bool:
        return (self.name, message.partition) not in closed and accept(self, message)

    return [
        patch.object(WorkerSession, "close_by_owner", close_by_owner),
        patch.object(WorkerSession, "accept", accept_until_closed),
    ]


@planted
def starts_do_not_check_the_deadline() -> list[Patch]:
    return [
        patch.object(Guard, "may_start", lambda _self, _session, _now: True),
        patch.object(WorkerSession, "is_in_lease", lambda _self, _now: True),
        patch.object(WorkerSession, "check_lapse", lambda _self, _now: False),
        patch.object(WorkerSession, "check_pause", lambda _self, _token, _logged_ms: []),
    ]


@planted
def the_guard_does_not_kill_at_the_deadline() -> list[Patch]:
    return [patch.object(Guard, "enforce", lambda _self: None)]


@planted
def a_lapsed_session_goes_on() -> list[Patch]:
    def check_lapse(_self: WorkerSession, _now: int) -> bool:
        return False

    return [
        patch.object(WorkerSession, "check_lapse", check_lapse),
        patch.object(WorkerSession, "check_pause", lambda _self, _token, _logged_ms: []),
    ]


@planted
def the_lease_counts_from_the_acknowledgement() -> list[Patch]:
    real = WorkerSession.heartbeat_acknowledged

    def heartbeat_acknowledged(self: WorkerSession, _token: int, now: int) -> None:
        real(self, now, now)

    return [
        patch.object(WorkerSession, "heartbeat_acknowledged", heartbeat_acknowledged),
        # Rarely does a slow acknowledgement alone make the difference: one seed in thousands.
        patch.object(network, "SLOW_ACKNOWLEDGEMENTS", 1.0),
        patch.object(WorkerSession, "check_pause", lambda _self, _token, _logged_ms: []),
    ]


@planted
def a_session_goes_by_the_clock_of_its_host_alone() -> list[Patch]:
    return [patch.object(WorkerSession, "check_pause", lambda _self, _token, _logged_ms: [])]


@planted
def the_deadline_has_no_margin() -> list[Patch]:
    # Rarely is a guard as slow as it may be: one seed in thousands.
    return [patch.object(worker_session, "GUARD_MARGIN_MS", 0), patch.object(guards, "FAST_MS", guards.SLOW_MS)]


@planted
def a_start_takes_no_slot() -> list[Patch]:
    real = starting.start_at_hand

    def start_at_hand(session: WorkerSession, _free: int, now: int) -> Any:
        with patch.object(session.offers, "granted", lambda _partition: 1_000):
            yield from real(session, 1_000, now)

    return [patch.object(worker_life, "start_at_hand", start_at_hand)]


@planted
def what_was_sent_back_is_started_all_the_same() -> list[Patch]:
    def take_late(self: AtHand, before: int, *_: Any) -> Any:
        return [dispatch for since, dispatch in self._since.values() if since <= before]

    return [patch.object(AtHand, "take_late", take_late)]


@planted
def the_loss_of_what_may_not_have_started_is_charged() -> list[Patch]:
    def is_charged(_job: Job, reason: str) -> bool:
        return reason != FailureReason.GUARD_LOST_BESIDE

    return [patch.object(attempts, "is_charged", is_charged), patch.object(evolve_attempts, "is_charged", is_charged)]


@planted
def a_job_whose_loss_is_not_tried_again_goes_ahead() -> list[Patch]:
    return [patch.object(placement, "_may_go_ahead", lambda _state, _key, _job: True)]


@planted
def an_owner_sends_more_ahead_than_is_offered() -> list[Patch]:
    def more(state: State, offers: Any, limit: int, now: int) -> Any:
        return match(state, [msgspec.structs.replace(one, ahead=one.ahead + 2) for one in offers], limit, now)

    return [patch.object(batch, "match", more)]

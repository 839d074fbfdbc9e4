"""`decide` and `evolve` follow the table of a job's life."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.decide.decision import Rejected
from ftjm.core.decide.handlers import _HANDLERS
from ftjm.core.errors import UndecodableError
from ftjm.core.evolve import handlers as evolve_module
from ftjm.core.lifecycle import LIFECYCLE, may
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records import messages as m
from ftjm.core.state.model import LIVE, TERMINAL, FailureReason, JobState, OnWorkerLoss
from tests.core.story import (
    NOW,
    REPLY_TO,
    Story,
    attempt_failed,
    attempt_lost,
    cancelled,
    checkpointed,
    command,
    declined,
    dispatched,
    failed,
    held,
    report,
    rerun,
    started,
    stop_requested,
    submit,
    submitted,
    succeeded,
    worker_lost,
)

WAYS: dict[str, tuple[e.Event, ...]] = {
    "absent": (),
    "ready": (submitted(max_attempts=2),),
    "scheduled": (submitted(due_at=NOW + 50, deadline_at=NOW + 900),),
    "held": (submitted(held=True),),
    "held in backoff": (submitted(), dispatched(), attempt_failed(retry_at=NOW + 50), held()),
    "dispatched": (submitted(max_attempts=2, awaits=True, reply=REPLY_TO), dispatched()),
    "dispatched, to stop": (submitted(max_attempts=2), dispatched(), stop_requested()),
    "dispatched again": (submitted(max_attempts=3), dispatched(), declined(), dispatched(attempt=2)),
    "running": (submitted(deadline_at=NOW + 900), dispatched(), started()),
    "running, to stop": (submitted(on_worker_loss=OnWorkerLoss.HOLD), dispatched(), started(), stop_requested()),
    "running, cut off": (submitted(continue_for_ms=10**9), dispatched(), started(), worker_lost()),
    "running, to be held": (submitted(on_worker_loss=OnWorkerLoss.HOLD), dispatched(), started()),
    "running, to fail": (submitted(on_worker_loss=OnWorkerLoss.FAIL), dispatched(), started()),
    "in backoff": (submitted(max_attempts=2), dispatched(), attempt_failed(retry_at=NOW + 50)),
    "ready after a loss": (submitted(), dispatched(), attempt_lost(retry_at=NOW)),
    "running, with a checkpoint": (submitted(max_attempts=2), dispatched(), started(), checkpointed()),
    "in backoff, with a checkpoint": (
        submitted(max_attempts=2),
        dispatched(),
        checkpointed(),
        attempt_failed(retry_at=NOW + 50),
    ),
    "succeeded": (submitted(), dispatched(), succeeded(result=b"1")),
    "failed": (submitted(), dispatched(), attempt_failed(error="sad"), failed()),
    "cancelled": (submitted(), cancelled()),
    "run again": (submitted(), cancelled(), rerun()),
}

SPECS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(-1, 101),
        "held": st.booleans(),
        "delay_ms": st.sampled_from([0, 5, -1, 1 << 54]),
        "start_at": st.sampled_from([0, NOW - 5, NOW + 5]),
        "deadline_ms": st.sampled_from([0, 50]),
        "max_attempts": st.integers(0, 3),
        "backoff_factor": st.floats(),
        "payload": st.binary(max_size=3),
        "labels": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    },
)
NUMBERS = st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1))
REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "attempt": NUMBERS,
        "run": NUMBERS,
        "session": st.sampled_from(["s1", "s2", ""]),
        "started_at": NUMBERS,
        "ended_at": NUMBERS,
        "reason": st.sampled_from(FailureReason),
        "error": st.text(max_size=3),
        "exit_code": st.integers(-(2**31), 2**31 - 1),
        "result": st.sampled_from([b"", b"1", b"x" * 1_001]),
        "stdout": st.sampled_from([b"", b"x" * 2_000]),
        "data": st.sampled_from([b"", b"7", b"x" * 70_000]),
        "progress": st.floats(),
        "text": st.sampled_from(["", "half", "x" * 2_000]),
    },
)
COMMANDS: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(lambda awaits, fields: submit(awaits=awaits, **fields), st.booleans(), SPECS),
    st.builds(
        lambda kind, name, queue: command(kind, **{**name, **queue}),
        st.sampled_from([c.CancelJob, c.HoldJob, c.ReleaseJob, c.RerunJob]),
        st.fixed_dictionaries({}, optional={"command_id": st.sampled_from(["request-1", "request-2", "no name"])}),
        st.fixed_dictionaries({}, optional={"queue": st.text(max_size=3), "shard_key": st.sampled_from(["", "q#1"])}),
    ),
    st.builds(
        lambda kind, fields: report(kind, **fields),
        st.sampled_from([c.StartAttempt, c.CheckpointAttempt, c.CompleteAttempt, c.FailAttempt, c.DeclineAttempt]),
        REPORTS,
    ),
)


@pytest.mark.parametrize("way", WAYS)
@every(COMMANDS, st.sampled_from([0, 1, 49, 50, 10**6]), st.sampled_from(["", REPLY_TO]))
def test_every_command_in_every_state_is_refused_or_leads_where_the_table_goes(way, sent_command, later, reply):
    """The story applies each decision and then checks every row: no sequence may raise AssertionError."""
    story = Story().evolve(*WAYS[way]).written()
    before = story.state.job("q/a")
    from_state = before.state if before else None
    story.when(sent_command, at=NOW + later, reply=reply)
    if isinstance(story.decided, Rejected):
        assert story.decided.code
        assert story.decided.text
        return
    assert story.decided
    assert may(type(story.decided[0]), from_state)
    for event in story.decided:
        assert (event.queue, event.job_id) == ("q", "a")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("silent_ms", [0, 5_000, 10**12])
@pytest.mark.parametrize("closed", [False, True])
def test_every_loss_in_every_state_leads_where_the_table_goes(way, silent_ms, closed):
    story = Story().evolve(*WAYS[way]).written().when_silent("s1", silent_ms, closed)
    story.when_due(NOW + 10**10)
    if silent_ms:
        story.when_silent("s1", 10**12)  # an attempt that may continue is waited for, and not for ever
    job = story.state.job("q/a")
    if closed or silent_ms:
        assert job is None or not job.session, "no job waits for a session that is over for ever"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("later", [49, 50, 900, 10**11])
def test_all_timers_in_every_state_lead_where_the_table_goes(way, later):
    story = Story().evolve(*WAYS[way]).written()
    for _ in range(5):
        story.when_due(NOW + later)
    assert not list(story.state.due(NOW + later))


def test_the_table_and_the_handlers_know_the_same_records():
    assert set(_HANDLERS) == set(c.COMMANDS)
    assert set(evolve_module._HANDLERS) == set(e.EVENTS)
    of_jobs = {kind for kind in e.EVENTS if kind.__name__.startswith(("Job", "Attempt", "Submission"))}
    assert set(LIFECYCLE) == of_jobs
    every_record = [*c.COMMANDS, *e.EVENTS, *m.DISPATCHES, *m.REPLIES, *m.HEARTBEATS]
    assert len({kind.__name__ for kind in every_record}) == len(every_record)


def test_there_is_one_success_and_nothing_follows_an_end_but_a_rerun():
    after_the_end = {kind for kind, row in LIFECYCLE.items() for state, to in row.items() if state in TERMINAL}
    assert after_the_end == {e.SubmissionRepeated, e.JobRerun, e.JobForgotten}
    assert {kind for kind, row in LIFECYCLE.items() if any(JobState.SUCCEEDED in to for to in row.values())} == {
        e.AttemptSucceeded,
        e.SubmissionRepeated,
        e.JobForgotten,
    }


def test_only_a_dispatch_leads_to_a_worker():
    into = {kind for kind, row in LIFECYCLE.items() for state, to in row.items() if to & LIVE and (state not in LIVE)}
    assert into == {e.AttemptDispatched}


def test_every_state_is_either_live_or_ended_or_waits():
    assert not LIVE & TERMINAL
    for state in JobState:
        assert may(e.JobForgotten, state) == (state in TERMINAL)
        assert may(e.AttemptSucceeded, state) == (state in LIVE)


def test_undecodable_bytes_are_refused_with_the_reason():
    error = UndecodableError("BAD_BODY", "expected x, but y")
    assert (str(error), error.code, error.text) == ("BAD_BODY: expected x, but y", "BAD_BODY", "expected x, but y")

"""Additions of a newer level are refused until the upgrade is final; and the rules of finalising."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core import versions
from ftjm.core.decide import upgrades
from ftjm.core.decide.decision import Members
from ftjm.core.errors import NewerLogError
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import (
    ADDITIONS,
    FIRST_LEVEL,
    LEVEL,
    NEW_VALUES,
    SHARING_LEVEL,
    STOP_LEVEL,
    Addition,
    Levels,
    levels,
)
from ftjm.core.records.messages import QueueDemand, StopAttempt
from ftjm.core.state.model import STATE_VERSION, Finalized, JobSpec, StopReason
from ftjm.core.state.resources import ResourceSpec
from ftjm.core.state.windows import OnClose, WindowSpec
from tests.adapters.avro.golden import sample
from tests.core.story import POLICY, Story

NEW = LEVEL + 1
NEW_FIELD = Addition(NEW, c.CancelJob, "reason")
NEW_RECORD = Addition(NEW, c.HoldJob)
NEW_NESTED_FIELD = Addition(NEW, c.SubmitJob, "spec.priority")
ALL_NEW = Members(NEW, STATE_VERSION, "scheduler a@h:1 (ftjm 0.2.0, level 2)")
PLAIN = JobSpec(command=["true"])


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this build a newer level."""
    monkeypatch.setattr(upgrades, "levels", Levels((NEW_FIELD, NEW_RECORD, NEW_NESTED_FIELD)))
    monkeypatch.setattr(upgrades, "LEVEL", NEW)
    monkeypatch.setattr(versions, "LEVEL", NEW)


# ---- the level that a record needs


@pytest.mark.parametrize(
    ("record", "level"),
    [
        (c.CancelJob(queue="q", job_id="a"), FIRST_LEVEL),
        (c.CancelJob(queue="q", job_id="a", reason="typo"), NEW),
        (c.HoldJob(queue="q", job_id="a"), NEW),
        (c.ReleaseJob(queue="q", job_id="a"), FIRST_LEVEL),
        (c.SubmitJob(queue="q", job_id="a", spec=PLAIN), FIRST_LEVEL),
        (c.SubmitJob(queue="q", job_id="a", spec=JobSpec(command=["true"], priority=60)), NEW),
    ],
)
def test_a_record_needs_the_level_of_itself_or_of_its_newest_field_that_is_used(record: c.Command, level: int):
    assert Levels((NEW_FIELD, NEW_RECORD, NEW_NESTED_FIELD)).needed(record) == level


def test_a_default_from_a_factory_is_recognised():
    levels = Levels((Addition(2, QueueDemand, "counts"), Addition(3, QueueDemand, "oldest_at")))
    assert levels.needed(QueueDemand(queue="q", ready=0)) == 1
    assert levels.needed(QueueDemand(queue="q", ready=0, counts=[1])) == 2
    assert levels.needed(QueueDemand(queue="q", ready=0, counts=[1], oldest_at=7)) == 3


def test_an_added_field_must_exist_and_have_a_default():
    with pytest.raises(ValueError, match="expected a field of CancelJob"):
        Levels((Addition(2, c.CancelJob, "nothing"),))
    with pytest.raises(ValueError, match="to have a default"):
        Levels((Addition(2, c.SubmitJob, "spec"),))


def test_nothing_new_is_above_the_level_of_this_build():
    assert all(1 < addition.level <= LEVEL for addition in ADDITIONS)
    assert all(1 < value.level <= LEVEL for value in NEW_VALUES)


@pytest.mark.parametrize("kind", [c.ApplyResource, c.AdoptResource, e.ResourceApplied, e.ResourceAdopted])
def test_a_window_that_stops_what_runs_needs_a_newer_level_than_others(kind: Any):
    def needed(spec: ResourceSpec) -> int:
        return levels.needed(msgspec.structs.replace(sample(kind), spec=spec))

    def windows(on_close: OnClose) -> ResourceSpec:
        return ResourceSpec(window=[WindowSpec("@daily", 1, on_close=on_close)])

    assert needed(windows(OnClose.STOP)) == STOP_LEVEL
    assert needed(windows(OnClose.FINISH)) == needed(ResourceSpec()) == SHARING_LEVEL


@pytest.mark.parametrize("kind", [e.JobStopRequested, StopAttempt])
def test_a_stop_because_of_windows_needs_a_newer_level_than_others(kind: Any):
    def needed(reason: StopReason) -> int:
        return levels.needed(msgspec.structs.replace(sample(kind), reason=reason))

    found = {reason: needed(reason) for reason in StopReason}
    assert found == {
        StopReason.CANCELLED: FIRST_LEVEL, StopReason.DEADLINE: FIRST_LEVEL, StopReason.WINDOW: STOP_LEVEL
    }  # fmt: skip


# ---- refusing


CANCEL = c.CancelJob(queue="q", job_id="a", reason="typo")


@pytest.mark.usefixtures("newer")
def test_a_command_of_a_newer_level_is_refused_and_the_older_member_is_named():
    policy = msgspec.structs.replace(POLICY, members=Members(LEVEL, STATE_VERSION, "worker w@h:1 (ftjm 0.1.0)"))
    found = upgrades.refusal(Finalized(), CANCEL, policy)
    assert found is not None
    assert found.code == "NOT_YET_SUPPORTED"
    assert "found worker w@h:1 (ftjm 0.1.0); upgrade that one first" in found.text


@pytest.mark.usefixtures("newer")
def test_an_owner_that_knows_no_member_yet_has_it_tried_again():
    found = upgrades.refusal(Finalized(), CANCEL, msgspec.structs.replace(POLICY, members=Members()))
    assert found is not None
    assert "found no member that has announced its version yet; try again in some seconds" in found.text


@pytest.mark.usefixtures("newer")
def test_it_is_refused_while_the_cluster_can_go_back_even_if_every_member_knows_it():
    policy = msgspec.structs.replace(POLICY, members=ALL_NEW)
    found = upgrades.refusal(Finalized(), CANCEL, policy)
    assert found is not None
    assert "run `ftjm upgrade finalize` first" in found.text


@pytest.mark.usefixtures("newer")
def test_it_is_carried_out_once_the_upgrade_is_final_even_without_members():
    assert upgrades.refusal(Finalized(NEW, STATE_VERSION), CANCEL, POLICY) is None


@pytest.mark.usefixtures("newer")
def test_a_command_that_uses_nothing_new_is_never_refused():
    assert upgrades.refusal(Finalized(), c.ReleaseJob(queue="q", job_id="a"), POLICY) is None


@pytest.mark.usefixtures("newer")
def test_decide_checks_the_level():
    refused = Story().when(CANCEL).decided
    assert refused.code == "NOT_YET_SUPPORTED"  # type: ignore[union-attr]


# ---- finalising


REQUESTED = msgspec.structs.replace(POLICY, finalize="ada")


@pytest.mark.usefixtures("newer")
def test_an_upgrade_is_finalised_where_it_is_requested_and_every_member_knows_the_build():
    policy = msgspec.structs.replace(REQUESTED, members=ALL_NEW)
    [event] = upgrades.finalize(Finalized(), policy, new_log=False)
    assert event == e.UpgradeFinalized(level=NEW, state_version=STATE_VERSION)
    assert upgrades.finalize(Finalized(NEW, STATE_VERSION), policy, new_log=False) == [], "it is final already"
    assert upgrades.finalize(Finalized(), msgspec.structs.replace(policy, finalize=None), new_log=False) == []


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("members", [Members(LEVEL, STATE_VERSION), Members(NEW, STATE_VERSION - 1), Members()])
def test_an_upgrade_is_not_finalised_while_an_older_member_is_present(members: Members):
    policy = msgspec.structs.replace(REQUESTED, members=members)
    assert upgrades.finalize(Finalized(), policy, new_log=False) == []


def test_an_upgrade_of_rows_only_can_be_finalised():
    policy = msgspec.structs.replace(REQUESTED, members=Members(LEVEL, STATE_VERSION))
    [event] = upgrades.finalize(Finalized(), policy, new_log=False)
    assert event == e.UpgradeFinalized(level=LEVEL, state_version=STATE_VERSION)


@pytest.mark.usefixtures("newer")
def test_a_new_log_begins_at_the_level_of_its_first_owner():
    [event] = upgrades.finalize(Finalized(), POLICY, new_log=True)
    assert event == e.UpgradeFinalized(level=NEW, state_version=STATE_VERSION)


@pytest.mark.usefixtures("first_level")
def test_a_new_log_of_the_first_level_needs_no_event():
    assert upgrades.finalize(Finalized(), POLICY, new_log=True) == []


# ---- evolving


def test_the_finalised_versions_are_in_the_state():
    story = Story().evolve(e.UpgradeFinalized(level=LEVEL, state_version=STATE_VERSION))
    assert story.state.finalized == Finalized(LEVEL, STATE_VERSION)


@pytest.mark.parametrize("event", [(NEW, STATE_VERSION), (LEVEL, STATE_VERSION + 1)])
def test_an_older_build_stops_where_a_newer_one_was_finalised(event: tuple[int, int]):
    level, state_version = event
    with pytest.raises(NewerLogError, match=f"expected a log that this build can read .* upgrade to level {level}"):
        Story().evolve(e.UpgradeFinalized(level=level, state_version=state_version))

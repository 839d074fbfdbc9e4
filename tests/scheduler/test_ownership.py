"""The ownership of a partition: every move between roles, the action in each, and the fence between two owners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.scheduler.ownership import TRANSITIONS, Action, Move, Ownership, Role

ME, OTHER = "me", "other"
NOTES: dict[Move, Callable[[Ownership], None]] = {
    Move.OPEN: lambda one: one.opened(),
    Move.CATCH_UP: lambda one: one.caught_up(),
    Move.CLOSE: lambda one: one.closed(),
    Move.FENCE: lambda one: one.takeover_began(),
    Move.WITHDRAW: lambda one: one.withdrew(),
    Move.LEAD: lambda one: one.started_to_lead(),
    Move.STEP_BACK: lambda one: one.stepped_back(ME, 1),
    Move.FAIL: lambda one: one.broke(),
}


def given_(role: Role, *, nominated: bool = False, followed: bool = True, epoch: int = 1) -> Ownership:
    """An instance in this role, whose newest batch is another owner's."""
    one = Ownership()
    one.follow(followed)
    if nominated:
        one.nominate()
    one.folded(OTHER, epoch)
    one.role = role
    return one


def led_before() -> Ownership:
    """A nominated standby that was owner once."""
    one = given_(Role.TAKING_OVER, nominated=True)
    one.fenced(OTHER, 1)
    one.started_to_lead()
    one.stepped_back(ME, 2)
    return one


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("move", Move)
def test_every_move_leads_where_the_table_says_and_no_other_is_possible(role: Role, move: Move) -> None:
    one = given_(role)
    if (role, move) in TRANSITIONS:
        NOTES[move](one)
        assert one.role is TRANSITIONS[role, move]
    else:
        with pytest.raises(KeyError):
            NOTES[move](one)
        assert one.role is role


@pytest.mark.parametrize(
    ("role", "nominated", "followed", "caught_up", "action"),
    [
        (Role.COLD, False, False, True, Action.REST),
        (Role.COLD, False, True, True, Action.OPEN),
        (Role.COLD, True, False, True, Action.OPEN),
        (Role.BROKEN, False, True, True, Action.OPEN),
        (Role.BROKEN, False, False, True, Action.CLOSE),
        (Role.OPENING, True, True, False, Action.FOLD),
        (Role.OPENING, True, True, True, Action.STAND_BY),
        (Role.OPENING, False, True, True, Action.STAND_BY),
        (Role.OPENING, False, False, False, Action.CLOSE),
        (Role.STANDBY, False, True, True, Action.FOLD),
        (Role.STANDBY, False, False, True, Action.CLOSE),
        (Role.STANDBY, True, True, False, Action.FOLD),
        (Role.STANDBY, True, True, True, Action.TAKE_OVER),
        (Role.TAKING_OVER, True, True, True, Action.LEAD),
        (Role.TAKING_OVER, False, True, True, Action.WITHDRAW),
        (Role.OWNER, True, True, True, Action.DECIDE),
        (Role.OWNER, False, True, True, Action.WATCH),
        (Role.OWNER, False, False, True, Action.WATCH),
    ],
)
def test_what_is_to_be_done(role: Role, nominated: bool, followed: bool, caught_up: bool, action: Action) -> None:
    assert given_(role, nominated=nominated, followed=followed).action(caught_up) is action


def test_one_that_has_led_before_proves_its_membership_before_it_fences_again() -> None:
    one = led_before()
    assert one.action() is Action.PROVE


def test_one_that_was_called_away_behind_its_fence_proves_its_membership_the_next_time() -> None:
    one = given_(Role.STANDBY, nominated=True)
    one.takeover_began()
    one.revoke()
    one.fenced(OTHER, 1)
    assert one.action() is Action.WITHDRAW
    one.withdrew()
    one.nominate()
    assert one.action() is Action.PROVE


def test_one_that_is_revoked_when_its_takeover_begins_is_not_taken_for_an_heir() -> None:
    """Another thread may report the revocation between the action and the begin of the takeover."""
    one = given_(Role.STANDBY, nominated=True)
    assert one.action() is Action.TAKE_OVER
    one.revoke()
    one.takeover_began()
    one.fenced(OTHER, 1)
    assert one.action() is Action.WITHDRAW


def test_a_takeover_that_the_log_did_not_answer_is_simply_tried_again() -> None:
    one = given_(Role.STANDBY, nominated=True)
    one.takeover_began()
    one.takeover_failed()
    assert one.action() is Action.TAKE_OVER


def test_an_owner_that_was_revoked_and_nominated_again_fences_again() -> None:
    """Between the two, the partition may have been another instance's."""
    one = given_(Role.TAKING_OVER, nominated=True)
    one.started_to_lead()
    one.revoke()
    assert one.action() is Action.WATCH
    one.nominate()
    assert one.action() is Action.STEP_BACK


def test_a_revocation_before_the_fence_does_not_count_after_it() -> None:
    one = given_(Role.STANDBY)
    one.revoke()
    one.nominate()
    one.takeover_began()
    one.fenced(OTHER, 1)
    one.started_to_lead()
    assert one.action() is Action.DECIDE


def test_the_heir_of_a_dead_owner_takes_over_without_a_nomination() -> None:
    one = given_(Role.STANDBY, epoch=3)
    assert one.action() is Action.FOLD
    one.take_over_from(3)
    assert one.action() is Action.TAKE_OVER
    one.takeover_began()
    one.fenced(OTHER, 3)
    assert one.action() is Action.LEAD


def test_an_heir_is_none_any_more_once_a_newer_owner_has_written() -> None:
    one = given_(Role.STANDBY, epoch=3)
    one.take_over_from(3)
    one.folded(OTHER, 4)
    assert one.action() is Action.FOLD


def test_of_two_heirs_the_one_that_fences_later_leads() -> None:
    """It finds an epoch behind its fence of which it knew nothing, and whose owner it has fenced."""
    one = given_(Role.STANDBY, epoch=3)
    one.take_over_from(3)
    one.takeover_began()
    one.fenced(OTHER, 4)
    assert one.action() is Action.LEAD


def test_one_that_is_fenced_leaves_an_orphan_until_a_newer_owner_writes() -> None:
    one = led_before()
    assert (one.led_epoch, one.orphaned_epoch) == (2, 2)
    one.folded(ME, 2)
    assert one.orphaned_epoch == 2
    one.folded(OTHER, 3)
    assert (one.led_epoch, one.orphaned_epoch) == (2, -1)


def test_a_fault_is_forgotten_by_a_nomination_where_a_standby_has_recovered_from_it() -> None:
    one = given_(Role.STANDBY)
    one.broke()
    one.nominate()
    assert one.failed, "it is broken still"
    one.opened()
    one.caught_up()
    one.nominate()
    assert not one.failed


def test_a_fault_is_forgotten_by_a_decision() -> None:
    one = given_(Role.STANDBY, nominated=True)
    one.broke()
    one.opened()
    one.caught_up()
    one.takeover_began()
    one.fenced(OTHER, 1)
    one.started_to_lead()
    assert one.failed, "it has not decided yet"
    one.decided()
    assert not one.failed


@dataclass
class Log:
    """One partition's log: who may write, the epoch of its newest batch, and who has decided since which fence."""

    holder: str = ""
    newest: tuple[str, int] = ("", 0)
    fences: list[str] = field(default_factory=list)


class Instance:
    """Obeys its `Ownership` on the log, one step at a time, as the runner does."""

    def __init__(self, name: str, log: Log) -> None:
        self.name, self.log, self.one = name, log, Ownership()

    def step(self, member: bool) -> None:
        """`member`: whether the group takes this instance for a member, where it asks."""
        one, log = self.one, self.log
        match one.action():
            case Action.OPEN:
                one.opened()
                one.folded(*log.newest)
            case Action.CLOSE:
                one.closed()
            case Action.FOLD:
                one.folded(*log.newest)
            case Action.STAND_BY:
                one.caught_up()
            case Action.PROVE | Action.TAKE_OVER as action:
                if action is Action.TAKE_OVER or member:
                    one.takeover_began()
                    log.holder = self.name
                    log.fences.append(self.name)
            case Action.LEAD:
                one.fenced(*log.newest)
                one.started_to_lead()
            case Action.WITHDRAW:
                one.withdrew()
            case Action.DECIDE | Action.WATCH as action:
                if action is Action.WATCH and log.newest[1] > one.newest_owner[1]:
                    one.stepped_back(*one.newest_owner)
                else:
                    self._decide()
            case Action.STEP_BACK:
                one.stepped_back(*one.newest_owner)

    def _decide(self) -> None:
        one, log = self.one, self.log
        if log.holder != self.name:
            one.stepped_back(*one.newest_owner)
            return
        owner, epoch = log.newest
        if owner != self.name or one.newest_owner != log.newest:
            assert log.fences, "it decides, and nothing was ever fenced"
            assert log.fences[-1] == self.name, "it decides behind another's batch without a fence of its own between"
            epoch += 1
        log.newest = (self.name, epoch)
        one.folded(*log.newest)


ACTS = ("nominate", "revoke", "follow", "unfollow", "heir", "step", "step, and a member", "break")


@given(st.lists(st.tuples(st.sampled_from((0, 1)), st.sampled_from(ACTS)), max_size=120))
def test_no_sequence_lets_two_instances_decide_without_a_fence_between(acts: list[tuple[int, str]]) -> None:
    log = Log()
    both = [Instance("a", log), Instance("b", log)]
    for which, act in acts:
        instance, led = both[which], both[which].one.role is Role.OWNER
        one, fences = instance.one, len(log.fences)
        match act:
            case "nominate":
                one.nominate()
            case "revoke":
                one.revoke()
            case "follow" | "unfollow":
                one.follow(act == "follow")
            case "heir":
                one.take_over_from(log.newest[1])
            case "break":
                one.broke()
            case _:
                before = one.role
                instance.step(member="member" in act)
                if one.role is Role.OWNER and not led:
                    assert before is Role.TAKING_OVER, "it leads behind a fence and not otherwise"
        assert len(log.fences) in (fences, fences + 1)

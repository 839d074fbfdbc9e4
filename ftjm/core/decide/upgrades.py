"""Decisions about upgrades: which commands need a newer level than the cluster has, and when an upgrade is final."""

from __future__ import annotations

from ftjm.core.decide.decision import Events, Members, Policy, Rejected
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import FIRST_LEVEL, LEVEL, levels
from ftjm.core.state.model import STATE_VERSION, Finalized

NOT_YET_SUPPORTED = "NOT_YET_SUPPORTED"


def refusal(finalized: Finalized, command: c.Command, policy: Policy) -> Rejected | None:
    """The refusal of a command that needs a newer level than the cluster has; None if the cluster has it.

    Until the level is final, the cluster can go back to an older build, which could not read what the command leads to.
    """
    if finalized.level >= levels.newest:
        return None
    needed = levels.needed(command)
    if needed <= finalized.level:
        return None
    expected = f"expected a cluster at level {needed}, which {type(command).__name__} needs here"
    if policy.members.level < needed:
        # An owner that has just begun has not heard of any member yet.
        todo = "try again in some seconds" if policy.members == Members() else "upgrade that one first"
        return Rejected(NOT_YET_SUPPORTED, f"{expected}, but found {policy.members.oldest}; {todo}")
    return Rejected(
        NOT_YET_SUPPORTED,
        f"{expected}, but it is at level {finalized.level}, since it can still go back to the older build; "
        f"run `ftjm upgrade finalize` first",
    )


def finalize(finalized: Finalized, policy: Policy, *, new_log: bool) -> Events:
    """`UpgradeFinalized` where it is requested and every member knows this build's level, or where the log is new.

    No older build has a state of a new log to go back to. The event is written only if a build of the first level could
    not read it.
    """
    target = Finalized(LEVEL, STATE_VERSION)
    if new_log:
        return [_event(target)] if LEVEL > FIRST_LEVEL else []
    agreed = policy.members.level >= LEVEL and policy.members.state_version >= STATE_VERSION
    if policy.finalize is None or not agreed or not finalized.before(target):
        return []
    return [_event(target)]


def _event(to: Finalized) -> e.Event:
    return e.UpgradeFinalized(level=to.level, state_version=to.state_version)

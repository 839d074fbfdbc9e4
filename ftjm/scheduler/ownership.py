"""The role of one instance in one partition, and what it has to do next. Pure: no clock, no I/O, no thread.

The consumer group only *nominates* an owner. The *fence* decides: an instance may decide for a partition only after its
transactional producer has fenced the previous owner's producer. So a takeover is

    fold what is in the log ─► prove membership ─► fence ─► read the log's end ─► fold to it ─► decide

The old owner keeps deciding until it is fenced. So everything is folded first, the fence comes last, and the pause is
short. An owner that the group revokes keeps deciding as well, and watches the log: the first batch that it
did not write is its successor's. An instance also takes over as *heir* of an owner that has died, before the group has
noticed the death; it is the heir until a newer owner writes.

An instance that has fenced before proves to the group that it is still a member before it fences again: its nomination
may be stale, and a stale nominee would fence the true owner.

`TRANSITIONS` has every move from role to role. A move that has no row is a fault of the program.
`scheduler/partition_runner.py` asks for `action`, carries it out on Kafka, and reports what came of it. Only this file
changes an `Ownership`: there is a method for each thing that happens.
"""

from __future__ import annotations

from enum import StrEnum
from threading import Lock


class Role(StrEnum):
    """The role of an instance in a partition. Heartbeats report it."""

    COLD = "cold"
    """Not followed here."""
    OPENING = "opening"
    """The store is opened, or has not reached the log's end yet."""
    STANDBY = "standby"
    """The store follows the log."""
    TAKING_OVER = "taking-over"
    """The old owner is being fenced."""
    OWNER = "owner"
    """This instance decides."""
    BROKEN = "broken"
    """A fault has stopped the partition here. It is opened again after a pause."""


class Nomination(StrEnum):
    """What the group has said of the partition since this instance last fenced an owner of it."""

    NONE = "none"
    """The partition is not this instance's."""
    NOMINATED = "nominated"
    """The partition is this instance's, and was no other's since."""
    REVOKED = "revoked"
    """The partition is another instance's."""
    RENEWED = "renewed"
    """The partition is this instance's again, and may have been another's in between."""


AFTER_NOMINATION = {
    Nomination.NONE: Nomination.NOMINATED,
    Nomination.NOMINATED: Nomination.NOMINATED,
    Nomination.REVOKED: Nomination.RENEWED,
    Nomination.RENEWED: Nomination.RENEWED,
}
AFTER_FENCE = {
    Nomination.NONE: Nomination.NONE,
    Nomination.NOMINATED: Nomination.NOMINATED,
    Nomination.REVOKED: Nomination.NONE,
    Nomination.RENEWED: Nomination.NOMINATED,
}


class Claim(StrEnum):
    """The ground on which an instance may take the partition over."""

    NONE = "none"
    NOMINEE = "nominee"
    """The group nominates it."""
    HEIR = "heir"
    """The owner has died, the partition falls to this instance, and no newer owner has written."""


class Move(StrEnum):
    """A change of role."""

    OPEN = "open"
    CATCH_UP = "catch up"
    CLOSE = "close"
    FENCE = "fence"
    WITHDRAW = "withdraw"
    LEAD = "lead"
    STEP_BACK = "step back"
    FAIL = "fail"


class Action(StrEnum):
    """What the instance has to do next for the partition."""

    REST = "rest"
    """Nothing: the partition is not wanted here."""
    OPEN = "open"
    """Open the store and follow the log."""
    FOLD = "fold"
    """Fold the records that have arrived."""
    STAND_BY = "stand by"
    """Be a standby from here on: everything that was in the log is folded."""
    CLOSE = "close"
    """Close the store: the partition is no longer wanted here."""
    PROVE = "prove"
    """Prove membership of the group, and take over if it is proved."""
    TAKE_OVER = "take over"
    """Fence the owner, and fold to the end that the log has then."""
    WITHDRAW = "withdraw"
    """Give the takeover up: the group has given the partition to another instance meanwhile."""
    LEAD = "lead"
    """Start to decide."""
    DECIDE = "decide"
    """Decide commands."""
    WATCH = "watch"
    """Decide, but step back once another owner has written."""
    STEP_BACK = "step back"
    """Stop deciding: another instance may have owned the partition since it was fenced here."""


TRANSITIONS: dict[tuple[Role, Move], Role] = {
    (Role.COLD, Move.OPEN): Role.OPENING,
    (Role.BROKEN, Move.OPEN): Role.OPENING,
    (Role.OPENING, Move.CATCH_UP): Role.STANDBY,
    (Role.OPENING, Move.CLOSE): Role.COLD,
    (Role.STANDBY, Move.CLOSE): Role.COLD,
    (Role.BROKEN, Move.CLOSE): Role.COLD,
    (Role.STANDBY, Move.FENCE): Role.TAKING_OVER,
    (Role.TAKING_OVER, Move.WITHDRAW): Role.STANDBY,
    (Role.TAKING_OVER, Move.LEAD): Role.OWNER,
    (Role.OWNER, Move.STEP_BACK): Role.STANDBY,
    **{(role, Move.FAIL): Role.BROKEN for role in Role},
}


class Ownership:
    """The ownership of one partition, as one instance sees it.

    `nominate`, `revoke`, `follow` and `take_over_from` may be called by any thread; everything else is for the thread
    of the partition.
    """

    def __init__(self) -> None:
        self.role = Role.COLD
        self.followed = False
        """Whether this instance stands by for the partition."""
        self.failed = False
        """Whether a fault has stopped the partition, and nothing was decided since."""
        self.newest_owner = ("", -1)
        """Owner and epoch of the newest batch that was folded here."""
        self.led_epoch = -1
        """Epoch of the newest batch when this instance last stopped deciding; -1 if it never decided."""
        self.orphaned_epoch = -1
        """Epoch of the newest batch if another instance has fenced this one and has written nothing yet; else -1."""
        self._heir_epoch = -1
        """Epoch of a dead owner whose partition falls to this instance, also without a nomination; else -1."""
        self._nomination = Nomination.NONE
        self._takeover_claim = Claim.NONE
        """The claim with which the newest takeover began."""
        self._has_fenced = False
        """Whether this instance has fenced an owner before. Then its nomination may be stale."""
        self._lock = Lock()
        """Held while a method changes what other threads change, too."""

    # -- requests, from any thread

    def nominate(self) -> None:
        """The group gives the partition to this instance."""
        with self._lock:
            if self.role is Role.STANDBY:
                # A standby that has recovered from a fault does not count as failed when it becomes owner.
                self.failed = False
            self._nomination = AFTER_NOMINATION[self._nomination]

    def revoke(self) -> None:
        """The group gives the partition to another instance, which will fence this one."""
        with self._lock:
            self._nomination = Nomination.REVOKED

    def follow(self, wanted: bool) -> None:
        """Stand by for the partition, or stop doing so."""
        self.followed = wanted

    def take_over_from(self, epoch: int) -> None:
        """The owner of this epoch has died. The partition falls to this instance until the group nominates one."""
        self._heir_epoch = epoch

    # -- what to do next

    @property
    def nominated(self) -> bool:
        """Whether the group gives the partition to this instance."""
        return self._nomination in (Nomination.NOMINATED, Nomination.RENEWED)

    @property
    def is_wanted(self) -> bool:
        """Whether this instance needs the partition's state."""
        return self.followed or self.nominated

    @property
    def is_opening(self) -> bool:
        """Whether this instance needs the partition's state, and has not folded it to the log's end yet."""
        return self.role is Role.OPENING or (self.role is Role.COLD and self.is_wanted)

    @property
    def claim(self) -> Claim:
        """The ground on which this instance may take the partition over now."""
        if self.nominated:
            return Claim.NOMINEE
        return Claim.HEIR if self._heir_epoch >= max(0, self.newest_owner[1]) else Claim.NONE

    def action(self, caught_up: bool = True) -> Action:
        """Return what to do next.

        Args:
            caught_up: whether everything that was in the log has been folded.
        """
        if self.role is Role.COLD:
            return Action.OPEN if self.is_wanted else Action.REST
        if self.role is Role.OWNER:
            match self._nomination:
                case Nomination.NOMINATED:
                    return Action.DECIDE
                case Nomination.RENEWED:
                    return Action.STEP_BACK  # another instance may have owned it in between, so this one fences again
                case _:
                    return Action.WATCH
        claim = self.claim
        if self.role is Role.TAKING_OVER:
            return Action.WITHDRAW if claim is Claim.NONE else Action.LEAD
        if not self.is_wanted:
            return Action.CLOSE
        if self.role is Role.BROKEN:
            return Action.OPEN
        if not caught_up:
            return Action.FOLD
        if self.role is Role.OPENING:
            return Action.STAND_BY
        match claim:
            case Claim.NOMINEE:
                return Action.PROVE if self._has_fenced else Action.TAKE_OVER
            case Claim.HEIR:
                return Action.TAKE_OVER
            case _:
                return Action.FOLD

    # -- results of actions

    def _move(self, move: Move) -> None:
        self.role = TRANSITIONS[self.role, move]

    def opened(self) -> None:
        """The store is being opened."""
        self._move(Move.OPEN)

    def caught_up(self) -> None:
        """Everything that was in the log when the store was opened is folded."""
        self._move(Move.CATCH_UP)

    def closed(self) -> None:
        """The store is closed. It is opened again when the partition is wanted."""
        self._move(Move.CLOSE)

    def folded(self, owner: str, epoch: int) -> None:
        """The newest batch that is folded here is of this owner and epoch."""
        self.newest_owner = (owner, epoch)
        if self.orphaned_epoch < epoch or self.role is Role.OWNER:
            self.orphaned_epoch = -1

    def takeover_began(self) -> None:
        """The owner is about to be fenced."""
        self._takeover_claim = self.claim
        self._move(Move.FENCE)

    def takeover_failed(self) -> None:
        """The log did not answer. Perhaps the owner was fenced, perhaps not."""
        self._move(Move.WITHDRAW)

    def fenced(self, owner: str, epoch: int) -> None:
        """The owner is fenced, and the log is folded to the end that it had then.

        Args:
            owner: owner of the newest batch.
            epoch: epoch of the newest batch.
        """
        self._has_fenced = True
        with self._lock:
            self._nomination = AFTER_FENCE[self._nomination]
        self.folded(owner, epoch)
        if self._takeover_claim is Claim.HEIR:
            # Another instance may have taken itself for the heir and written first. It is fenced now.
            self._heir_epoch = max(self._heir_epoch, epoch)

    def withdrew(self) -> None:
        """The takeover was given up after its fence.

        The next owner may have fenced before this instance did. Then it was fenced itself and does not know it. If this
        instance decided now, the next owner would not notice before it has something to write.
        """
        self._move(Move.WITHDRAW)

    def started_to_lead(self) -> None:
        """Commands from here on are decided by this instance."""
        self._move(Move.LEAD)

    def decided(self) -> None:
        """The partition was decided for here, and the log has answered."""
        with self._lock:
            self.failed = False

    def stepped_back(self, owner: str, epoch: int) -> None:
        """This instance has stopped deciding. The newest batch is of this owner and epoch."""
        self._move(Move.STEP_BACK)
        self.newest_owner = (owner, epoch)
        self.led_epoch = self.orphaned_epoch = epoch

    def broke(self) -> None:
        """A fault has stopped the partition."""
        with self._lock:
            self._move(Move.FAIL)
            self.failed = True

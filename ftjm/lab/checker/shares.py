"""What the shares of queues have used, as a history tells, and whether a dispatch may go past a better job for that.

The rule of `ftjm.core.shares` is said again, with floating-point numbers where the product has integers and tables: so
two ranks count as equal where they differ by less than what rounding explains (`MARGIN_US`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import pow as power

from ftjm.core.records import events as e
from ftjm.core.state.queues import QueueSpec
from ftjm.lab.checker.job import OUTCOMES, CheckedJob
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind

MARGIN_US = 200.0
"""Microseconds of usage that rounding may explain. A share is charged with 1,000 at least."""
MARGIN_PART = 1e-6
"""The same as a part of the usage."""


@dataclass
class _Share:
    usage: float = 0.0
    """Microseconds, as of `at`."""
    at: int = 0
    mean: int = 1_000_000
    ended: int = 0
    live: int = 0
    jobs: int = 0

    def usage_at(self, half_life_ms: int, at: int) -> float:
        """Usage is halved in each half-life, in 16 steps that begin at the same time for all.

        The half-life of now counts for all the time since an attempt of the share began or ended.
        """
        steps = at * 16 // half_life_ms - self.at * 16 // half_life_ms
        return self.usage * power(0.5, max(0, steps) / 16)


@dataclass
class _Charge:
    """An attempt with a worker."""

    charged: int
    dispatched_at: int
    started_at: int = 0

    def took(self, event: e.Event) -> int:
        """The slot time of the attempt that ends with `event`, microseconds."""
        match event:
            case e.AttemptDeclined():
                return 0
            case e.AttemptSucceeded() | e.AttemptFailed() | e.AttemptStopped() if event.started_at:
                took = event.ended_at - event.started_at
            case e.AttemptLost() if self.started_at:
                took = event.at - self.started_at
            case _:
                return self.charged
        return 1_000 * max(1, min(took, event.at - self.dispatched_at))


class Shares:
    """Follows the usage of the shares of one partition's queues."""

    def __init__(self) -> None:
        self._specs: dict[str, QueueSpec] = {}
        self._shares: dict[str, dict[str, _Share]] = {}
        """By queue and share. Only of queues that had a job with a share since they were empty."""
        self._jobs: Counter[str] = Counter()
        self._charges: dict[JobName, _Charge] = {}

    def take(self, event: e.Event) -> None:
        """Apply an event of a queue as a whole."""
        if isinstance(event, e.QueueApplied):
            self._specs[event.queue] = event.spec
        elif isinstance(event, e.QueueDeleted):
            self._specs[event.queue] = QueueSpec()

    def take_job_event(self, name: JobName, job: CheckedJob, event: e.Event) -> None:
        """Apply an event of a job, behind which its state is that of `job`."""
        queue, share = name[0], job.terms.share_identifier
        match event:
            case e.JobSubmitted():
                self._jobs[queue] += 1
                if share:
                    self._shares.setdefault(queue, {}).setdefault(share, _Share()).jobs += 1
            case e.JobForgotten():
                self._forget(queue, share)
            case e.AttemptDispatched() if queue in self._shares:
                used = self._shares[queue].setdefault(share, _Share())
                used.usage = used.usage_at(self._spec(queue).half_life_ms, event.at) + used.mean
                used.at = event.at
                used.live += 1
                self._charges[name] = _Charge(used.mean, event.at)
            case e.AttemptStarted() if charge := self._charges.get(name):
                charge.started_at = event.started_at
            case _ if isinstance(event, OUTCOMES) and (charge := self._charges.pop(name, None)):
                self._correct(queue, self._shares[queue][share], charge, event)
            case _:
                pass

    def _correct(self, queue: str, used: _Share, charge: _Charge, event: e.Event) -> None:
        took = charge.took(event)
        usage = used.usage_at(self._spec(queue).half_life_ms, event.at) + took - charge.charged
        used.usage, used.at = max(0.0, usage), event.at
        used.live -= 1
        if isinstance(event, e.AttemptSucceeded | e.AttemptFailed):
            # The mean is a whole number, since attempts are charged with it.
            used.ended += 1
            used.mean += (took - used.mean) // min(used.ended, 8)

    def _forget(self, queue: str, share: str) -> None:
        self._jobs[queue] -= 1
        shares = self._shares.get(queue, {})
        if share in shares and share:
            shares[share].jobs -= 1
            if not shares[share].jobs:
                del shares[share]
        if not self._jobs[queue]:
            del self._jobs[queue]
            self._shares.pop(queue, None)

    def _spec(self, queue: str) -> QueueSpec:
        return self._specs.get(queue) or QueueSpec()

    def check_turn(self, queue: str, share: str, others: list[str], event: e.AttemptDispatched) -> Iterator[Violation]:
        """Judge whether it is the turn of `share`, where jobs of `others` wait, too."""
        if queue not in self._shares:
            return
        ours = self._rank(queue, share, event.at)
        for other in others:
            theirs = self._rank(queue, other, event.at)
            if theirs + self._margin(ours) < ours and not self._is_kept_back(queue, other, share):
                text = f"expected a job of share {other!r}, which has used {theirs:.0f} μs for a weight of 1"
                yield Violation(ViolationKind.ORDER, f"{text}, but found one of {share!r}, which has used {ours:.0f}")

    def check_passed(
        self, queue: str, share: str, passed: str, passed_share: str, event: e.AttemptDispatched
    ) -> Iterator[Violation]:
        """Judge the reason why a job of `share` goes past the job `passed`, which is of `passed_share`."""
        match event.passed_reason:
            case "ComputeReservation":
                is_true = self._is_kept_back(queue, passed_share, share)
            case "Share":
                ours, theirs = (self._rank(queue, one, event.at) for one in (share, passed_share))
                is_true = share != passed_share and theirs + self._margin(ours) >= ours
            case _:
                is_true = False
        if not is_true:
            text = f"expected that {passed} of share {passed_share!r} had to be gone past"
            yield Violation(
                ViolationKind.ORDER, f"{text}, but found the reason {event.passed_reason!r}, which is wrong"
            )

    def _rank(self, queue: str, share: str, at: int) -> float:
        """What a share has used for a weight of 1, microseconds."""
        used = self._shares.get(queue, {}).get(share)
        if used is None:
            return 0.0
        weights = {one.identifier: one.weight for one in self._spec(queue).shares}
        return used.usage_at(self._spec(queue).half_life_ms, at) / weights.get(share, 1)

    @staticmethod
    def _margin(rank: float) -> float:
        return MARGIN_US + MARGIN_PART * rank

    def _is_kept_back(self, queue: str, share: str, other: str) -> bool:
        """Whether a reservation may let `other` have a slot and not `share`: that has some, and the other has none."""
        shares = self._shares.get(queue, {})
        live = [shares[name].live if name in shares else 0 for name in (share, other)]
        return self._spec(queue).compute_reservation > 0 and live[0] > 0 and not live[1]

"""Notices a partition that this instance should decide for and that makes no progress, and logs why."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Protocol

from ftjm.runtime import logs

log = logs.get(__name__)

LOG_SECONDS = 30.0
"""Pause between two log lines on one partition."""
LEADER_SECONDS = 5.0
"""Pause between two requests to a broker that leads a partition's log and did not answer."""
FAILED_SECONDS_MAX = 5.0
"""A partition that a fault has stopped is stuck after this time, if that is less than the limit."""
CALLS_MAX = 12
"""Calls of the stuck thread that are logged."""


class Watched(Protocol):
    """The part of a partition's runner that the watchdog reads."""

    @property
    def role(self) -> str: ...

    @property
    def alive_at(self) -> float:
        """When the partition last made progress, in monotonic seconds."""

    @property
    def failed(self) -> bool:
        """Whether a fault has stopped the partition, and nothing was decided since."""

    @property
    def thread_id(self) -> int | None: ...


class Watchdog:
    """Finds stuck partitions. The thread that polls the consumer group calls it at intervals."""

    def __init__(
        self,
        runners: Mapping[int, Watched],
        limit_seconds: float,
        kafka_answers: Callable[[], bool],
        has_leader: Callable[[int], bool],
        has_warm_peer: Callable[[int], bool],
    ) -> None:
        """
        Args:
            runners: the runner of each partition.
            limit_seconds: a partition without progress for this long is stuck.
            kafka_answers: whether Kafka answers this process. While it does not, no partition can make progress.
            has_leader: whether a broker leads this partition's log and answers. While none does, no instance could make
                progress. It may wait for the broker.
            has_warm_peer: whether another instance could take this partition over at once.
        """
        self._runners = runners
        self._limit = limit_seconds
        self._kafka_answers = kafka_answers
        self._has_leader = has_leader
        self._has_warm_peer = has_warm_peer
        self._logged_at: dict[int, float] = {}
        self._leader_requested_at: dict[int, float] = {}

    def stalled(self) -> int | None:
        """Return a stuck partition that another instance could take over, so that this one should leave the group.

        If no instance could take the partition over, or its log has no leader, leaving would not help. Then the
        partition is only logged, as an error.

        Returns:
            The partition; None if there is none.
        """
        now = time.monotonic()
        if not self._kafka_answers():
            return None
        for number, runner in self._runners.items():
            silent = now - runner.alive_at
            if silent < (min(self._limit, FAILED_SECONDS_MAX) if runner.failed else self._limit):
                self._logged_at.pop(number, None)
                continue
            warm = self._has_warm_peer(number)
            if warm and now - self._leader_requested_at.get(number, float("-inf")) < LEADER_SECONDS:
                continue
            should_leave = warm and self._has_leader(number)
            if should_leave:
                todo = "nothing: this instance leaves the group, so that another one takes over"
            elif warm:
                self._leader_requested_at[number] = now
                todo = "check the broker that leads the partition's log: it does not answer"
            else:
                todo = "check this instance: no other one could take the partition over"
            if should_leave or now - self._logged_at.get(number, 0.0) > LOG_SECONDS:
                self._logged_at[number] = now
                log.error(
                    "partition_stalled",
                    partition=number,
                    role=runner.role,
                    seconds=round(silent, 1),
                    where=_where(runner.thread_id),
                    todo=todo,
                )
            if warm:
                # This thread polls the group, too. So it waits for at most one leader in a call.
                return number if should_leave else None
        return None


def _where(thread_id: int | None) -> str:
    """Return the calls that a thread is in, innermost last."""
    frame = sys._current_frames().get(thread_id or -1)
    if frame is None:
        return "its thread has ended"
    calls = traceback.extract_stack(frame)[-CALLS_MAX:]
    return " > ".join(f"{call.filename.rpartition('/')[2]}:{call.lineno} {call.name}" for call in calls)

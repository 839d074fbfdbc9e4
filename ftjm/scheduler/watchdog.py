"""Notices a partition that should be decided for here and is not getting on, and says why."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Protocol

from ftjm import logs

log = logs.get(__name__)

SAY_SECONDS = 30.0
LOOK_SECONDS = 5.0
"""Between questions to a leader that did not answer."""
FAILED_SECONDS_MAX = 5.0
"""A partition that stops with one fault after another is stuck sooner than one that is silent."""
FRAMES = 12


class Watched(Protocol):
    """A partition's runner, as far as it is watched."""

    @property
    def role(self) -> str: ...

    @property
    def alive_at(self) -> float:
        """When it last did what it is there for, monotonic seconds."""

    @property
    def failed(self) -> bool:
        """Whether it has stopped with a fault, and not decided since."""

    @property
    def thread_id(self) -> int | None: ...


class Watchdog:
    """To be asked now and then by the thread that belongs to the group."""

    def __init__(
        self,
        runners: Mapping[int, Watched],
        limit_seconds: float,
        answered: Callable[[], bool],
        leads: Callable[[int], bool],
        warm: Callable[[int], bool],
    ) -> None:
        """
        Args:
            answered: whether Kafka answers this process: while it does not, nothing gets on anywhere.
            leads: whether a broker leads this partition's log and answers: while none does, nobody could get on.
            warm: whether another instance could take this partition over at once.
        """
        self._runners = runners
        self._limit = limit_seconds
        self._answered = answered
        self._leads = leads
        self._warm = warm
        self._said: dict[int, float] = {}
        self._looked: dict[int, float] = {}

    def stalled(self) -> int | None:
        """A partition for whose sake this instance should leave the group; None if there is none.

        Where nobody could take it over, or its log has no leader, leaving would help nobody: then it is only told,
        loudly.
        """
        now = time.monotonic()
        if not self._answered():
            return None
        for number, runner in self._runners.items():
            silent = now - runner.alive_at
            if silent < (min(self._limit, FAILED_SECONDS_MAX) if runner.failed else self._limit):
                self._said.pop(number, None)
                continue
            warm = self._warm(number)
            if warm and now - self._looked.get(number, float("-inf")) < LOOK_SECONDS:
                continue
            helps = warm and self._leads(number)
            if helps:
                todo = "leaving the group, so that others take over"
            elif warm:
                self._looked[number] = now
                todo = "look at the broker that leads its log: it does not answer"
            else:
                todo = "look at it: nobody could take over"
            if helps or now - self._said.get(number, 0.0) > SAY_SECONDS:
                self._said[number] = now
                log.error(
                    "partition_stalled",
                    partition=number,
                    role=runner.role,
                    seconds=round(silent, 1),
                    where=_where(runner.thread_id),
                    todo=todo,
                )
            if warm:
                # The thread that asks belongs to the group: it may wait for one leader at a time.
                return number if helps else None
        return None


def _where(thread_id: int | None) -> str:
    """What the thread is doing, innermost call last."""
    frame = sys._current_frames().get(thread_id or -1)
    if frame is None:
        return "its thread has ended"
    calls = traceback.extract_stack(frame)[-FRAMES:]
    return " > ".join(f"{call.filename.rpartition('/')[2]}:{call.lineno} {call.name}" for call in calls)

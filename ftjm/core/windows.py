"""Which jobs windows let start: those of a queue, on a worker.

A window is about the queues that it names and, if it names workers, about starts on these alone. A job may start on a
worker if no window that denies it is open, and if one that allows it is open or none is there.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from ftjm.core.state.resources import KnownResource
from ftjm.core.state.windows import OnClose, WindowEffect, WindowSpec

PATTERNS_KEPT_MAX = 10_000


class QueueWindow(NamedTuple):
    """A window that is about a queue."""

    name: str
    spec: WindowSpec
    open: bool
    turns_at: int
    """As in `KnownResource`."""


def windows_of(windows: Mapping[str, KnownResource], queue: str) -> tuple[QueueWindow, ...]:
    """The windows that are about a queue."""
    return tuple(
        QueueWindow(name, spec, known.open, known.turns_at)
        for name, known in windows.items()
        for spec in known.spec.window
        if is_named(spec.queues, queue)
    )


def may_start_on(windows: Iterable[QueueWindow], worker: str) -> bool:
    """Whether a queue's windows let its jobs start on a worker."""
    concerned = [one for one in windows if not one.spec.workers or is_named(one.spec.workers, worker)]
    allowing = [one for one in concerned if one.spec.effect is WindowEffect.ALLOW]
    if any(one.open for one in concerned if one.spec.effect is WindowEffect.DENY):
        return False
    return not allowing or any(one.open for one in allowing)


def stops_on(windows: Iterable[QueueWindow], worker: str) -> bool:
    """Whether a queue's windows say that its attempts on a worker be stopped now.

    That is so where an open window denies and says `stop`, or where all windows that allow are closed and each of them
    says `stop`.
    """
    concerned = [one for one in windows if not one.spec.workers or is_named(one.spec.workers, worker)]
    allowing = [one for one in concerned if one.spec.effect is WindowEffect.ALLOW]
    if any(_stops(one) and one.open for one in concerned if one.spec.effect is WindowEffect.DENY):
        return True
    return bool(allowing) and all(_stops(one) and not one.open for one in allowing)


def _stops(window: QueueWindow) -> bool:
    return window.spec.on_close is OnClose.STOP


def closing(windows: Iterable[QueueWindow]) -> list[QueueWindow]:
    """The windows that let no job of their queue start, on whichever worker: an open one that denies, or all that
    allow. Empty if jobs may start somewhere."""
    everywhere = [one for one in windows if not one.spec.workers]
    if denying := [one for one in everywhere if one.spec.effect is WindowEffect.DENY and one.open]:
        return denying
    allowing = [one for one in windows if one.spec.effect is WindowEffect.ALLOW]
    closed = bool(allowing) and not any(one.open for one in allowing)
    return allowing if closed and any(not one.spec.workers for one in allowing) else []


def is_named(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the names is this one, where `*` stands for any characters."""
    return any(_compiled(pattern).fullmatch(name) is not None for pattern in patterns)


@lru_cache(maxsize=PATTERNS_KEPT_MAX)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))))

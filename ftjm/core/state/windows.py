"""Windows: when, and on which workers, queues may start jobs. Every partition adopts them: see
`ftjm.core.state.resources`.

The conventions of `model.py` hold for these rows, too.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec


class WindowEffect(StrEnum):
    """What a window means for the queues that it names."""

    ALLOW = "allow"
    """They start jobs only while it is open, or another of their windows that allow."""
    DENY = "deny"
    """They start no job while it is open."""


class OnClose(StrEnum):
    """What becomes of attempts that run when the queue may start no more."""

    FINISH = "finish"
    """They run to their end."""
    STOP = "stop"
    """They are stopped, and their jobs wait for the next opening. Nothing counts as a failure."""


class WindowSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a window's declaration says. It opens at the instants of `cron`, each time for `duration_ms`."""

    cron: str
    """A cron expression, in the local time of `time_zone`."""
    duration_ms: int
    effect: WindowEffect = WindowEffect.ALLOW
    time_zone: str = "UTC"
    """A name of the IANA database."""
    calendar: str = ""
    """It opens only on days of this calendar; empty is every day."""
    queues: list[str] = []
    """Names of queues; `*` in a name stands for any characters."""
    workers: list[str] = []
    """Names of workers, with `*`; it is about starts on these alone. Empty is all workers."""
    on_close: OnClose = OnClose.FINISH


class WindowState(NamedTuple):
    """Whether a window is open."""

    open: bool
    until: int
    """When that is asked again, ms since the Unix epoch: it turns then, but for one that is open for very long. 0 if it
    never turns."""

"""Resources that every partition must know: calendars, windows, cordons.

Their home is the partition of the key `cluster`. It decides about them, and tells every other partition by numbered
messages of the outbox. A partition *adopts* a resource by an event of its own, so that its log says from where on which
revision applied. It confirms that to the home, which tells it again until then. A resource is *settled* when all
partitions have confirmed its newest revision.

    home       ResourceApplied ──► one message for each partition ──────────┐      AdoptionConfirmed … ResourceSettled
    another                                                ResourceAdopted ─┴─► message to the home ──┘

The conventions of `model.py` hold for these rows, too.
"""

from enum import StrEnum

import msgspec

from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.windows import WindowSpec

CLUSTER_KEY = "cluster"
"""The key whose partition is the home of these resources."""


class ResourceKind(StrEnum):
    """The kinds of these resources."""

    CALENDAR = "Calendar"
    WINDOW = "Window"
    CORDON = "Cordon"


class CordonSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a cordon says: the worker of its name takes nothing new, and stays."""

    reason: str = ""
    """For people."""


class ResourceSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the declaration of a resource says: one of the lists has one item, that of its kind. Where a resource is
    deleted, none has."""

    calendar: list[CalendarSpec] = []
    window: list[WindowSpec] = []
    cordon: list[CordonSpec] = []

    @property
    def kinds(self) -> list[ResourceKind]:
        """The kinds of which it has a declaration."""
        parts = {
            ResourceKind.CALENDAR: self.calendar,
            ResourceKind.WINDOW: self.window,
            ResourceKind.CORDON: self.cordon,
        }
        return [kind for kind, part in parts.items() if part]


class KnownResource(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A resource as a partition knows it. A partition has no row of one that it does not know, or that is deleted."""

    revision: int
    """Every change has a higher revision than any that the home gave out before."""
    spec: ResourceSpec
    labels: dict[str, str] = {}
    applied_at: int = 0
    actor: str = ""
    """The person or program that made this revision."""
    open: bool = False
    """Whether the window is open. False for a resource of another kind."""
    turns_at: int = 0
    """When the window opens or closes next, or is looked at again, ms. 0 for a resource of another kind."""


class Adoption(msgspec.Struct, array_like=True, gc=False):
    """Which partitions have the newest revision of a resource. Only the home has such rows."""

    revision: int
    partitions: int
    """Number of all partitions."""
    lagging: list[int] = []
    """Partitions that have not confirmed the newest revision, ascending. If there are none, it is settled."""
    deleted: bool = False
    """The newest revision is the deletion. The row is dropped once that is settled."""
    timer_at: int = 0
    """When those that lag are told again, ms; 0 if none lags."""
    pause_ms: int = 0
    """The time between the last two times that they were told."""


class Told(StrEnum):
    """What one partition tells another."""

    ADOPT = "ADOPT"
    """The home tells a resource as it is now."""
    ALL = "ALL"
    """The home tells the names of all resources, behind the resources themselves."""
    CONFIRM = "CONFIRM"
    """A partition tells the home which revision it has adopted."""
    ASK = "ASK"
    """A partition asks the home for all resources."""


def resource_key(kind: ResourceKind, name: str) -> str:
    """The canonical form of a resource's identity: `kind/name`."""
    return f"{kind}/{name}"


def parse_resource_key(key: str) -> tuple[ResourceKind, str]:
    """The kind and the name of a resource's identity."""
    kind, _, name = key.partition("/")
    return ResourceKind(kind), name

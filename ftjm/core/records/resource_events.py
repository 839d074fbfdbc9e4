"""Events of resources that every partition must know. `events.py` lists them with all others."""

from ftjm.core.records.event import Event
from ftjm.core.state.resources import ResourceKind, ResourceSpec


class ResourceEvent(Event, kw_only=True):
    """The envelope of an event of one resource."""

    kind: ResourceKind
    name: str


class ResourceApplied(ResourceEvent, kw_only=True):
    """In its home, a resource is declared, or its declaration is changed. Every other partition is told."""

    revision: int
    """Higher than every revision that the partition gave out before."""
    spec: ResourceSpec
    labels: dict[str, str]
    partitions: int
    """The number of partitions of the cluster."""
    home: int
    """The number of this partition."""


class ResourceUnchanged(ResourceEvent, kw_only=True):
    """What a command asks of a resource is so already."""

    revision: int = 0
    """The declaration's revision; 0 if there is none."""


class ResourceDeleted(ResourceEvent, kw_only=True):
    """In its home, a resource is deleted. Every other partition is told."""

    revision: int
    """Higher than every revision that the partition gave out before."""
    partitions: int
    """The number of partitions of the cluster."""
    home: int
    """The number of this partition."""


class ResourceAdopted(ResourceEvent, kw_only=True):
    """A partition has been told of a resource by its home. From here on it holds here."""

    revision: int
    spec: ResourceSpec
    """Without any part if the resource is deleted."""
    labels: dict[str, str]
    applied_at: int
    """When the home decided, ms since the Unix epoch."""
    home: int
    """The number of the partition that told it. It is told of the adoption."""


class ResourceConfirmed(ResourceEvent, kw_only=True):
    """A partition was told of a resource that it knows as it is. The home is told once more."""

    revision: int
    home: int
    """The number of the partition that told it."""


class AdoptionConfirmed(ResourceEvent, kw_only=True):
    """The home knows that a partition has adopted a revision of a resource."""

    revision: int
    partition: int
    """The partition that has adopted it."""


class ResourceSettled(ResourceEvent, kw_only=True):
    """Every partition has adopted the newest revision of a resource."""

    revision: int


class ResourceToldAgain(ResourceEvent, kw_only=True):
    """The partitions that have not confirmed the newest revision are told once more, or the next of them."""

    partitions: list[int]
    """Those that are told now."""
    next_partition: int
    """The first that the next slice of the process tells; 0 after the last slice."""


class ResourcesAsked(Event, kw_only=True):
    """A message of the home was lost, so this partition asks for all resources, until it is told them."""

    home: int
    """The partition that is asked."""


class ReconciliationBegun(Event, kw_only=True):
    """The home begins to tell a partition all resources, since messages between the two were lost."""

    partition: int
    """The partition that is told."""


class ResourcesTold(Event, kw_only=True):
    """One slice of a reconciliation: resources that a partition is told."""

    partition: int
    """The partition that is told."""
    resources: list[str]
    """Each as `kind/name`."""
    next_resource: str
    """The resource with which the next slice begins; empty after the last one, when the names of all are told."""


class ResourcesReconciled(Event, kw_only=True):
    """A partition knows what its home knows, and nothing else."""

    dropped: list[str]
    """Resources that the home does not have, as `kind/name`. They are deleted here."""
    home: int
    """The number of the partition that told it."""


class WindowTurned(Event, kw_only=True):
    """A window opens or closes, in this partition; or it stays as it is up to a later time."""

    name: str
    open: bool
    until: int
    """When that is asked again, ms since the Unix epoch; 0 if it never changes."""
    tzdata: str
    """The version of the time zones by which that was reckoned."""


class WindowStopsAdvanced(Event, kw_only=True):
    """The last event of a slice: how far the process has come that stops attempts whose windows have closed."""

    next_session: str
    """The session that holds the attempt with which the next slice begins; empty after the last one."""
    next_job: str
    """The job of that attempt, `queue/job_id`."""


RESOURCE_EVENTS: tuple[type[Event], ...] = (
    ResourceApplied,
    ResourceUnchanged,
    ResourceDeleted,
    ResourceAdopted,
    ResourceConfirmed,
    AdoptionConfirmed,
    ResourceSettled,
    ResourceToldAgain,
    ResourcesAsked,
    ReconciliationBegun,
    ResourcesTold,
    ResourcesReconciled,
    WindowTurned,
)

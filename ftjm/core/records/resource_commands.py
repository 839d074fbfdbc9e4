"""Commands about resources that every partition must know, and those by which partitions tell each other of them.

`commands.py` lists them with all others. `ftjm.core.state.resources` has the way of a resource through the cluster.
"""

import msgspec

from ftjm.core.records.command import ANY_REVISION, Command, QueueCommand
from ftjm.core.state.resources import ResourceKind, ResourceSpec


class ClusterCommand(QueueCommand, kw_only=True):
    """The envelope of a command about the whole cluster. The partition of the key `cluster` decides about it."""

    queue: str = ""
    """Empty: the command is about no queue."""


class ApplyResource(ClusterCommand, kw_only=True):
    """Declare a resource that every partition must know, or change its declaration.

    The same declaration again changes nothing. Refused with `INVALID`, `UNKNOWN_CALENDAR` or `TOO_MANY`, or with
    `CONFLICT` if another one was made meanwhile.
    """

    kind: ResourceKind
    name: str
    """For a cordon, the name of the worker."""
    spec: ResourceSpec
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    expected_revision: int = ANY_REVISION
    """As in `ApplyQueue`."""


class DeleteResource(ClusterCommand, kw_only=True):
    """Delete a resource. Refused with `IN_USE`, or with `CONFLICT` if the declaration was changed meanwhile."""

    kind: ResourceKind
    name: str
    expected_revision: int = ANY_REVISION
    """As in `ApplyQueue`."""


class ToldCommand(ClusterCommand, kw_only=True):
    """The envelope of what one partition tells another.

    It is decided where it arrives. One that a client sends is refused with `NOT_ALLOWED`, wherever it sends it.
    """


class AdoptResource(ToldCommand, kw_only=True):
    """The home of a resource tells what it is now. `actor` made this revision."""

    kind: ResourceKind
    name: str
    revision: int
    """The partition takes only a higher one than it has; in a reconciliation, whichever it has not."""
    spec: ResourceSpec
    """Without any part if the resource is deleted."""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    applied_at: int = 0
    """When the home decided, ms since the Unix epoch."""
    home: int
    """The number of the partition that tells it."""


class ReconcileResources(ToldCommand, kw_only=True):
    """The home tells the names of all resources, as `kind/name`. It has told the resources themselves before."""

    names: list[str]
    home: int
    """The number of the partition that tells it."""


class ConfirmAdoption(ToldCommand, kw_only=True):
    """A partition tells the home that it knows a revision of a resource, or that a revision deleted it."""

    kind: ResourceKind
    name: str
    revision: int
    partition: int
    """The number of the partition that tells it."""


class AskResources(ToldCommand, kw_only=True):
    """A partition asks the home for all resources, since a message of the home was lost."""

    partition: int
    """The number of the partition that asks."""


RESOURCE_COMMANDS: tuple[type[Command], ...] = (
    ApplyResource,
    DeleteResource,
    AdoptResource,
    ReconcileResources,
    ConfirmAdoption,
    AskResources,
)

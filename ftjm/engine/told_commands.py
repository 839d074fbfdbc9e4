"""The commands by which a partition tells another something. Each is made when a message of the outbox is sent."""

from ftjm.core.records import commands as c
from ftjm.core.state.outbox import TellMessage
from ftjm.core.state.resources import KnownResource, ResourceSpec, Told, parse_resource_key
from ftjm.core.state.view import StateView


def told_command(state: StateView, message: TellMessage, partition: int) -> c.ToldCommand:
    """The command of a message. A resource is told as it is now, also if the message is older.

    Args:
        state: that of the partition which tells, as of the commit of the message or later.
        partition: its number.
    """
    if message.told is Told.ALL:
        return c.ReconcileResources(names=list(state.resources_from("")), home=partition)
    if message.told is Told.ASK:
        return c.AskResources(partition=partition)
    kind, name = parse_resource_key(message.resource)
    if message.told is Told.CONFIRM:
        return c.ConfirmAdoption(kind=kind, name=name, revision=message.revision, partition=partition)
    known = state.resource(message.resource)
    if known is None:
        adoption = state.adoption(message.resource)
        # Where the deletion is settled already, the message has only a number to keep.
        known = KnownResource(adoption.revision if adoption else 0, ResourceSpec())
    return c.AdoptResource(
        kind=kind,
        name=name,
        revision=known.revision,
        spec=known.spec,
        labels=known.labels,
        applied_at=known.applied_at,
        home=partition,
        actor=known.actor,
    )

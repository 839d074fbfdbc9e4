"""Decisions about resources that every partition must know: calendars, windows, cordons.

`ftjm.core.state.resources` has the way of a resource through the cluster. As with queues, a declaration that is so
already is accepted, whatever revision its sender expects.

Messages may be lost with the tail of a log, in a power loss. So the home tells partitions that lag again and again,
until they confirm; and where the numbers of messages have a gap, the home tells the other partition everything. What
the home then says is taken, whatever its revision: the home may have lost the tail of its own log, and given a revision
out twice.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from ftjm.core.decide import windows
from ftjm.core.decide.decision import Events, Policy, Rejected, calendar_of, conflict
from ftjm.core.identity import partition_for
from ftjm.core.limits import RESOURCES_MAX
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.state.processes import ProcessKind, Reconcile, Tell
from ftjm.core.state.resources import CLUSTER_KEY, ResourceKind, parse_resource_key, resource_key
from ftjm.core.state.view import StateView

PARTITIONS_MAX = 100
"""Partitions that a slice tells a resource."""
RESOURCES_TOLD_MAX = 50
"""Resources that a slice of a reconciliation tells."""


def home_of(policy: Policy) -> int:
    """The number of the partition that is the home of these resources."""
    return partition_for(CLUSTER_KEY, policy.partitions)


# -- in the home


def apply(state: StateView, command: c.ApplyResource, now: int, policy: Policy) -> Events | Rejected:
    """`ResourceApplied`, or `ResourceUnchanged` where the resource is declared so already."""
    key = resource_key(command.kind, command.name)
    if command.spec.kinds != [command.kind]:
        return Rejected("INVALID", f"spec: expected that of one {command.kind}, but found {command.spec.kinds}")
    if not all(map(is_name, command.labels)):
        return Rejected("INVALID", "labels: expected names as keys")
    before = state.resource(key)
    if before is not None and (before.spec, before.labels) == (command.spec, command.labels):
        return [e.ResourceUnchanged(kind=command.kind, name=command.name, revision=before.revision)]
    if (refusal := _refusal(state, command, policy)) is not None:
        return refusal
    if (refusal := _conflict(state, command)) is not None:
        return refusal
    revision = state.counters.order + 1
    applied = e.ResourceApplied(
        kind=command.kind,
        name=command.name,
        revision=revision,
        spec=command.spec,
        labels=command.labels,
        partitions=policy.partitions,
        home=policy.partition,
    )
    turned = windows.after_change(state, command.kind, command.name, command.spec, now, policy)
    return [applied, *turned, *_settled_alone(command, revision, policy)]


def delete(state: StateView, command: c.DeleteResource, now: int, policy: Policy) -> Events | Rejected:
    """`ResourceDeleted`, or `ResourceUnchanged` where there is no such resource."""
    if state.resource(resource_key(command.kind, command.name)) is None:
        return [e.ResourceUnchanged(kind=command.kind, name=command.name)]
    if (refusal := _conflict(state, command)) is not None:
        return refusal
    if command.kind is ResourceKind.CALENDAR and (users := windows.users_of(state, command.name)):
        text = f"expected a calendar that no window uses, but {', '.join(users)} does; delete that first"
        return Rejected("IN_USE", text)
    revision = state.counters.order + 1
    deleted = e.ResourceDeleted(
        kind=command.kind,
        name=command.name,
        revision=revision,
        partitions=policy.partitions,
        home=policy.partition,
    )
    return [deleted, *_settled_alone(command, revision, policy)]


def confirm(state: StateView, command: c.ConfirmAdoption, now: int, policy: Policy) -> Events:
    """`AdoptionConfirmed`, and `ResourceSettled` behind the last one. An old confirmation changes nothing."""
    adoption = state.adoption(resource_key(command.kind, command.name))
    if adoption is None or command.revision != adoption.revision or command.partition not in adoption.lagging:
        return [e.ResourceUnchanged(kind=command.kind, name=command.name, revision=command.revision)]
    events: Events = [
        e.AdoptionConfirmed(
            kind=command.kind, name=command.name, revision=command.revision, partition=command.partition
        )
    ]
    if adoption.lagging == [command.partition]:
        events.append(e.ResourceSettled(kind=command.kind, name=command.name, revision=command.revision))
    return events


def asked(state: StateView, command: c.AskResources, now: int, policy: Policy) -> Events:
    """`ReconciliationBegun`."""
    return [e.ReconciliationBegun(partition=command.partition)]


def tell_again(state: StateView, key: str) -> Events:
    """`ResourceToldAgain` when the timer of a resource is due: the first slice of telling those that lag."""
    return [_told_again(state, key, 0, PARTITIONS_MAX)]


def next_told(state: StateView, key: str, process: Tell, rows: int) -> Events:
    """The next slice of telling a resource to the partitions that lag. `rows` is how many rows it may change."""
    return [_told_again(state, key, process.next_partition, min(PARTITIONS_MAX, rows // 2))]


def next_reconciled(state: StateView, partition: str, process: Reconcile, rows: int) -> Events:
    """The next slice of telling a partition all resources. `rows` is how many rows it may change."""
    most = min(RESOURCES_TOLD_MAX, rows // 3)
    keys = list(islice(state.resources_from(process.next_resource), most + 1))
    following = keys[most] if len(keys) > most else ""
    return [e.ResourcesTold(partition=int(partition), resources=keys[:most], next_resource=following)]


# -- in every other partition


def adopt(state: StateView, command: c.AdoptResource, now: int, policy: Policy) -> Events:
    """`ResourceAdopted` where that is new, else `ResourceConfirmed`."""
    before = state.resource(resource_key(command.kind, command.name))
    if before is None:
        is_new = bool(command.spec.kinds)
    elif command.revision <= before.revision:
        differs = (before.spec, before.labels) != (command.spec, command.labels)
        was_asked = state.peer(command.home).ask_at > 0
        is_new = differs if command.revision == before.revision else was_asked
    else:
        is_new = True
    about: dict[str, Any] = {
        "kind": command.kind,
        "name": command.name,
        "revision": command.revision,
        "home": command.home,
    }
    if not is_new:
        return [e.ResourceConfirmed(**about)]
    adopted = e.ResourceAdopted(**about, spec=command.spec, labels=command.labels, applied_at=command.applied_at)
    return [adopted, *windows.after_change(state, command.kind, command.name, command.spec, now, policy)]


def reconcile(state: StateView, command: c.ReconcileResources, now: int, policy: Policy) -> Events:
    """`ResourcesReconciled`: what the home did not name is deleted here."""
    told = frozenset(command.names)
    dropped = [key for key in state.resources_from("") if key not in told]
    return [e.ResourcesReconciled(dropped=dropped, home=command.home)]


def ask_again(policy: Policy) -> Events:
    """`ResourcesAsked` when the home has not told everything for a while."""
    return [e.ResourcesAsked(home=home_of(policy))]


# -- in any partition


def after_loss(state: StateView, source: int, policy: Policy) -> Events:
    """What follows where messages to or from another partition were lost: the home tells it everything, or is asked to.

    Nothing, if that is under way.
    """
    home = home_of(policy)
    if state.finalized.level < SHARING_LEVEL:
        return []
    if policy.partition == home:
        begun = state.process(ProcessKind.RECONCILE, str(source)) is not None
        return [] if begun else [e.ReconciliationBegun(partition=source)]
    return [e.ResourcesAsked(home=home)] if source == home and not state.peer(home).ask_at else []


def _refusal(state: StateView, command: c.ApplyResource, policy: Policy) -> Rejected | None:
    calendar = calendar_of(policy)
    for declared in command.spec.calendar:
        if fault := calendar.calendar_fault(declared):
            return Rejected("INVALID", fault)
    for window in command.spec.window:
        days = state.calendar(window.calendar) if window.calendar else None
        if window.calendar and days is None:
            text = f"calendar: expected a calendar that is declared, but found {window.calendar}; apply it first"
            return Rejected("UNKNOWN_CALENDAR", text)
        if fault := calendar.window_fault(window, command.name, days.spec if days else None):
            return Rejected("INVALID", fault)
    known = sum(1 for _ in islice(state.resources_from(""), RESOURCES_MAX))
    if known == RESOURCES_MAX and state.resource(resource_key(command.kind, command.name)) is None:
        return Rejected(
            "TOO_MANY", f"expected at most {RESOURCES_MAX} calendars, windows and cordons; delete some first"
        )
    return None


def _conflict(state: StateView, command: c.ApplyResource | c.DeleteResource) -> Rejected | None:
    before = state.resource(resource_key(command.kind, command.name))
    found, actor = (before.revision, before.actor) if before else (0, "")
    return conflict(command.kind.lower(), command.expected_revision, found, actor)


def _settled_alone(command: c.ApplyResource | c.DeleteResource, revision: int, policy: Policy) -> Events:
    """A cluster of one partition has nobody to tell."""
    if policy.partitions > 1:
        return []
    return [e.ResourceSettled(kind=command.kind, name=command.name, revision=revision)]


def _told_again(state: StateView, key: str, start: int, most: int) -> e.Event:
    adoption = state.adoption(key)
    assert adoption is not None
    kind, name = parse_resource_key(key)
    left = [partition for partition in adoption.lagging if partition >= start]
    following = left[most] if len(left) > most else 0
    return e.ResourceToldAgain(kind=kind, name=name, partitions=left[:most], next_partition=following)

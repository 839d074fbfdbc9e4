"""Events of resources that every partition must know: declared, told, adopted, settled.

The home keeps an `Adoption` for each resource: which partitions lag. What it tells them goes through the outbox, under
each partition's next number, as forwarded commands do.
"""

from msgspec.structs import replace

from ftjm.core.records import events as e
from ftjm.core.records.levels import STOP_LEVEL
from ftjm.core.state.outbox import TellMessage
from ftjm.core.state.processes import ProcessKind, Reckon, Reconcile, Tell, WindowStop
from ftjm.core.state.resources import (
    Adoption,
    KnownResource,
    ResourceKind,
    ResourceSpec,
    Told,
    parse_resource_key,
    resource_key,
)
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.core.state.windows import OnClose, WindowEffect

TOLD_AT_ONCE_MAX = 250
"""Partitions that are told in the batch of the change itself. A process tells the others."""
TELL_AGAIN_MS = 5_000
"""The first time after which partitions that lag are told once more. Each time after that is twice as long."""
TELL_AGAIN_MS_MAX = 600_000
ASK_AGAIN_MS = 5_000
"""The time after which a partition asks the home once more for all resources."""


def applied(state: State, event: e.ResourceApplied, _key: str) -> None:
    """In its home, the resource is declared so."""
    _save(state, event, event.revision, event.spec, event.labels, event.at)
    _tell_others(state, event, deleted=False)


def unchanged(_state: State, _event: e.ResourceUnchanged, _key: str) -> None:
    """Nothing changes. The event answers a command."""


def deleted(state: State, event: e.ResourceDeleted, _key: str) -> None:
    """In its home, there is no such resource any more."""
    _drop(state, resource_key(event.kind, event.name))
    _tell_others(state, event, deleted=True)


def adopted(state: State, event: e.ResourceAdopted, _key: str) -> None:
    """From here on the resource holds in this partition."""
    if event.spec.kinds:
        _save(state, event, event.revision, event.spec, event.labels, event.applied_at)
    else:
        _drop(state, resource_key(event.kind, event.name))
    _confirm(state, event, event.home, event.revision)


def confirmed_again(state: State, event: e.ResourceConfirmed, _key: str) -> None:
    """Nothing changes but that the home is told."""
    _confirm(state, event, event.home, event.revision)


def confirmed(state: State, event: e.AdoptionConfirmed, _key: str) -> None:
    """One partition less lags."""
    key = resource_key(event.kind, event.name)
    adoption = _adoption(state, key)
    adoption.lagging.remove(event.partition)
    state.save_adoption(key, adoption)


def settled(state: State, event: e.ResourceSettled, _key: str) -> None:
    """No partition lags. Of a resource that was deleted, nothing is left."""
    key = resource_key(event.kind, event.name)
    adoption = _adoption(state, key)
    assert not adoption.lagging
    _set_timer(state, key, adoption, 0)
    if state.process(ProcessKind.TELL, key) is not None:
        state.drop_process(ProcessKind.TELL, key)
    if adoption.deleted:
        state.drop_adoption(key)
    else:
        state.save_adoption(key, adoption)


def told_again(state: State, event: e.ResourceToldAgain, _key: str) -> None:
    """Partitions are told what the resource is now. Behind the last of them, a timer tells those that lag again."""
    key = resource_key(event.kind, event.name)
    for partition in event.partitions:
        tell(state, partition, Told.ADOPT, key)
    if event.next_partition:
        state.save_process(ProcessKind.TELL, key, Tell(event.next_partition))
        return
    if state.process(ProcessKind.TELL, key) is not None:
        state.drop_process(ProcessKind.TELL, key)
    adoption = _adoption(state, key)
    adoption.pause_ms = min(2 * adoption.pause_ms or TELL_AGAIN_MS, TELL_AGAIN_MS_MAX)
    _set_timer(state, key, adoption, event.at + adoption.pause_ms)
    state.save_adoption(key, adoption)


def asked(state: State, event: e.ResourcesAsked, _key: str) -> None:
    """The home is asked, and once more later, until it has told everything."""
    tell(state, event.home, Told.ASK)
    peer = state.peer(event.home)
    if peer.ask_at:
        state.clear_timer(Timer(peer.ask_at, TimerKind.ADOPTION, ""))
    peer.ask_at = event.at + ASK_AGAIN_MS
    state.set_timer(Timer(peer.ask_at, TimerKind.ADOPTION, ""))
    state.save_peer(event.home, peer)


def reconciliation_begun(state: State, event: e.ReconciliationBegun, _key: str) -> None:
    """The home begins to tell the partition everything. One that was under way begins anew."""
    state.save_process(ProcessKind.RECONCILE, str(event.partition), Reconcile(""))


def told(state: State, event: e.ResourcesTold, _key: str) -> None:
    """The partition is told these resources, and lags until it confirms them."""
    for key in event.resources:
        adoption = _adoption(state, key)
        if event.partition not in adoption.lagging:
            adoption.lagging = sorted([*adoption.lagging, event.partition])
        if not adoption.timer_at:
            adoption.pause_ms = TELL_AGAIN_MS
            _set_timer(state, key, adoption, event.at + TELL_AGAIN_MS)
        state.save_adoption(key, adoption)
        tell(state, event.partition, Told.ADOPT, key)
    if event.next_resource:
        state.save_process(ProcessKind.RECONCILE, str(event.partition), Reconcile(event.next_resource))
    else:
        state.drop_process(ProcessKind.RECONCILE, str(event.partition))
        tell(state, event.partition, Told.ALL)


def reconciled(state: State, event: e.ResourcesReconciled, _key: str) -> None:
    """The partition knows what its home knows."""
    for key in event.dropped:
        _drop(state, key)
    peer = state.peer(event.home)
    if peer.ask_at:
        state.clear_timer(Timer(peer.ask_at, TimerKind.ADOPTION, ""))
        peer.ask_at = 0
        state.save_peer(event.home, peer)


def tell(state: State, partition: int, what: Told, key: str = "", revision: int = 0) -> None:
    """Put a message to another partition into the outbox."""
    peer = state.peer(partition)
    peer.sent += 1
    state.save_peer(partition, peer)
    state.push(TellMessage(partition, peer.sent, what, key, revision))


def window_turned(state: State, event: e.WindowTurned, _key: str) -> None:
    """The window is open, or closed, until its timer is due."""
    key = resource_key(ResourceKind.WINDOW, event.name)
    window = state.resource(key)
    assert window is not None, f"{key} has turned, and does not exist"
    _clear_window_timer(state, event.name, window)
    if event.until:
        state.set_timer(Timer(event.until, TimerKind.WINDOW, event.name))
    state.save_resource(key, replace(window, open=event.open, turns_at=event.until))
    (spec,) = window.spec.window
    lets_start = event.open is (spec.effect is WindowEffect.ALLOW)
    if spec.on_close is OnClose.STOP and not lets_start:
        _begin_stops(state)


def window_stops_advanced(state: State, event: e.WindowStopsAdvanced, _key: str) -> None:
    """A slice of the process is done that stops attempts."""
    assert state.process(ProcessKind.WINDOW_STOP, "") is not None
    if event.next_session:
        state.save_process(ProcessKind.WINDOW_STOP, "", WindowStop(event.next_session, event.next_job))
    else:
        state.drop_process(ProcessKind.WINDOW_STOP, "")


def _confirm(state: State, event: e.ResourceAdopted | e.ResourceConfirmed, home: int, revision: int) -> None:
    tell(state, home, Told.CONFIRM, resource_key(event.kind, event.name), revision)


def _save(
    state: State, event: e.ResourceEvent, revision: int, spec: ResourceSpec, labels: dict[str, str], applied_at: int
) -> None:
    """Write what the resource is. Whether a window is open stays: `WindowTurned` follows if that changes."""
    key = resource_key(event.kind, event.name)
    before = state.resource(key)
    is_open, turns_at = (before.open, before.turns_at) if before else (False, 0)
    _changed(state, key, before)
    state.save_resource(key, KnownResource(revision, spec, labels, applied_at, event.actor, is_open, turns_at))


def _drop(state: State, key: str) -> None:
    resource = state.resource(key)
    assert resource is not None, f"{key} is deleted, and does not exist"
    kind, name = parse_resource_key(key)
    if kind is ResourceKind.WINDOW:
        _clear_window_timer(state, name, resource)
    _changed(state, key, resource)
    state.drop_resource(key)


def _changed(state: State, key: str, before: KnownResource | None) -> None:
    """Begin what follows from the change of a resource, or go on from its first slice.

    The schedules that use a calendar are reckoned anew. Where a window no longer allows a queue, its other windows may
    say that its attempts are stopped.
    """
    kind, name = parse_resource_key(key)
    if kind is ResourceKind.CALENDAR:
        state.save_process(ProcessKind.RECKON, name, Reckon(""))
    elif before is not None and any(one.effect is WindowEffect.ALLOW for one in before.spec.window):
        _begin_stops(state)


def _begin_stops(state: State) -> None:
    """Begin to stop the attempts whose windows say so, or go on from the first attempt."""
    if state.finalized.level >= STOP_LEVEL:
        state.save_process(ProcessKind.WINDOW_STOP, "", WindowStop("", ""))


def _clear_window_timer(state: State, name: str, window: KnownResource) -> None:
    if window.turns_at:
        state.clear_timer(Timer(window.turns_at, TimerKind.WINDOW, name))


def _tell_others(state: State, event: e.ResourceApplied | e.ResourceDeleted, *, deleted: bool) -> None:
    """Tell all other partitions, the first of them at once."""
    state.counters.order += 1
    state.save_counters()
    assert event.revision == state.counters.order
    key = resource_key(event.kind, event.name)
    others = [partition for partition in range(event.partitions) if partition != event.home]
    before = state.adoption(key)
    adoption = Adoption(event.revision, event.partitions, others, deleted, before.timer_at if before else 0)
    for partition in others[:TOLD_AT_ONCE_MAX]:
        tell(state, partition, Told.ADOPT, key)
    if others[TOLD_AT_ONCE_MAX:]:
        state.save_process(ProcessKind.TELL, key, Tell(others[TOLD_AT_ONCE_MAX]))
    elif others:
        adoption.pause_ms = TELL_AGAIN_MS
        _set_timer(state, key, adoption, event.at + TELL_AGAIN_MS)
    state.save_adoption(key, adoption)


def _set_timer(state: State, key: str, adoption: Adoption, at: int) -> None:
    if adoption.timer_at:
        state.clear_timer(Timer(adoption.timer_at, TimerKind.ADOPTION, key))
    adoption.timer_at = at
    if at:
        state.set_timer(Timer(at, TimerKind.ADOPTION, key))


def _adoption(state: State, key: str) -> Adoption:
    adoption = state.adoption(key)
    assert adoption is not None, f"{key} has no adoption"
    return adoption

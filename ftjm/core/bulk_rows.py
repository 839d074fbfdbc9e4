"""The row of a bulk request behind each of its events: for the state, and for those who follow a request in the log."""

import msgspec

from ftjm.core.records import events as e
from ftjm.core.state.processes import Bulk


def first(event: e.BulkBegun, order: int) -> Bulk:
    """The row of a request that begins.

    Args:
        order: the highest `order` of the partition's runs.
    """
    return Bulk(
        event.queue,
        event.action,
        event.filter,
        event.reason,
        event.priority,
        order,
        event.actor,
        event.at,
        jobs=event.jobs,
    )


def following(bulk: Bulk, event: e.BulkAdvanced | e.BulkStopped) -> Bulk:
    """The row of a request behind another event of it. Behind the last one it has the time of its end."""
    if isinstance(event, e.BulkStopped):
        return msgspec.structs.replace(bulk, stopped=True, ended_at=event.at)
    counted = {"looked": event.looked, "changed": event.changed, "refused": event.refused}
    ended_at = 0 if event.next_job else event.at
    return msgspec.structs.replace(bulk, next_job=event.next_job, ended_at=ended_at, **counted)

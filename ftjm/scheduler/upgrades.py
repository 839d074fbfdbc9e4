"""An owner's part in an upgrade: it decides by the versions of all members, and sends what their sessions can read."""

from __future__ import annotations

import msgspec

from ftjm.core.placement import Offer
from ftjm.core.records.levels import FIRST_LEVEL
from ftjm.engine.partition import Partition
from ftjm.runtime.clock import boot_ms
from ftjm.scheduler.context import Context

REQUEST_MS = 10_000
"""A request to finalise that was not repeated for this long is ignored: its sender has given up."""


def update_policy(context: Context, partition: Partition) -> None:
    """Set the inputs of the partition's next decisions: the versions of the members, and a request to finalise."""
    policy, number = partition.policy, partition.policy.partition
    requested_at, actor = context.finalize_requests.get(number, (-REQUEST_MS, ""))
    finalize = actor if boot_ms() - requested_at < REQUEST_MS else None
    if finalize != policy.finalize or context.agreed_members != policy.members:
        partition.policy = msgspec.structs.replace(policy, members=context.agreed_members, finalize=finalize)
    context.finalized[number] = partition.state.finalized


def readable(context: Context, partition: Partition, offers: list[Offer]) -> list[Offer]:
    """Return the offers of sessions that can read every record of the final level.

    Other sessions might be sent messages that they cannot read.
    """
    final = partition.state.finalized.level
    if final <= FIRST_LEVEL:
        return offers
    return [offer for offer in offers if context.members.level(offer.session) >= final]

"""Checks whether this build may continue a log whose upgrade is final."""

from ftjm.core.errors import NewerLogError
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.model import STATE_VERSION, Finalized


def require_known(final: Finalized) -> None:
    """Raises NewerLogError if the upgrade that is final is one to a newer build than this."""
    if final.level > LEVEL or final.state_version > STATE_VERSION:
        raise NewerLogError(
            f"a log that this build can read (level {LEVEL}, rows of version {STATE_VERSION})",
            f"that its upgrade to level {final.level} and rows of version {final.state_version} was finalised",
        )

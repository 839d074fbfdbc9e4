"""Events of an upgrade: finalised."""

from ftjm.core.records import events as e
from ftjm.core.state.model import Finalized
from ftjm.core.state.state import State
from ftjm.core.versions import require_known


def finalized(state: State, event: e.UpgradeFinalized, _key: str) -> None:
    """The finalised level may be used from here on. A build that does not know that level must stop here."""
    final = Finalized(event.level, event.state_version)
    require_known(final)
    state.save_finalized(final)

"""Events of an upgrade: finalised."""

from ftjm.core import ageing
from ftjm.core.records import events as e
from ftjm.core.state.model import Finalized
from ftjm.core.state.processes import ProcessKind, Reorder
from ftjm.core.state.state import State
from ftjm.core.versions import require_known


def finalized(state: State, event: e.UpgradeFinalized, _key: str) -> None:
    """The finalised level may be used from here on. A build that does not know that level must stop here."""
    final = Finalized(event.level, event.state_version)
    require_known(final)
    knew_ageing = ageing.is_known(state.finalized)
    state.save_finalized(final)
    if ageing.is_known(final) and not knew_ageing and state.counters.order:
        state.save_process(ProcessKind.REORDER, "", Reorder(b""))

"""A store of a newer build: discarded while the cluster can go back, and left alone once the upgrade is final."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.errors import NewerLogError
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.model import STATE_VERSION, Finalized, Position
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import FINALIZED_KEY, POSITION_KEY, load_position
from ftjm.runtime import logs
from ftjm.scheduler.store_recovery import open_store

LOG = "log"
NEWER = Position(state_version=STATE_VERSION + 1, log_id=LOG, applied_offset=7)


def newer_store(path: Path, final: Finalized, log_id: str = LOG) -> Path:
    store = RocksStore(path)
    position = Position(state_version=STATE_VERSION + 1, log_id=log_id, applied_offset=7)
    store.write([(POSITION_KEY, encode(position)), (FINALIZED_KEY, encode(final))])
    store.close()
    return path


def opened(path: Path) -> Position:
    """The position of the store that is opened at `path`, where the log is whole and there is no snapshot."""
    log: Any = SimpleNamespace(log_id=LOG, events=lambda *_: iter(()), begin=lambda _: 0)
    repository = SimpleNamespace(restore=lambda *_, **__: None)
    context: Any = SimpleNamespace(log=log, codec=None, repository=repository)
    store = open_store(context, 0, path, logs.get(__name__), lambda *_: None)
    position = load_position(store)
    store.close()
    return position


@pytest.mark.parametrize("final", [Finalized(LEVEL + 1, 0), Finalized(LEVEL, STATE_VERSION + 1)])
def test_a_store_of_an_upgrade_that_is_final_is_left_alone(tmp_path: Path, final: Finalized) -> None:
    path = newer_store(tmp_path / "store", final)
    with pytest.raises(NewerLogError, match="was finalised"):
        opened(path)
    store = RocksStore(path, read_only=True)
    assert load_position(store) == NEWER
    store.close()


@pytest.mark.parametrize(("final", "log_id"), [(Finalized(), LOG), (Finalized(LEVEL + 1, STATE_VERSION + 1), "other")])
def test_a_store_of_a_newer_build_is_made_anew_before_that_and_where_it_is_of_another_log(
    tmp_path: Path, final: Finalized, log_id: str
) -> None:
    assert opened(newer_store(tmp_path / "store", final, log_id)) == Position()

"""A leader's part in snapshots: what it orders, and by which clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftjm import config
from ftjm.adapters.rocks import RocksStore
from ftjm.core.model import Position
from ftjm.engine.snapshot import about
from ftjm.scheduler import publishing
from ftjm.scheduler.publishing import Publishing
from ftjm.scheduler.snapshots import Shelf

NOW = 1_000_000


class Snapshotter:
    """Does at once what it is asked, and keeps with which time."""

    def __init__(self) -> None:
        self.ordered: list[int] = []
        self.tidied: list[int | None] = []

    def order(self, shelf: Shelf, now_ms: int) -> None:
        self.ordered.append(now_ms)
        if shelf.kept is None:
            shelf.kept = []

    def tidy(self, _shelf: Shelf, now_ms: int | None) -> None:
        self.tidied.append(now_ms)


class Leading:
    """A leader's part with a clock and a position to set."""

    def __init__(self, store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.snapshotter = Snapshotter()
        settings = config.load(snapshot_seconds=60)
        context: Any = SimpleNamespace(settings=settings, wishes={}, snapshotter=self.snapshotter, clock_error_ms=0)
        self.context = context
        partition: Any = SimpleNamespace(
            policy=SimpleNamespace(partition=0),
            store=store,
            position=Position(owner_epoch=1, batch_no=1, applied_offset=1),
            leadership=SimpleNamespace(epoch=1),
        )
        nobody: Any = None
        clock: Any = SimpleNamespace(now=lambda: self.now)
        self.publishing = Publishing(context, partition, nobody, clock)
        monkeypatch.setattr(publishing, "TIDY_SECONDS", 0.0)


@pytest.fixture
def leading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leading]:
    store = RocksStore(tmp_path / "store")
    yield Leading(store, monkeypatch)
    store.close()


def test_a_snapshot_is_due_by_the_time_that_the_owner_decides_with(leading: Leading) -> None:
    leading.publishing.step()
    assert leading.snapshotter.ordered == [NOW]
    leading.now += 60_000
    leading.publishing.step()
    assert leading.snapshotter.ordered == [NOW, NOW + 60_000]


def test_one_that_is_known_to_be_unusable_is_replaced_at_once_and_by_a_full_one(leading: Leading) -> None:
    leading.publishing._shelf.unusable = [about(Position(), 0, 0, "", -1, [])]
    leading.publishing.step()
    assert leading.snapshotter.ordered == [NOW, NOW]
    assert leading.publishing._shelf.full


@pytest.mark.parametrize(("error_ms", "told"), [(0, NOW), (-5_000, NOW), (5_001, None), (-5_001, None), (None, None)])
def test_a_log_is_trimmed_by_that_time_and_only_while_the_brokers_agree(
    leading: Leading, error_ms: int | None, told: int | None
) -> None:
    leading.context.clock_error_ms = error_ms
    leading.publishing.step()
    assert leading.snapshotter.tidied == [told]

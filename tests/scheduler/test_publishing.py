"""A leader's part in snapshots: what it orders, and by which clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ftjm import config
from ftjm.adapters.rocks import RocksStore
from ftjm.core.model import Position
from ftjm.engine.snapshot import about
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.scheduler import publishing
from ftjm.scheduler.inside import Inside
from ftjm.scheduler.publishing import Publishing
from ftjm.scheduler.snapshots import Draft, Shelf

NOW = 1_000_000
WRITE_SECONDS = 0.01


class Snapshotter:
    """Does at once what it is asked, and keeps with which time."""

    def __init__(self) -> None:
        self.ordered: list[int] = []
        self.tidied: list[int | None] = []

    def order(self, shelf: Shelf, now_ms: int) -> None:
        self.ordered.append(now_ms)
        if shelf.kept is None:
            shelf.kept = []

    def published(self, shelf: Shelf, *_: object) -> None:
        shelf.draft = None

    def tidy(self, _shelf: Shelf, now_ms: int | None) -> None:
        self.tidied.append(now_ms)


class Leading:
    """A leader's part with a clock and a position to set."""

    def __init__(self, store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.snapshotter = Snapshotter()
        settings = config.load(snapshot_seconds=60)
        self.registry = CollectorRegistry()
        metrics = SchedulerMetrics(self.registry, Inside())
        context: Any = SimpleNamespace(
            settings=settings,
            wishes={},
            snapshotter=self.snapshotter,
            clock=SimpleNamespace(right=True),
            metrics=metrics,
        )
        self.context = context
        partition: Any = SimpleNamespace(
            policy=SimpleNamespace(partition=0),
            store=store,
            position=Position(owner_epoch=1, batch_no=1, applied_offset=1),
            leadership=SimpleNamespace(epoch=1),
        )
        writer: Any = SimpleNamespace(publish=lambda *_: time.sleep(WRITE_SECONDS))
        clock: Any = SimpleNamespace(now=lambda: self.now)
        self.publishing = Publishing(context, partition, writer, clock)
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


def test_what_publishing_takes_from_the_loop_is_measured(leading: Leading) -> None:
    """Kafka's share, too: the loop stands still meanwhile."""
    leading.publishing._shelf.draft = Draft(about(Position(), 0, 0, "", -1, []), [], 0.0, 0)
    leading.publishing.step()
    assert leading.registry.get_sample_value("ftjm_snapshot_pause_seconds_count") == 1
    taken = leading.registry.get_sample_value("ftjm_snapshot_pause_seconds_sum")
    assert taken is not None
    assert taken >= WRITE_SECONDS


@pytest.mark.parametrize(("right", "told"), [(True, NOW), (False, None)])
def test_a_log_is_trimmed_by_that_time_and_only_while_the_brokers_agree(
    leading: Leading, right: bool, told: int | None
) -> None:
    leading.context.clock.right = right
    leading.publishing.step()
    assert leading.snapshotter.tidied == [told]

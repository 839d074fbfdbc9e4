"""A leader's part in snapshots: what it orders, and by which clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.model import STATE_VERSION, Finalized, Position
from ftjm.engine.snapshot import manifest_of
from ftjm.runtime import config
from ftjm.scheduler import snapshot_publisher
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.snapshot_publisher import SnapshotPublisher
from ftjm.scheduler.snapshotter import Draft, SnapshotState
from ftjm.scheduler.status import SchedulerStatus

NOW = 1_000_000
WRITE_SECONDS = 0.01


class Snapshotter:
    """Does at once what it is asked, and keeps with which time."""

    def __init__(self) -> None:
        self.ordered: list[int] = []
        self.cleaned_up: list[int | None] = []

    def order(self, state: SnapshotState, now_ms: int) -> None:
        self.ordered.append(now_ms)
        if state.kept is None:
            state.kept = []

    def note_published(self, state: SnapshotState, *_: object) -> None:
        state.draft = None

    def clean_up(self, _state: SnapshotState, now_ms: int | None) -> None:
        self.cleaned_up.append(now_ms)


class Leading:
    """A leader's part with a clock and a position to set."""

    def __init__(self, store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.snapshotter = Snapshotter()
        settings = config.load(snapshot_seconds=60)
        self.registry = CollectorRegistry()
        metrics = SchedulerMetrics(self.registry, SchedulerStatus())
        context: Any = SimpleNamespace(
            settings=settings,
            snapshot_requests={},
            snapshotter=self.snapshotter,
            clock=SimpleNamespace(right=True),
            metrics=metrics,
        )
        self.context = context
        partition: Any = SimpleNamespace(
            policy=SimpleNamespace(partition=0),
            store=store,
            position=Position(owner_epoch=1, batch_no=1, applied_offset=1),
            state=SimpleNamespace(finalized=Finalized()),
            leadership=SimpleNamespace(epoch=1),
        )
        writer: Any = SimpleNamespace(publish=lambda *_: time.sleep(WRITE_SECONDS))
        clock: Any = SimpleNamespace(wall_ms=lambda: self.now)
        self.publishing = SnapshotPublisher(context, partition, writer, clock)
        monkeypatch.setattr(snapshot_publisher, "CLEAN_UP_SECONDS", 0.0)


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


def test_it_is_idle_while_no_snapshot_is_taken_or_waits(leading: Leading) -> None:
    state = leading.publishing._snapshots
    state.kept = None
    assert not leading.publishing.is_idle, "it is not known yet which snapshots there are"
    state.kept = []
    assert leading.publishing.is_idle
    state.busy = True
    assert not leading.publishing.is_idle
    state.busy = False
    state.draft = Draft(manifest_of(Position(), 0, 0, "", -1, []), [], 0.0, 0, 0)
    assert not leading.publishing.is_idle


def test_one_that_is_known_to_be_unusable_is_replaced_at_once_and_by_a_full_one(leading: Leading) -> None:
    leading.publishing._snapshots.unusable = [manifest_of(Position(), 0, 0, "", -1, [])]
    leading.publishing.step()
    assert leading.snapshotter.ordered == [NOW, NOW]
    assert leading.publishing._snapshots.full


@pytest.mark.parametrize(
    ("versions", "final", "due"),
    [
        ([0], 0, False),
        ([0, 0], 0, False),
        ([-1, -1], 0, True),
        ([0, -1], 0, False),
        ([0, 0, -1], 0, False),
        ([0, 0, -1], STATE_VERSION, True),
        ([1, 0], 0, True),
    ],
)
def test_a_snapshot_is_due_at_once_after_the_build_has_changed_and_after_the_upgrade_is_final(
    leading: Leading, versions: list[int], final: int, due: bool
) -> None:
    state = leading.publishing._snapshots
    position = Position(batch_no=1, applied_offset=1, owner_epoch=1)
    manifests = [manifest_of(position, 0, NOW - back, "", -1, []) for back in range(len(versions))]
    state.kept = [
        replace(one, state_version=STATE_VERSION + step) for one, step in zip(manifests, versions, strict=True)
    ]
    leading.publishing._partition.state.finalized = Finalized(1, final)
    ordered = len(leading.snapshotter.ordered)
    leading.publishing.step()
    assert (len(leading.snapshotter.ordered) > ordered) is due


def test_what_publishing_takes_from_the_loop_is_measured(leading: Leading) -> None:
    """Kafka's share, too: the loop stands still meanwhile."""
    leading.publishing._snapshots.draft = Draft(manifest_of(Position(), 0, 0, "", -1, []), [], 0.0, 0, 0)
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
    assert leading.snapshotter.cleaned_up == [told]

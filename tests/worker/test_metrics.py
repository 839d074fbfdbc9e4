"""A worker's metrics and its readiness."""

from __future__ import annotations

from ftjm.telemetry.process_metrics import registry
from ftjm.worker import metrics as shown_by_workers
from ftjm.worker.metrics import WorkerMetrics, why_not_ready
from tests.telemetry.samples import value
from tests.worker.rules_world import LEASE_MS, World


def test_a_worker_shows_its_slots_and_its_lease(monkeypatch):
    world = World(slots=3, queues=("q", "r"))
    monkeypatch.setattr(shown_by_workers, "boot_ms", lambda: world.now)
    shown = registry("worker")
    shown.register(WorkerMetrics(world.rules))
    world.dispatch("a")
    assert value(shown, "ftjm_worker_slots", queue="q", status="busy") == 1
    assert value(shown, "ftjm_worker_slots", queue="r", status="busy") == 0
    assert [value(shown, "ftjm_worker_slots", queue=queue, status="free") for queue in ("q", "r")] == [2, 2]
    assert value(shown, "ftjm_worker_heartbeat_age_seconds") < 1
    assert why_not_ready(world.rules) == ""
    world.connected = False
    world.tick(LEASE_MS - 1_000)
    assert value(shown, "ftjm_worker_heartbeat_age_seconds") >= 3
    world.tick(LEASE_MS)
    assert why_not_ready(world.rules) != ""
    world.rules.drain()
    assert value(shown, "ftjm_worker_draining") == 1
    assert value(shown, "ftjm_worker_slots", queue="r", status="free") == 0
    assert why_not_ready(world.rules) == "the worker is leaving"

"""Making clusters for tests: ports that are free, names that nobody else has."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

from ftjm import config
from ftjm.adapters import topics
from ftjm.config import Settings
from ftjm.embedded import broker
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.errors import FtjmError


def free_base_port() -> int:
    """The first of free ports for an embedded cluster, below those that the kernel gives to clients."""
    for _ in range(100):
        base = random.randrange(21_000, 32_000, 20)
        try:
            for port in (*range(base, base + 3), *range(base + 10, base + 13)):
                broker.require_free_port(port, patience_seconds=0)
        except FtjmError:
            continue
        return base
    raise AssertionError("no free ports between 21000 and 32000")


def cluster_on(kafka: EmbeddedKafka, data_dir: Path, **flags: object) -> Settings:
    """Settings of a new cluster on a Kafka of ours, its topics created; small, so that it starts fast."""
    defaults: dict[str, object] = {
        "cluster": f"t{uuid.uuid4().hex[:10]}",
        "bootstrap": kafka.bootstrap,
        "own_brokers": True,
        "data_dir": data_dir,
        "partitions": 4,
        "lanes": 2,
        "lease_seconds": config.OWN_BROKERS_LEASE_SECONDS,
        "session_timeout_ms": config.OWN_BROKERS_SESSION_TIMEOUT_MS,
        "heartbeat_interval_ms": config.OWN_BROKERS_HEARTBEAT_INTERVAL_MS,
    }
    settings = config.load(**{**defaults, **flags})
    topics.create(settings)
    return settings

"""Helpers that make clusters for tests: with free ports and unique names."""

from __future__ import annotations

import uuid
from pathlib import Path

from ftjm.adapters.kafka import topics
from ftjm.local.kafka import EmbeddedKafka
from ftjm.runtime import config
from ftjm.runtime.config import Settings

SESSION_MS = 10_000
"""A busy machine may stall a scheduler for longer than the 1.5 s of `ftjm up`, and the group would move its partitions
in tests that are about something else. What dies is noticed by its lifeline at once."""


def cluster_on(kafka: EmbeddedKafka, data_dir: Path, **flags: object) -> Settings:
    """Create the topics of a new, small cluster on this Kafka. Return its settings."""
    defaults: dict[str, object] = {
        "cluster": f"t{uuid.uuid4().hex[:10]}",
        "bootstrap": kafka.bootstrap,
        "own_brokers": True,
        "data_dir": data_dir,
        "partitions": 4,
        "lanes": 2,
        **config.OWN_BROKERS_TIMING,
        "session_timeout_ms": SESSION_MS,
    }
    settings = config.load(**{**defaults, **flags})
    topics.create(settings)
    return settings

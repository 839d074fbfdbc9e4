"""Making clusters for tests: ports that are free, names that nobody else has."""

from __future__ import annotations

import uuid
from pathlib import Path

from ftjm import config
from ftjm.adapters import topics
from ftjm.config import Settings
from ftjm.embedded.kafka import EmbeddedKafka


def cluster_on(kafka: EmbeddedKafka, data_dir: Path, **flags: object) -> Settings:
    """Settings of a new cluster on a Kafka of ours, its topics created; small, so that it starts fast."""
    defaults: dict[str, object] = {
        "cluster": f"t{uuid.uuid4().hex[:10]}",
        "bootstrap": kafka.bootstrap,
        "own_brokers": True,
        "data_dir": data_dir,
        "partitions": 4,
        "lanes": 2,
        **config.OWN_BROKERS_TIMING,
    }
    settings = config.load(**{**defaults, **flags})
    topics.create(settings)
    return settings

"""An endpoint, as `ftjm up` writes it."""

from __future__ import annotations

import os

from ftjm.runtime.endpoint import Endpoint

ENDPOINT = Endpoint(
    bootstrap="own:1",
    cluster="mine",
    own_brokers=True,
    partitions=3,
    lanes=2,
    lease_seconds=5.0,
    session_timeout_ms=1500,
    heartbeat_interval_ms=100,
    up_pid=os.getpid(),
)

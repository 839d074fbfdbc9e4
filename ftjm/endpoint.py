"""The endpoint file: how clients on this machine find the cluster that `ftjm up` runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

FILE_NAME = "endpoint.json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What `up` tells its clients. `own_brokers` says that the brokers are ours, so shorter failover times are safe."""

    bootstrap: str
    cluster: str
    own_brokers: bool
    lease_seconds: float
    session_timeout_ms: int
    heartbeat_interval_ms: int
    up_pid: int


def write(data_dir: Path, endpoint: Endpoint) -> Path:
    """Write the file so that a reader sees the old one, the new one or none, never half of one."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / FILE_NAME
    with tempfile.NamedTemporaryFile(dir=data_dir, prefix=".endpoint-", delete=False) as file:
        file.write(msgspec.json.format(msgspec.json.encode(endpoint), indent=2) + b"\n")
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)  # noqa: PTH105  (the atomicity is the point, and os.replace names it)
    return path


def read(data_dir: Path) -> Endpoint | None:
    """The endpoint, or None where there is no readable file (none written, or one of another version)."""
    try:
        return msgspec.json.decode((data_dir / FILE_NAME).read_bytes(), type=Endpoint)
    except (OSError, msgspec.DecodeError):
        return None


def remove(data_dir: Path) -> None:
    """Remove the file; an absent one is fine."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)

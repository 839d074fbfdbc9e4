"""The endpoint file: how clients on this machine find the cluster that `ftjm up` runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
import psutil

FILE_NAME = "endpoint.json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What `up` tells its clients. `own_brokers` says that the brokers are ours, so shorter failover times are safe."""

    bootstrap: str
    cluster: str
    own_brokers: bool
    partitions: int
    lanes: int
    lease_seconds: float
    session_timeout_ms: int
    heartbeat_interval_ms: int
    up_pid: int
    api: str = ""
    """Address of the HTTP API; empty where `up` runs none."""


def write(data_dir: Path, endpoint: Endpoint) -> Path:
    """Write the file that clients of this data directory read."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / FILE_NAME
    replace_file(path, msgspec.json.format(msgspec.json.encode(endpoint), indent=2) + b"\n")
    return path


def read(data_dir: Path) -> Endpoint | None:
    """The endpoint; None where no `up` runs there: no file, one of another version, or one left by a killed `up`."""
    try:
        found = msgspec.json.decode((data_dir / FILE_NAME).read_bytes(), type=Endpoint)
    except (OSError, msgspec.DecodeError):
        return None
    return found if psutil.pid_exists(found.up_pid) else None


def remove(data_dir: Path) -> None:
    """Remove the file; an absent one is fine."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one, the new one or none, never half of one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)

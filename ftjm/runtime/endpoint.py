"""The endpoint file, by which clients on this machine find the cluster that `ftjm up` runs, and sign in to it.

It lies in the data directory of that `up`, and only its user can read it: it holds the token of the API and the
password of the embedded Kafka. Other users of the machine reach both over loopback, and are refused.

A client may know only an address of the cluster, and not its data directory. So each `up` also registers its data
directory in the default one, and its endpoint is then found by its bootstrap or API address.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import psutil

from ftjm.runtime import private_files

FILE_NAME = "endpoint.json"
REGISTER = "running"
"""Folder of the default data directory, with a file for each running `up` that has a data directory of its own."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Addresses and settings of a running `ftjm up`, for its clients. `own_brokers` allows shorter failover times."""

    bootstrap: str
    cluster: str
    own_brokers: bool
    partitions: int
    lanes: int
    lease_seconds: float
    session_timeout_ms: int
    heartbeat_interval_ms: int
    up_pid: Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
    api: str = ""
    """Address of the HTTP API; empty where `up` runs none."""
    token: str = ""
    """Token that requests to the API must carry; empty where they need none."""
    kafka: dict[str, str] = {}
    """Settings with which a Kafka client signs in to the embedded brokers, by the names of librdkafka."""

    def __repr__(self) -> str:
        return f"Endpoint({self.bootstrap}, {self.cluster}, {self.api})"  # no secret reaches a log by a repr

    def has_bootstrap(self, addresses: str) -> bool:
        """Whether these bootstrap servers, `host:port[,host:port]`, are brokers of this endpoint."""
        return _addresses(addresses) <= _addresses(self.bootstrap)

    def has_api(self, url: str) -> bool:
        """Whether this URL is that of this endpoint's API."""
        return bool(self.api) and _origin(url) == _origin(self.api)


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/ftjm`, by default `~/.local/share/ftjm`."""
    path = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share", "ftjm")
    with suppress(RuntimeError):  # a user without a home; the path is refused where it is used
        return path.expanduser()
    return path


def write(data_dir: Path, endpoint: Endpoint) -> Path:
    """Write the file that clients of this data directory read."""
    private_files.make_directory(data_dir)
    path = data_dir / FILE_NAME
    replace_file(path, msgspec.json.format(msgspec.json.encode(endpoint), indent=2) + b"\n")
    return path


def read(data_dir: Path) -> Endpoint | None:
    """The endpoint, or None where no `up` runs: there is no file, or it is of another version or of a killed `up`."""
    try:
        found = msgspec.json.decode((data_dir / FILE_NAME).read_bytes(), type=Endpoint)
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, no UTF-8, a NUL character in the name
        return None
    return found if psutil.pid_exists(found.up_pid) else None


def remove(data_dir: Path) -> None:
    """Remove the file, if there is one."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def register(default_dir: Path, data_dir: Path) -> None:
    """Let clients that know only an address find the endpoint of this data directory. Does nothing if that fails."""
    with suppress(OSError):
        private_files.make_directory(default_dir / REGISTER)
        for entry in (default_dir / REGISTER).iterdir():
            if read(Path(os.fsdecode(entry.read_bytes()))) is None:
                entry.unlink(missing_ok=True)  # that `up` was killed
        if data_dir != default_dir:
            replace_file(_entry(default_dir, data_dir), os.fsencode(data_dir))


def unregister(default_dir: Path, data_dir: Path) -> None:
    """Undo `register`."""
    with suppress(OSError):
        _entry(default_dir, data_dir).unlink(missing_ok=True)


def running(default_dir: Path, data_dir: Path) -> Iterator[Endpoint]:
    """The endpoints of this user that are known on this machine: first that of the data directory."""
    directories = [data_dir]
    with suppress(OSError):
        for entry in sorted((default_dir / REGISTER).iterdir()):
            with suppress(OSError, ValueError):
                directories.append(Path(os.fsdecode(entry.read_bytes())))
    for directory in dict.fromkeys([*directories, default_dir]):
        found = read(directory)
        if found is not None:
            yield found


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new one, never a part. Only its user reads it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _entry(default_dir: Path, data_dir: Path) -> Path:
    return default_dir / REGISTER / hashlib.sha256(os.fsencode(data_dir)).hexdigest()


def _addresses(bootstrap: str) -> set[str]:
    return {f"//{address.strip().lower()}".replace("//localhost:", "//127.0.0.1:") for address in bootstrap.split(",")}


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    try:
        parts = urlsplit(url.strip())
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
        return parts.scheme, host, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None

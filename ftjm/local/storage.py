"""The storage of a new broker. It is formatted by writing two files, as Kafka's `kafka-storage format` writes them.

`meta.properties` names the cluster, the node and the directory. `bootstrap.checkpoint` holds the first records of the
cluster's metadata: the level of each feature of this version of Kafka (KIP-778). They are the same in every cluster, so
`scripts/lock-jars` has had them written once. Kafka's own tool would take a second start of Java, which is half of the
time that a new broker takes to start.
"""

from __future__ import annotations

import base64
import uuid
from importlib.resources import files
from pathlib import Path

from ftjm.runtime import endpoint, private_files

CHECKPOINT = "bootstrap.checkpoint"
META = "meta.properties"


def new_id() -> str:
    """A new id of a cluster or a directory: 16 bytes in URL-safe base64. Kafka refuses one that begins with a dash."""
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()


def ensure_formatted(data: Path, cluster_id: str, node_id: int) -> None:
    """Format the directory of a broker's data, unless it is formatted already. Raises OSError."""
    if (data / META).exists():
        return
    private_files.make_directory(data)
    endpoint.replace_file(data / CHECKPOINT, files(__package__).joinpath(CHECKPOINT).read_bytes())
    # Written last: whether this file exists tells whether the directory is formatted.
    meta = {"version": 1, "cluster.id": cluster_id, "node.id": node_id, "directory.id": new_id()}
    endpoint.replace_file(data / META, "".join(f"{name}={value}\n" for name, value in meta.items()).encode())

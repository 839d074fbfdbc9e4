"""Where a restore reads and writes: what a manifest names is checked here before it is used.

Whoever may write to the topic of snapshots can publish a manifest that names any file or address.
"""

from __future__ import annotations

import os
from pathlib import Path

from ftjm.adapters.files.folder import ChunkFolder, protocol_of
from ftjm.engine.snapshot import DamagedSnapshot
from ftjm.runtime import private_files
from ftjm.runtime.errors import FtjmError

PROTOCOLS = frozenset({"file", "local", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Kinds of folders from which the chunks of a manifest are read, besides the kind that is configured."""


class Places:
    """The folders that hold chunks of one cluster: the configured one, and those that were configured before."""

    def __init__(self, name: str, configured: str) -> None:
        """Take the name of the cluster's folder, and the URL of the folder that is configured, empty for none."""
        self._name = name
        url = f"{configured.rstrip('/')}/{name}"
        self._protocols = PROTOCOLS | {protocol_of(url)}
        self.own = ChunkFolder(url) if configured else None
        self._folders = {url: self.own} if self.own else {}

    def at(self, url: str) -> ChunkFolder:
        """The folder of this URL. Raises DamagedSnapshot if it is none of this cluster."""
        if url not in self._folders:
            ours = url.endswith(f"/{self._name}") and protocol_of(url) in self._protocols
            if not ours or ".." in url.split("/") or "::" in url:
                raise DamagedSnapshot(f"its chunks are said to be at {url[:200]!r}, which is no place of this cluster")
            try:
                self._folders[url] = ChunkFolder(url)
            except FtjmError as error:
                raise DamagedSnapshot(f"the place of its chunks cannot be used: {error}") from error
        return self._folders[url]


def new_file(into: Path, name: str) -> int:
    """Make a file, and open it. Its name came from outside: it must be new, and lie in this directory.

    Raises:
        DamagedSnapshot: the name leads elsewhere, or is there already.
    """
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise DamagedSnapshot(f"a file's name leads elsewhere: {name[:200]!r}")
    try:
        return os.open(into / name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, private_files.FILE_MODE)
    except FileExistsError as error:
        raise DamagedSnapshot(f"the file {name} is there already") from error

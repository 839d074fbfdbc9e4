"""The part of a log that was trimmed: its records from an archive, or its state from a snapshot.

An owner deletes events that are older than the audit time and covered by a snapshot; an archive, if there is one, gets
them first. So a reader that wants all records of a partition reads the archive up to where the log begins, and then the
log. Without an archive the records are gone, but a snapshot still has the state that they made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ftjm.adapters.files.archive import Archive
from ftjm.adapters.kafka.offsets import topic_id
from ftjm.adapters.kafka.patience import QUIET
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.records import Record
from ftjm.engine.snapshot import Manifest
from ftjm.runtime.config import Settings
from ftjm.snapshots.repository import open_repository

Gap = Callable[[int, int], None]
"""Called with a partition whose log was trimmed, and the offset at which the log begins now."""


def silent(_partition: int, _begin: int) -> None:
    """Ignore the gap."""


class WholeLog:
    """The logs of one cluster, together with the records that were trimmed from them."""

    def __init__(self, settings: Settings, archive: str | None = None) -> None:
        """Make it; nothing is read yet.

        Args:
            settings: the settings of the cluster.
            archive: URL of an archive, which is then read instead of snapshots.
        """
        self._settings = settings
        self._archive = Archive(archive) if archive else None

    @property
    def archived(self) -> bool:
        """Whether the trimmed part is read from an archive."""
        return self._archive is not None

    def records(self, scan: Scan, kind: str, partitions: Iterable[int], gap: Gap = silent) -> Iterator[Record]:
        """Read all records of some partitions: first those of the archive, then those of the log.

        Args:
            scan: a scan of the topic.
            kind: the topic's kind: `events` or `commands`.
            partitions: the partitions to read.
            gap: called for each partition whose log was trimmed, where there is no archive.

        Raises:
            FtjmError: the archive does not reach to the beginning of the log.
        """
        starts = dict.fromkeys(partitions, 0)
        # Owners may trim further records while the archive is read.
        while begins := {p: begin for p, at in starts.items() if (begin := scan.bounds(p)[0]) > at}:
            for partition, begin in begins.items():
                if self._archive is None:
                    gap(partition, begin)
                else:
                    yield from self._archive.records(kind, self._topic_id(scan), partition, starts[partition], begin)
                starts[partition] = begin
        yield from scan.read(starts, whole=True)

    def _topic_id(self, scan: Scan) -> str:
        return topic_id(QUIET | self._settings.kafka_settings("archive"), scan.topic)

    def restore(self, partition: int, path: Path, usable: Callable[[Manifest], bool]) -> Manifest | None:
        """Restore a store from the newest snapshot that is `usable`.

        Args:
            partition: the partition to read.
            path: directory of the store.
            usable: whether a snapshot may be used.

        Returns:
            The snapshot's manifest; None if there is none.

        Raises:
            Unreachable: Kafka does not answer.
            FtjmError: Kafka refuses, or the folder of snapshots cannot be read.
        """
        with open_repository(self._settings) as found:
            return found.restore(partition, path, usable=usable)

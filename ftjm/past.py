"""What a log does not hold any more: its records from an archive, or the state that they made from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ftjm.adapters.archive import Archive
from ftjm.adapters.kafka import topic_id
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.config import Settings
from ftjm.engine.snapshot import Manifest
from ftjm.patience import QUIET, patiently
from ftjm.repository import Repository

PATIENCE_SECONDS = 15.0

Gap = Callable[[int, int], None]
"""Told a partition whose log begins later than at its beginning, and where."""


def silent(_partition: int, _begin: int) -> None:
    """Tells nobody."""


@contextmanager
def repository(settings: Settings) -> Iterator[Repository]:
    """The cluster's snapshots. Raises Unreachable, FtjmError."""
    kafka = QUIET | settings.kafka_settings("snapshots")
    log_id = patiently(lambda: topic_id(kafka, settings.topic("events")), settings, PATIENCE_SECONDS)
    with closing(Repository(kafka, settings.cluster, log_id, settings.snapshot_place)) as found:
        yield found


class Past:
    """Of one cluster; asked only where a log was trimmed."""

    def __init__(self, settings: Settings, archive: str | None = None) -> None:
        """`archive` is the URL of one, to be read instead of snapshots."""
        self._settings = settings
        self._archive = Archive(archive) if archive else None

    @property
    def archived(self) -> bool:
        """Whether there is an archive to read."""
        return self._archive is not None

    def records(self, scan: Scan, kind: str, partitions: Iterable[int], gap: Gap = silent) -> Iterator[Record]:
        """All records of the topic that is looked at, from the archive and then from the log.

        Without an archive from where the logs begin, of which `gap` is told. Raises FtjmError where the archive does
        not reach to the log.
        """
        starts = dict.fromkeys(partitions, 0)
        # While the archive is read, owners go on trimming.
        while begins := {p: begin for p, at in starts.items() if (begin := scan.bounds(p)[0]) > at}:
            for partition, begin in begins.items():
                if self._archive is None:
                    gap(partition, begin)
                else:
                    yield from self._archive.records(kind, self._named(scan), partition, starts[partition], begin)
                starts[partition] = begin
        yield from scan.read(starts, whole=True)

    def _named(self, scan: Scan) -> str:
        return topic_id(QUIET | self._settings.kafka_settings("archive"), scan.topic)

    def restore(self, partition: int, path: Path, usable: Callable[[Manifest], bool]) -> Manifest | None:
        """A store at `path` from the newest snapshot that is `usable`. Raises Unreachable, FtjmError."""
        with repository(self._settings) as found:
            return found.restore(partition, path, usable=usable)

"""Trims the logs of a partition, for its owner. A record is deleted once neither a snapshot nor the audit needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftjm.adapters.files.archive import Archive
from ftjm.adapters.kafka.delete_records import LogTrim
from ftjm.adapters.kafka.errors import LostPosition
from ftjm.adapters.kafka.truncation import resume_position
from ftjm.engine.snapshot import KEEP, Manifest, why_not_restorable
from ftjm.runtime import logs
from ftjm.runtime.config import Settings


class Trimmer:
    """Trims `events` and `commands` of the partitions that this process owns. Only one thread uses it.

    To trim twice, or after another process has trimmed, does no harm.
    """

    def __init__(self, settings: Settings, kafka: Mapping[str, Any], topic_ids: Mapping[str, str]) -> None:
        """
        Args:
            settings: with the time for the audit, and the archive.
            kafka: how to reach Kafka.
            topic_ids: the ids of the topics `events` and `commands`, by kind. Kafka gives a topic a new id when it is
                created.

        Raises:
            UsageError: the URL of the archive is wrong.
        """
        self._audit_ms = int(settings.audit_retention_seconds * 1000)
        self._logs = {kind: LogTrim(kafka, settings.topic(kind), committed=kind == "events") for kind in topic_ids}
        self._topic_ids = topic_ids
        self._kafka = kafka
        self._archive = Archive(settings.archive) if settings.archive else None

    def trim(
        self,
        partition: int,
        kept: Sequence[Manifest],
        now_ms: int,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Delete the records of a partition that are not needed any more. If there is an archive, they go there first.

        Args:
            partition: the partition.
            kept: the manifests of its kept snapshots, newest first.
            now_ms: the time, ms since the Unix epoch, by a clock that is known to be right.
            stopped: whether to leave the rest. An archive may take long, and other partitions wait for the thread.

        Raises:
            LogError: Kafka does not answer.
            FtjmError: the archive cannot be written. No record was deleted that is not in the archive.
        """
        # The log behind a snapshot that is kept for an older build is needed, too.
        kept = [manifest for manifest in kept if manifest.log_id == self._topic_ids["events"]]
        if sum(not why_not_restorable(manifest, self._topic_ids["events"]) for manifest in kept) < KEEP:
            # One snapshot may be damaged. Then everything must still be in the log.
            return
        oldest = min(kept, key=lambda manifest: manifest.applied_offset)
        for kind, log in self._logs.items():
            begin, audit_begin = log.range(partition, now_ms - self._audit_ms)
            if audit_begin <= begin:  # this is the usual case: then no other offset has to be searched for
                continue
            # The event at the snapshot's offset stays: it proves that a restored store descends from the log. The last
            # decided command stays, too: it proves that the log has lost nothing since.
            needed = oldest.applied_offset if kind == "events" else self._decided_to(partition, kept) - 1
            end = min(needed, audit_begin)
            if end <= begin:
                continue
            if self._archive is None:
                log.delete_before(partition, end)
            else:
                with log.scan() as scan:
                    for archived_to in self._archive.keep(scan, kind, self._topic_ids[kind], partition, begin, end):
                        log.delete_before(partition, archived_to)
                        if stopped():
                            return
            logs.get(__name__, partition=partition).info(
                "log_trimmed", topic=log.topic, begin=begin, now=end, archived=self._archive is not None
            )

    def _decided_to(self, partition: int, kept: Sequence[Manifest]) -> int:
        """Return the offset before which all commands are decided, also if the log has lost its tail since; 0 if the
        log was trimmed beyond a snapshot's position, and the offset is not known."""
        topic = self._logs["commands"].topic
        try:
            return min(resume_position(self._kafka, topic, partition, one.commands).offset for one in kept)
        except LostPosition:
            return 0

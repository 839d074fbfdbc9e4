"""Trimming the logs of a partition, by its owner: behind the oldest snapshot that is kept, and past the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftjm import logs
from ftjm.adapters.archive import Archive
from ftjm.adapters.kafka_channel import LostPosition
from ftjm.adapters.kafka_tail import goes_on_at
from ftjm.adapters.kafka_trim import LogTrim
from ftjm.config import Settings
from ftjm.engine.snapshot import KEEP, Manifest, foreign


class Trimmer:
    """Used by one thread. What it does twice, or after somebody else, harms nobody."""

    def __init__(self, settings: Settings, kafka: Mapping[str, Any], ids: Mapping[str, str]) -> None:
        """`ids` are those that Kafka gave the topics `events` and `commands` at their birth."""
        self._audit_ms = int(settings.audit_retention_seconds * 1000)
        self._logs = {kind: LogTrim(kafka, settings.topic(kind), committed=kind == "events") for kind in ids}
        self._ids = ids
        self._kafka = kafka
        self._archive = Archive(settings.archive) if settings.archive else None

    def trim(
        self,
        partition: int,
        kept: Sequence[Manifest],
        now_ms: int,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Delete what neither a snapshot (newest first) nor the audit needs; with an archive, once that has it.

        If `stopped`, the rest is left: an archive may take long, and others wait for the thread.

        `now_ms` is the time by a clock that is known to be right.

        Raises KafkaException, FtjmError: then nothing was deleted that is not kept elsewhere.
        """
        kept = [manifest for manifest in kept if not foreign(manifest, self._ids["events"])]
        if len(kept) < KEEP:
            # One snapshot may be damaged: then the log must still have everything.
            return
        oldest = kept[-1]
        # The record at a store's offset stays: it proves that the store is the log's child.
        # The command before the place stays, too: it proves that the log has lost nothing since.
        for kind, log in self._logs.items():
            begin, old = log.range(partition, now_ms - self._audit_ms)
            if old <= begin:  # as is mostly so: then nothing need be searched for
                continue
            needed = oldest.applied_offset if kind == "events" else self._decided(partition, kept) - 1
            end = min(needed, old)
            if end <= begin:
                continue
            if self._archive is None:
                log.delete_before(partition, end)
            else:
                with log.scan() as scan:
                    for at in self._archive.keep(scan, kind, self._ids[kind], partition, begin, end):
                        log.delete_before(partition, at)
                        if stopped():
                            return
            logs.get(__name__, partition=partition).info(
                "log_trimmed", topic=log.topic, begin=begin, now=end, archived=self._archive is not None
            )

    def _decided(self, partition: int, kept: Sequence[Manifest]) -> int:
        """Before which offset all commands are decided, though the log has perhaps lost its tail since."""
        topic = self._logs["commands"].topic
        try:
            return min(goes_on_at(self._kafka, topic, partition, one.commands).offset for one in kept)
        except LostPosition:  # trimmed, to a later snapshot's place
            return 0

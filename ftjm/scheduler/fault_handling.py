"""After a fault has stopped a partition: reports it, and decides whether its store is kept, set aside or deleted.

A state that differs from the log is evidence: the first such store of a partition is kept as `suspect-partition-N`, and
the partition is rebuilt once. If the log leads to the same difference again, the owner that wrote it was wrong, and
the store is left as it is.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from structlog.stdlib import BoundLogger

from ftjm.adapters.rocksdb import DamagedStore
from ftjm.core.errors import NewerLogError, UndecodableError
from ftjm.engine.partition import Diverged
from ftjm.runtime.errors import FtjmError
from ftjm.scheduler.context import Context

SUSPECT = "suspect-"
"""Prefix of the directory of a store that was set aside. Only the first one of a partition is kept."""


class FaultHandler:
    """Handles the faults that stop one partition. Only the partition's thread uses it."""

    def __init__(self, path: Path, log: BoundLogger, context: Context) -> None:
        """
        Args:
            path: directory of the partition's store.
            log: receives the reports.
            context: what the partitions of the process share.
        """
        self._path = path
        self._log = log
        self._context = context
        self._diverged_at = -1
        """Offset at which the state differed from the log last; -1 if it never did."""

    def handle(self, error: Exception, retry_in_seconds: float) -> None:
        """Report an error, and prepare the store for the next try. To be called while the error is being handled.

        Args:
            error: the error that has stopped the partition. Its store must be closed.
            retry_in_seconds: pause before the partition is tried again, for the report.
        """
        todo = "trying again"
        if isinstance(error, Diverged):
            todo = self._diverged(error)
        elif isinstance(error, DamagedStore):
            todo = "rebuilding the store from a snapshot or the log"
            shutil.rmtree(self._path, ignore_errors=True)
        elif isinstance(error, AssertionError):
            todo = f"report this error; {self._rebuild()}"
        elif isinstance(error, UndecodableError):
            # The log is at fault, not the store: the record is decoded before anything is folded.
            todo = "run a version that knows this record, as the instance does that wrote it"
        elif isinstance(error, NewerLogError):
            self._context.newer_log = error
            todo = "start a build that knows these versions; this process leaves the cluster and changes nothing"
            self._log.error("partition_stopped", error=str(error), todo=todo, retry_in_s=retry_in_seconds)
            return
        elif isinstance(error, FtjmError):
            # The error says everything that is known, so no traceback is logged.
            todo = f"{error.todo}; trying again"
            text = f"expected {error.expected}, but found {error.found}"
            self._log.error("partition_stopped", error=text, todo=todo, retry_in_s=retry_in_seconds)
            return
        self._log.exception("partition_stopped", todo=todo, retry_in_s=retry_in_seconds)

    def _diverged(self, error: Diverged) -> str:
        """Report the difference. Set the store aside if it is the first difference at this offset.

        Returns:
            What the operator should do.
        """
        self._context.metrics.divergences.inc()
        if error.offset == self._diverged_at:
            todo = "report this, with the log and all stores: the log does not lead to the state that its owner wrote"
        else:
            self._diverged_at = error.offset
            todo = f"report this error; {self._rebuild()}"
        self._log.error(
            "state_diverged",
            batch=error.batch_no,
            offset=error.offset,
            expected=error.expected,
            found=error.found,
            todo=todo,
        )
        return todo

    def _rebuild(self) -> str:
        """Set the store aside, so that a new one is made. Returns the text that reports this."""
        return f"rebuilding the store from a snapshot or the log; the first faulty store is kept in {self._set_aside()}"

    def _set_aside(self) -> Path:
        aside = self._path.with_name(SUSPECT + self._path.name)
        if aside.exists():
            shutil.rmtree(self._path, ignore_errors=True)
        else:
            with suppress(OSError):  # then the same store is tried and reported again
                self._path.rename(aside)
        return aside

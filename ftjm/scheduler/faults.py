"""What a fault that stopped a partition says of its store, and what becomes of it before the next try."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from structlog.stdlib import BoundLogger

from ftjm.adapters.rocks import DamagedStore
from ftjm.core.errors import UndecodableError
from ftjm.engine.partition import Diverged
from ftjm.errors import FtjmError
from ftjm.metrics.scheduler import SchedulerMetrics

SUSPECT = "suspect-"
"""How the directory of a store begins that was set aside: one for each partition, the first one."""


class Faults:
    """Of one partition."""

    def __init__(self, path: Path, log: BoundLogger, metrics: SchedulerMetrics) -> None:
        self._path = path
        self._log = log
        self._metrics = metrics
        self._diverged_at = -1

    def handle(self, error: Exception, again_in_seconds: float) -> None:
        """Tell of the error that is being handled, and leave a store to try again with. It must be closed."""
        todo = "trying again"
        if isinstance(error, Diverged):
            todo = self._diverged(error)
        elif isinstance(error, DamagedStore):
            todo = "rebuilding it from a snapshot or the log"
            shutil.rmtree(self._path, ignore_errors=True)
        elif isinstance(error, AssertionError):
            todo = f"report it; rebuilding it from a snapshot or the log, the store is kept in {self._set_aside()}"
        elif isinstance(error, UndecodableError):
            # The log's, and none of the store's: it was decoded before anything was folded.
            todo = "run a version that knows this record, as the instance does that wrote it"
        elif isinstance(error, FtjmError):
            # One that says all there is to know: no traceback.
            todo = f"{error.todo}; trying again"
            what = f"expected {error.expected}, but found {error.found}"
            self._log.error("partition_stopped", error=what, todo=todo, again_in_s=again_in_seconds)
            return
        self._log.exception("partition_stopped", todo=todo, again_in_s=again_in_seconds)

    def _diverged(self, error: Diverged) -> str:
        """What to do. One of the two states is wrong: ours is kept, and made anew once."""
        self._metrics.divergences.inc()
        if error.offset == self._diverged_at:
            todo = "report it, with the log and all stores: the log itself does not lead to what its owner says"
        else:
            self._diverged_at = error.offset
            todo = f"report it; rebuilding it from a snapshot or the log, the store is kept in {self._set_aside()}"
        self._log.error(
            "state_diverged",
            batch=error.batch_no,
            offset=error.offset,
            expected=error.expected,
            found=error.found,
            todo=todo,
        )
        return todo

    def _set_aside(self) -> Path:
        aside = self._path.with_name(SUSPECT + self._path.name)
        if aside.exists():
            shutil.rmtree(self._path, ignore_errors=True)
        else:
            with suppress(OSError):  # then it is tried with again, and told again
                self._path.rename(aside)
        return aside

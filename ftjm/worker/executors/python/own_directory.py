"""The directory of an attempt, which the next attempt of the process uses again if it is as empty as it was.

Whether it is empty is asked after each attempt, and listing it takes longer than many tasks. Its time of change
(`st_ctime`: of its entries, its mode or its owner) says the same: a directory that was last changed some time before
the attempt began, and whose time is the same, is as it was. The time of a file system advances in steps, so a directory
that was changed just before is listed.
"""

import os
import time
from pathlib import Path

from ftjm.worker.attempts import attempt_files
from ftjm.worker.executors.python.call import Call

STEP_NS = 100_000_000
"""The time of a file system advances in steps that are shorter: 10 ms at most, but on a few old ones."""


class Directory:
    """The directory of the attempt that runs."""

    def __init__(self) -> None:
        self.work = ""
        """Where the attempt runs, if its job names no other place."""
        self._path = ""
        self._checkpoint = False
        """Whether a checkpoint was handed to the attempt."""
        self._changed = (0, 0)
        """When the directory and `work` in it were last changed, ns."""
        self._is_settled = False
        """Whether a change of them shows in these times."""

    def take(self, call: Call) -> None:
        """Take the directory of a call, and make it if it is not there. Raises OSError."""
        if call.directory != self._path or not call.is_made:
            self._path, self.work = call.directory, f"{call.directory}/{attempt_files.WORK}"
            self._changed, self._is_settled = (0, 0), False
        self._checkpoint = bool(call.checkpoint)
        if not call.is_made:
            # It has a place to work in any case, since a later attempt may need it.
            attempt_files.make(Path(self._path), work=True, checkpoint=call.checkpoint)
        elif call.checkpoint:
            attempt_files.leave_checkpoint(Path(self._path), call.checkpoint)
        elif self._changed != (0, 0):
            self._is_settled = max(self._changed) < time.time_ns() - STEP_NS

    def is_empty(self) -> bool:
        """Whether the attempt has left it as it was. A checkpoint that was handed to it is removed."""
        try:
            if self._checkpoint:
                os.unlink(f"{self._path}/{attempt_files.LAST}")  # noqa: PTH108  (faster than a `Path`)
            statuses = os.lstat(self._path), os.lstat(self.work)
            changed = statuses[0].st_ctime_ns, statuses[1].st_ctime_ns
            if self._is_settled and not self._checkpoint and changed == self._changed:
                return True
            self._changed, self._is_settled = changed, False
            if not all(map(attempt_files.is_as_made, statuses)):
                return False
            return os.listdir(self._path) == [attempt_files.WORK] and not os.listdir(self.work)  # noqa: PTH208
        except OSError:
            return False

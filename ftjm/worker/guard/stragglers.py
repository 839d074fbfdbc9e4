"""What attempts leave behind, found by its marks: see `attempts/linux_processes.py`."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from ftjm.worker.attempts.linux_processes import OWN_MARK, descendants, kill, mark_of

_PAGE_BYTES = 4096
"""The kernel lists no more at a time, whatever is asked for."""
_PID_BYTES = 12
"""A list of the kernel's goes on if no further pid, with the space after it, would have fitted."""


class LivingMarks(set[int]):
    """The marks of all attempts that start or run."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[int] | None = None
        """The children of this process as they were at the last look; None if there must be another."""
        self._known = b""
        """The children as the kernel listed them when all of them were known."""
        self._children = -1
        # Not every kernel has the file.
        with suppress(OSError):
            self._children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)

    def kill_stragglers(self, is_known: Callable[[int], bool], is_forking: Callable[[], bool]) -> set[int]:
        """Kill processes that escaped from their attempt's group, and became children of the guard when it ended.

        Args:
            is_known: Whether a process is an attempt's leader, or the guard's or an executor's own.
            is_forking: Whether an executor waits for a new process, which has no mark yet.

        Returns:
            The marks of ended attempts that had left one. It may have been killed before, and not be gone yet.
        """
        found: set[int] = set()
        for pid in self._unknown(is_known):
            mark = mark_of(pid)
            is_marked = mark not in (OWN_MARK, -1)
            # A process without a mark may belong to an attempt that runs or starts: it goes when there is none.
            belongs = mark in self if is_marked else bool(self) or is_forking()
            if not belongs:
                if is_marked:
                    found.add(mark)
                for straggler in (*descendants(pid), pid):
                    kill(straggler, signal.SIGKILL)
        return found

    def look_again(self) -> None:
        """Look at the children again at the next call of `kill_stragglers`.

        An attempt that has ended has left what it leaves, so one look is enough for all ends that are known together.
        """
        self._found = None

    def _unknown(self, is_known: Callable[[int], bool]) -> list[int]:
        """The children of this thread that are not known.

        Orphans become children of the main thread, which this is. What another thread has started is a leader.
        """
        if self._found is None:
            listed = self._list()
            # Those that were known are known until they are waited for, and then they are in no list any more.
            self._found = list(map(int, listed.split())) if listed != self._known else []
            if self._found and all(map(is_known, self._found)):
                self._known, self._found = listed, []
        return [pid for pid in self._found if not is_known(pid)] if self._found else self._found

    def _list(self) -> bytes:
        """The children of this thread, as the kernel lists them."""
        if self._children < 0:
            return b""
        listed = os.pread(self._children, _PAGE_BYTES, 0)
        if len(listed) > _PAGE_BYTES - _PID_BYTES:
            while more := os.pread(self._children, _PAGE_BYTES, len(listed)):
                listed += more
        return listed

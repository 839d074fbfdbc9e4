"""SIGINT and SIGTERM as requests to stop, which do not disturb what the process does at that moment.

Python runs a signal's handler in the main thread, between any two steps of it. So a handler must not wait for a lock
(`threading.Event.set` takes one): the main thread may hold it. Nor must it raise an exception: that may end a step that
must not be left half done, such as `Popen.poll` with its lock held, or be lost in a callback that ignores exceptions.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable

NUMBERS = (signal.SIGINT, signal.SIGTERM)


def call_in_a_thread(stop: Callable[[], object]) -> None:
    """Call `stop` at each SIGINT and SIGTERM, in a thread of its own, so that it may take locks.

    To be called in the main thread.
    """
    received: queue.SimpleQueue[int] = queue.SimpleQueue()  # its `put` may be called in a handler

    def work() -> None:
        while True:
            received.get()
            stop()

    threading.Thread(target=work, name="stop-signals", daemon=True).start()
    for number in NUMBERS:
        signal.signal(number, lambda number, _frame: received.put(number))


class StopSignals:
    """Counts SIGINT and SIGTERM. While `interrupts` is set, each also raises KeyboardInterrupt in the main thread.

    Set it only while something is waited for that no count can end. What raises may be lost: look at the count, too.
    """

    def __init__(self) -> None:
        self.count = 0
        self.interrupts = False
        for number in NUMBERS:  # a shell starts its background jobs with SIGINT ignored
            signal.signal(number, self._receive)

    def another(self) -> Callable[[], bool]:
        """A function that returns whether a signal has come since now."""
        before = self.count
        return lambda: self.count > before

    def _receive(self, _number: int, _frame: object) -> None:
        self.count += 1
        if self.interrupts:
            raise KeyboardInterrupt

"""Ctrl-C ends a verb at once, also while it waits for a Kafka that does not answer.

Python raises KeyboardInterrupt between two steps of the main thread. A call into librdkafka is one step, and may take
seconds; closing its clients takes as long again. So a thread gives the main thread a moment to say what there is to
say, and then ends the process. Verbs that end in their own way (`up`, the roles) handle the signal themselves, and are
left alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time

MOMENT_SECONDS = 0.5
STATUS = 128 + signal.SIGINT
_orderly = threading.Event()


def end_orderly() -> None:
    """From now on this process ends in its own time: it has something to clean up, such as a cluster of its own."""
    _orderly.set()


def ignore() -> None:
    """From now on SIGINT does nothing: the process is at its end, where Python would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_soon() -> None:
    """Let SIGINT end this process within a moment. To be called in the main thread."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="interrupts", daemon=True).start()


def _watch(reading: int) -> None:
    while signal.SIGINT not in os.read(reading, 64) or not _raises():
        pass
    time.sleep(MOMENT_SECONDS)
    os._exit(STATUS)


def _raises() -> bool:
    """Whether SIGINT raises KeyboardInterrupt, and nothing else is to be done."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler and not _orderly.is_set()

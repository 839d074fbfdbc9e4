"""An app whose import ends its process the first times, as lack of memory may: as often as the file has bytes."""

import os
import signal
from pathlib import Path

import ftjm

DEATHS = "TEST_DEATHS"
"""Environment variable that holds the path of the file. Each death takes one byte off it."""

if DEATHS in os.environ and (left := Path(os.environ[DEATHS]).stat().st_size):
    os.truncate(os.environ[DEATHS], left - 1)
    os.kill(os.getpid(), signal.SIGKILL)


@ftjm.task
def add(number: int) -> int:
    """Return one more."""
    return number + 1

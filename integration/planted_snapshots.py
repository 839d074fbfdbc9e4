"""The program with a planted fault: `python -m integration.planted_snapshots …` is killed during an upload.

It uploads `FTJM_TEST_SNAPSHOTS` whole snapshots. Of the next one it sends one chunk and then kills itself.
"""

from __future__ import annotations

import os
import signal
from itertools import islice
from typing import Any

from ftjm.adapters.kafka.snapshot_topic import SnapshotTopic
from ftjm.cli import main


def plant() -> None:
    """Replace the upload of chunks."""
    sound = SnapshotTopic.put
    left = int(os.environ["FTJM_TEST_SNAPSHOTS"])

    def send(self: SnapshotTopic, partition: int, chunks: Any, *args: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            sound(self, partition, islice(chunks, 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return sound(self, partition, chunks, *args)

    setattr(SnapshotTopic, "put", send)  # noqa: B010  (mypy does not allow an assignment to a method)


if __name__ == "__main__":
    plant()
    main()

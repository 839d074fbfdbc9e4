"""The program with a fault planted in it: `python -m integration.planted_snapshots …` is killed amid an upload.

After so many snapshots as `FTJM_TEST_SNAPSHOTS` says were sent whole, of the next one half is.
"""

from __future__ import annotations

import os
import signal
from itertools import islice
from typing import Any

from ftjm.adapters.kafka_snapshots import SnapshotTopic
from ftjm.cli import main


def plant() -> None:
    """Replace the sending of chunks."""
    sound = SnapshotTopic.put
    left = int(os.environ["FTJM_TEST_SNAPSHOTS"])

    def send(self: SnapshotTopic, partition: int, chunks: Any, *args: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            sound(self, partition, islice(chunks, 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return sound(self, partition, chunks, *args)

    setattr(SnapshotTopic, "put", send)  # noqa: B010  (a method's type is not to be replaced)


if __name__ == "__main__":
    plant()
    main()

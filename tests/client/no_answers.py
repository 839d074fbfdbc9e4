"""The reader of a client to which nobody answers."""

from __future__ import annotations

import time
from typing import Any


class NoAnswers:
    """A lane in which nothing arrives."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Read nothing."""

    def read(self, seconds: float) -> list[Any]:
        time.sleep(seconds)
        return []

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

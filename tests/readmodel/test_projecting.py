"""The thread that keeps the projection at the log's end survives unexpected errors, and reports them."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from ftjm.adapters.kafka.errors import LostPosition
from ftjm.readmodel.follower import ProjectionFollower
from ftjm.runtime import config

WAIT_SECONDS = 20.0


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), LostPosition("trimmed")])
def test_an_unexpected_fault_is_reported_and_the_projection_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    faults: list[str] = []
    again = threading.Event()

    def attend(self: ProjectionFollower) -> None:
        faults.append(self.status.fault)
        if len(faults) == 1:
            raise error
        again.set()
        self._stop.wait(WAIT_SECONDS)

    monkeypatch.setattr(ProjectionFollower, "_follow_until_stopped", attend)
    following = ProjectionFollower(config.load(bootstrap="127.0.0.1:1"), tmp_path / "projection", lambda: None)
    following.start()
    try:
        assert again.wait(WAIT_SECONDS)
    finally:
        following.stop()
    assert faults == ["", f"{type(error).__name__}: {error}"]

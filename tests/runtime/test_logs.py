"""Repeated log lines are throttled."""

from __future__ import annotations

import time

from ftjm.runtime.logs import Throttle


def test_a_throttle_passes_the_first_line_and_then_one_in_each_pause(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    throttle = Throttle(5.0)
    passed = []
    for _ in range(24):
        passed.append(throttle.due())
        now += 0.5
    assert [n for n, due in enumerate(passed) if due] == [0, 10, 20]

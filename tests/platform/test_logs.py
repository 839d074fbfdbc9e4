"""Lines that would come again and again."""

from __future__ import annotations

import time

from ftjm.logs import Seldom


def test_what_is_said_again_and_again_is_told_at_once_and_then_seldom(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    seldom = Seldom(5.0)
    told = []
    for _ in range(24):
        told.append(seldom.due())
        now += 0.5
    assert [n for n, due in enumerate(told) if due] == [0, 10, 20]

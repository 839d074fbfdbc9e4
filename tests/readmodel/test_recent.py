"""The newest events in memory: their size is bounded, and the oldest are dropped first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ftjm.readmodel.recent_events import ENTRY_BYTES, RecentEvents


def test_only_records_that_were_kept_are_found():
    recent = RecentEvents()
    recent.keep(0, 5, b"five")
    recent.keep(1, 5, b"other")
    assert recent.find(0, [4, 5, 6]) == {5: b"five"}
    assert recent.find(1, [5]) == {5: b"other"}
    recent.clear()
    assert recent.find(0, [5]) == {}


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30), st.binary(max_size=400)), max_size=60))
def test_the_newest_records_that_fit_are_kept(kept):
    room = 5 * ENTRY_BYTES
    recent = RecentEvents(room)
    for partition, offset, value in kept:
        recent.keep(partition, offset, value)
    wanted: dict[tuple[int, int], bytes] = {}
    for partition, offset, value in reversed(kept):
        if (partition, offset) in wanted:
            continue
        used = sum(len(value) + ENTRY_BYTES for value in wanted.values())
        if used + len(value) + ENTRY_BYTES > room:
            break
        wanted[partition, offset] = value
    found = {(p, offset): value for p in (0, 1) for offset, value in recent.find(p, range(31)).items()}
    assert found.items() >= wanted.items()
    assert sum(len(value) + ENTRY_BYTES for value in found.values()) <= room

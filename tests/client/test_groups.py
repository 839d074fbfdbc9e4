"""Which jobs are sent together."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ftjm.client import groups
from ftjm.client.groups import GROUP_MAX, grouped


class Source:
    """Numbers, of which some take long to come. The clock is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(groups, "time", SimpleNamespace(monotonic=lambda: self.now))

    def numbers(self, count: int, *slow: int, fails_at: int = -1) -> Iterator[int]:
        for number in range(count):
            if number == fails_at:
                raise ValueError(number)
            self.now += 1.0 if number in slow else 0.000_001
            yield number


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    return Source(monkeypatch)


def test_items_that_come_at_once_are_together_up_to_the_greatest_group(source: Source) -> None:
    assert [len(group) for group in grouped(source.numbers(2 * GROUP_MAX + 3))] == [GROUP_MAX, GROUP_MAX, 3]
    assert [*grouped([])] == []


def test_an_item_that_was_waited_for_is_sent_at_once_with_those_before_it(source: Source) -> None:
    assert [*grouped(source.numbers(6, 0, 3, 4))] == [[0], [1, 2, 3], [4], [5]]


def test_the_time_that_sending_takes_is_not_the_source_s(source: Source) -> None:
    found: list[int] = []
    for group in grouped(source.numbers(2 * GROUP_MAX)):
        source.now += 5
        found.append(len(group))
    assert found == [GROUP_MAX, GROUP_MAX]


def test_what_came_before_an_error_is_sent(source: Source) -> None:
    groups_found = grouped(source.numbers(5, fails_at=2))
    assert next(groups_found) == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(groups_found)

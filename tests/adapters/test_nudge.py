"""Nudges: one lane of each broker, one record under way in each."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

from ftjm.adapters.kafka import nudge as module
from ftjm.adapters.kafka.errors import LogUnanswered
from ftjm.adapters.kafka.nudge import CHOOSE_AGAIN_SECONDS, CHOOSE_SECONDS, Nudge

TOPIC = "c.heartbeats"


class Site:
    """A nudge whose consumer, producer and clock are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.leaders = {0: 1, 1: 2, 2: 1, 3: -1}
        self.away = self.broken = False
        self.read: set[int] = set()
        self.written: list[tuple[int, Callable[[], None]]] = []
        self.nudge = Nudge(TOPIC, self._write)
        self.consumer: Any = SimpleNamespace(
            list_topics=self._list_topics, incremental_assign=self._assign, incremental_unassign=self._unassign
        )

    def choose(self, after_seconds: float = 0) -> set[int]:
        self.now += after_seconds
        self.nudge.choose_lanes(self.consumer)
        return self.read

    def lanes(self) -> list[int]:
        return [lane for lane, _ in self.written]

    def _write(self, lane: int, delivered: Callable[[], None]) -> None:
        if self.broken:
            raise LogUnanswered("no connection")
        self.written.append((lane, delivered))

    def _list_topics(self, topic: str, timeout: float) -> Any:
        if self.away:
            raise KafkaException("no answer")
        lanes = {lane: SimpleNamespace(leader=leader) for lane, leader in self.leaders.items()}
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=lanes)})

    def _assign(self, places: list[TopicPartition]) -> None:
        for place in places:
            assert (place.topic, place.offset) == (TOPIC, OFFSET_END)
            assert place.partition not in self.read
            self.read.add(place.partition)

    def _unassign(self, places: list[TopicPartition]) -> None:
        for place in places:
            self.read.remove(place.partition)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_one_lane_of_each_broker_is_read_and_none_without_a_leader(site: Site) -> None:
    assert site.choose() == {0, 1}
    site.leaders = {0: 1, 1: 1, 2: 2, 3: 2}
    assert site.choose(CHOOSE_SECONDS - 1) == {0, 1}, "a look costs a request"
    assert site.choose(1) == {0, 2}


def test_a_look_without_an_answer_changes_nothing_and_is_soon_repeated(site: Site) -> None:
    site.choose()
    site.away, site.leaders = True, {2: 1}
    assert site.choose(CHOOSE_SECONDS) == {0, 1}
    site.away, site.leaders = False, {}
    assert site.choose(CHOOSE_AGAIN_SECONDS) == {0, 1}, "a broker that has just started knows no lane"
    site.leaders = {2: 1}
    assert site.choose(CHOOSE_AGAIN_SECONDS) == {2}


def test_a_lane_has_one_record_under_way_and_a_later_nudge_follows_it(site: Site) -> None:
    site.choose()
    for _ in range(3):
        site.nudge.send()
    assert site.lanes() == [0, 1]
    site.written[0][1]()
    assert site.lanes() == [0, 1, 0], "the first record may have come before what the later nudges are for"
    site.written[2][1]()
    assert site.lanes() == [0, 1, 0]
    site.nudge.send()
    assert site.lanes() == [0, 1, 0, 0]


def test_a_record_that_cannot_be_written_is_lost_and_the_next_one_is_sent(site: Site) -> None:
    site.choose()
    site.broken = True
    site.nudge.send()
    site.broken = False
    site.nudge.send()
    assert site.lanes() == [0, 1]


def test_a_lane_with_an_error_is_read_again_after_a_pause(site: Site) -> None:
    site.choose()
    site.nudge.note_error(site.consumer, "c.events", 0)
    site.nudge.note_error(site.consumer, TOPIC, 3)
    assert site.read == {0, 1}, "errors of what is no lane"
    site.nudge.note_error(site.consumer, TOPIC, 0)
    assert site.choose(CHOOSE_AGAIN_SECONDS - 0.1) == {1}
    assert site.choose(0.1) == {0, 1}


def test_a_new_consumer_reads_no_lane_until_they_are_chosen(site: Site) -> None:
    site.choose()
    site.read = set()
    site.nudge.reconnect()
    assert site.choose() == {0, 1}

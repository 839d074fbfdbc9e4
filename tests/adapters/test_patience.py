from types import SimpleNamespace

import pytest

from ftjm.adapters.kafka import patience
from ftjm.adapters.kafka.errors import BrokersForgotten, LogRefused, LogUnanswered, TopicUnknown
from ftjm.adapters.kafka.patience import patiently
from ftjm.runtime import config
from ftjm.runtime.errors import FtjmError, Unreachable


def failing(*kinds):
    left = list(kinds)

    def make():
        if left:
            raise left.pop(0)("a reason")
        return "made"

    return make


@pytest.fixture
def settings(tmp_path):
    return config.load(bootstrap="127.0.0.1:1", data_dir=str(tmp_path))


def test_a_kafka_that_comes_back_is_waited_for(settings):
    assert patiently(failing(LogUnanswered, BrokersForgotten), settings, 30.0) == "made"


def test_patience_ends_after_its_limit(settings):
    with pytest.raises(Unreachable, match=r"Kafka to answer at 127\.0\.0\.1:1"):
        patiently(failing(*[LogUnanswered] * 100), settings, 0.2)


def test_a_refusal_is_raised_at_once(settings):
    with pytest.raises(FtjmError, match="Kafka to let this client in"):
        patiently(failing(LogRefused), settings, 30.0)


def test_a_missing_topic_is_looked_up_again_before_it_is_reported(settings):
    """Not all brokers know a new topic yet."""
    assert patiently(failing(TopicUnknown), settings, 30.0) == "made"
    with pytest.raises(FtjmError, match="ftjm topics create"):
        patiently(failing(*[TopicUnknown] * 1_000), settings, 30.0)


def test_a_missing_topic_is_looked_up_again_after_an_outage_of_kafka(settings, monkeypatch):
    """A broker that has just come back does not know the topic yet."""
    now = [1_000.0]
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: now[0]))
    answer = failing(LogUnanswered, TopicUnknown)

    def slowly():
        now[0] += 2 * patience.TOPIC_SECONDS
        return answer()

    assert patiently(slowly, settings, 30.0) == "made"

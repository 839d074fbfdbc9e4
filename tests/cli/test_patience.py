from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm import config, patience
from ftjm.errors import FtjmError, Unreachable
from ftjm.patience import patiently


def failing(*codes):
    left = list(codes)

    def make():
        if left:
            raise KafkaException(KafkaError(left.pop(0)))
        return "made"

    return make


@pytest.fixture
def settings(tmp_path):
    return config.load(bootstrap="127.0.0.1:1", data_dir=str(tmp_path))


def test_a_kafka_that_comes_back_is_waited_for(settings):
    assert patiently(failing(KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN), settings, 30.0) == "made"


def test_patience_ends(settings):
    with pytest.raises(Unreachable, match=r"Kafka to answer at 127\.0\.0\.1:1"):
        patiently(failing(*[KafkaError._TRANSPORT] * 100), settings, 0.2)


def test_a_no_is_told_at_once(settings):
    with pytest.raises(FtjmError, match="Kafka to let this client in"):
        patiently(failing(KafkaError._AUTHENTICATION), settings, 30.0)


def test_a_topic_is_asked_for_again_before_it_is_missed(settings):
    """One that was just made: not all brokers know it yet."""
    assert patiently(failing(KafkaError.UNKNOWN_TOPIC_OR_PART), settings, 30.0) == "made"
    with pytest.raises(FtjmError, match="ftjm topics create"):
        patiently(failing(*[KafkaError.UNKNOWN_TOPIC_OR_PART] * 1_000), settings, 30.0)


def test_a_topic_is_asked_for_again_by_who_has_waited_for_kafka(settings, monkeypatch):
    """The broker has just come back, and does not know it yet."""
    now = [1_000.0]
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: now[0]))
    answer = failing(KafkaError._TRANSPORT, KafkaError.UNKNOWN_TOPIC_OR_PART)

    def slowly():
        now[0] += 2 * patience.TOPIC_SECONDS
        return answer()

    assert patiently(slowly, settings, 30.0) == "made"

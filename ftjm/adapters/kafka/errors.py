"""The errors that Kafka's adapters raise, so that no other room has to know librdkafka's.

librdkafka reports each failure as one of some 200 codes. Callers react to them in six ways, so there are six classes::

    LogError               the base: whatever was asked was not done
      LogUnanswered        no answer in time; the same request may succeed later
        BrokersForgotten   this client knows no broker any more; a new client does (see `connection.BrokerWatch`)
      TopicUnknown         no such topic or partition, perhaps only on a broker that was just started
      OffsetOutOfRange     the log has no such offset: it was trimmed, or it has lost its tail
      LogRefused           Kafka answers that it will not: a record is too large, a right is missing, a setting is wrong
      ClientBroken         the client cannot be used any more; a new one may work

`str` of each is librdkafka's own text. Fencing is not among them: `partition_log` raises the engine's `Fenced` and
`CommitUnknown`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

TRANSIENT_CODES = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._DESTROY_BROKER,  # the client has dropped a bootstrap connection, since it knows the brokers now
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
"""Errors that pass. `KafkaError.retriable()` is set for errors of transactions only, so these are listed here."""
OUT_OF_RANGE_CODES = frozenset(
    {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}
)
TOPIC_UNKNOWN_CODES = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._DESTROY,  # the queue of a partition that librdkafka has given up
    }
)
"""A broker that was just started may not know a topic yet: librdkafka then fails all records that wait for it."""


class LogError(Exception):
    """Kafka, or the client in this process, did not carry out a request; `str` gives the reason."""


class LogUnanswered(LogError):
    """Kafka did not answer in time. The same request may succeed later."""


class BrokersForgotten(LogUnanswered):
    """The client knows no broker any more. It does not recover; a new client does."""


class TopicUnknown(LogError):
    """The topic or partition does not exist, or the broker that was asked does not know it yet."""


class OffsetOutOfRange(LogError):
    """The log has no such offset: it was trimmed, or it is shorter than expected."""


class LogRefused(LogError):
    """Kafka refuses the request: a record is too large, a right is missing, or a setting is wrong."""


class ClientBroken(LogError):
    """The client met a fatal error and cannot be used any more."""


class LostPosition(Exception):
    """The log does not hold the record that has to be read next."""


def error_of(error: KafkaError) -> LogError:
    """Translate an error of librdkafka."""
    code, text = error.code(), error.str()
    if error.fatal() or code == KafkaError._FATAL:
        return ClientBroken(text)
    if code in TOPIC_UNKNOWN_CODES:
        return TopicUnknown(text)
    if code in OUT_OF_RANGE_CODES:
        return OffsetOutOfRange(text)
    if code in TRANSIENT_CODES or error.retriable():
        return LogUnanswered(text)
    return LogRefused(text)


@contextmanager
def log_errors() -> Iterator[None]:
    """Raise errors of ours for those that librdkafka raises inside. Also a decorator: `@log_errors()`."""
    try:
        yield
    except KafkaException as raised:
        raise error_of(raised.args[0]) from raised

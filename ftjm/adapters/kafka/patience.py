"""Waiting for a Kafka that does not answer, and error messages for people where waiting does not help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

from ftjm.adapters.kafka.errors import LogError, LogUnanswered, TopicUnknown
from ftjm.adapters.kafka.scan import Scan
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, Unreachable

Made = TypeVar("Made")

TOPIC_SECONDS = 1.0
"""How long a topic may be unknown: a topic that was just made is not known to all brokers at once."""
READ_PATIENCE_SECONDS = 15.0
"""How long commands that read the log wait for Kafka."""
QUIET = {"log_level": 2}
"""Client settings for commands that people call. librdkafka writes a line to standard error for every attempt to
connect, many each second; `connection.error_callback` logs the same once in a while."""


class UnknownTopic:
    """Distinguishes a topic that does not exist from one that was just created."""

    def __init__(self) -> None:
        self._known_by = 0.0

    def is_missing(self, error: BaseException) -> bool:
        """Whether the topic does not exist, now that this error was raised: it has been unknown for a second."""
        if not isinstance(error, TopicUnknown):
            self._known_by = 0.0
            return False
        self._known_by = self._known_by or time.monotonic() + TOPIC_SECONDS
        return time.monotonic() >= self._known_by


def patiently(make: Callable[[], Made], settings: Settings, patience_seconds: float) -> Made:
    """Call `make` again and again, with backoff, until Kafka answers.

    Args:
        make: what to call. It raises LogError where Kafka does not answer.
        settings: named in the error messages.
        patience_seconds: how long to try again before Unreachable is raised.

    Returns:
        What `make` returns.

    Raises:
        Unreachable: Kafka did not answer within `patience_seconds`.
        FtjmError: Kafka refuses (raised at once), or a topic has been unknown for a second.
    """
    topic = UnknownTopic()
    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda e: not topic.is_missing(e) and isinstance(e, TopicUnknown | LogUnanswered)
        ),
        wait=tenacity.wait_random_exponential(0.1, max=2.0),
        stop=tenacity.stop_after_delay(patience_seconds),
        reraise=True,
    )
    try:
        return trying(make)
    except LogUnanswered as error:
        raise unreachable(settings, str(error)) from error
    except LogError as error:
        if isinstance(error, TopicUnknown):
            todo = "make them with `ftjm topics create`, or name the right --cluster"
            raise FtjmError(f"the topics of the cluster {settings.cluster}", str(error), todo) from error
        todo = "see the settings under kafka.*, and the brokers' access rules"
        raise FtjmError("Kafka to let this client in", str(error), todo) from error


def unreachable(settings: Settings, found: str) -> Unreachable:
    """The error for a Kafka that did not answer for too long."""
    todo = "see that it runs (`ftjm up`), then run the same again"
    return Unreachable(f"Kafka to answer at {settings.bootstrap}", found, todo)


def open_scan(settings: Settings, kind: str, *, committed: bool = True) -> Scan:
    """Open a scan of one of the cluster's topics.

    Args:
        settings: the settings of the cluster.
        kind: the topic's kind: `events`, `commands`, `replies` and so on.
        committed: see `Scan`.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: there is no such topic, or Kafka refuses.
    """
    return patiently(
        lambda: Scan(QUIET | settings.kafka_settings("reader"), settings.topic(kind), committed=committed),
        settings,
        READ_PATIENCE_SECONDS,
    )

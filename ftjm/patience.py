"""Waiting for a Kafka that is away, and saying what is wrong where waiting does not help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import tenacity
from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters.kafka import AWAY
from ftjm.config import Settings
from ftjm.errors import FtjmError, Unreachable

Made = TypeVar("Made")

TOPIC_SECONDS = 1.0
"""A topic that was just made is not known to all brokers at once."""
QUIET = {"log_level": 2}
"""For Kafka clients of people's commands: the library writes a line for every attempt to connect, many a second,
and our own callback says the same once in a while."""


class Missing:
    """A topic that is unknown: perhaps not for good."""

    def __init__(self) -> None:
        self._known_by = 0.0

    def for_good(self, error: BaseException) -> bool:
        """Whether it has been unknown for so long, now that this was raised."""
        if not _is_unknown(error):
            self._known_by = 0.0
            return False
        self._known_by = self._known_by or time.monotonic() + TOPIC_SECONDS
        return time.monotonic() >= self._known_by


def patiently(make: Callable[[], Made], settings: Settings, patience_seconds: float) -> Made:
    """Call `make` again and again, with backoff, until Kafka answers.

    Raises:
        Unreachable: when patience is over.
        FtjmError: where Kafka answers that it will not: at once, or once a topic has been unknown for a second.
    """
    missing = Missing()
    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: not missing.for_good(e) and (_is_unknown(e) or _is_away(e))),
        wait=tenacity.wait_random_exponential(0.1, max=2.0),
        stop=tenacity.stop_after_delay(patience_seconds),
        reraise=True,
    )
    try:
        return trying(make)
    except KafkaException as error:
        cause: KafkaError = error.args[0]
        if _is_away(error):
            raise unreachable(settings, cause.str()) from error
        if _is_unknown(error):
            todo = "make them with `ftjm topics create`, or name the right --cluster"
            raise FtjmError(f"the topics of the cluster {settings.cluster}", cause.str(), todo) from error
        todo = "see the settings under kafka.*, and the brokers' access rules"
        raise FtjmError("Kafka to let this client in", cause.str(), todo) from error


def unreachable(settings: Settings, found: str) -> Unreachable:
    """The error for a Kafka that was away for too long."""
    todo = "see that it runs (`ftjm up`), then run the same again"
    return Unreachable(f"Kafka to answer at {settings.bootstrap}", found, todo)


def _is_unknown(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def _is_away(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and (error.args[0].retriable() or error.args[0].code() in AWAY)

"""Waiting for the answers to requests of librdkafka's admin client."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

AGAIN_SECONDS = 15.0
"""For how long a request is sent again."""
PAUSE_SECONDS = 0.05
"""Pause before a request is sent again."""

T = TypeVar("T")


def admin_answer(asked: Future[T], ask_again: Callable[[], Future[T]]) -> T:
    """Wait for the answer to a request, which is sent again where the client has dropped the connection it went to.

    librdkafka replaces its connection to a bootstrap server by one to a broker, and ends what is under way on it
    (`_DESTROY_BROKER`). The request may have been carried out all the same, so this is for requests that may be carried
    out twice.

    Raises:
        KafkaException: Kafka refuses the request, or does not answer.
    """
    deadline = time.monotonic() + AGAIN_SECONDS
    while True:
        try:
            return asked.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError._DESTROY_BROKER or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_SECONDS)
        asked = ask_again()

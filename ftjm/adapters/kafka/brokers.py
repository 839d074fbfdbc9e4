"""Waiting until the brokers of a cluster have found each other, before anything else is asked of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

QUESTION_SECONDS = 0.3


def await_brokers(
    settings: Mapping[str, str], wanted: set[int], seconds_max: float, check: Callable[[], None]
) -> set[int]:
    """Ask for the brokers of the cluster until all `wanted` are there.

    Args:
        settings: the brokers' addresses, and how to sign in.
        wanted: ids of brokers.
        seconds_max: how long to wait.
        check: called before each request; an exception from it ends the wait.

    Returns:
        The ids of the brokers that there are in the end.
    """
    # Connections are refused until the brokers are up. Without log_level=0, librdkafka writes a line for each.
    admin = AdminClient({**settings, "reconnect.backoff.max.ms": 100, "log_level": 0})
    deadline = time.monotonic() + seconds_max
    found: set[int] = set()
    while not wanted <= found and time.monotonic() < deadline:
        check()
        try:
            found = set(admin.list_topics(timeout=QUESTION_SECONDS).brokers)
        except KafkaException:
            continue
    return found

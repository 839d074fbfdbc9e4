"""Parcels on their way to Kafka: which are sent, which are sent again later, and which never can be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ftjm.adapters.kafka.errors import ClientBroken, LogRefused
from ftjm.core.limits import RECORD_BYTES_MAX
from ftjm.engine.ports import Parcel, Unsendable
from ftjm.runtime import config, logs
from ftjm.scheduler.context import Context

LANES, PARTITIONS = 2, 4


class Outlet:
    """A producer that refuses every record with an error, or takes it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def send(self, *_: Any, delivered: Any, **__: Any) -> None:
        if self.error is not None:
            raise self.error
        delivered(None)


def send(parcel: Parcel, outlet: Outlet | None = None) -> list[bool]:
    """Send a parcel. Return what the context reported about it: whether it was sent."""
    context: Any = SimpleNamespace(
        partitions=PARTITIONS,
        lanes=LANES,
        settings=config.load(),
        throttle=logs.Throttle(),
        producer=outlet or Outlet(),
    )
    told: list[bool] = []
    Context.send(context, parcel, told.append)
    return told


@pytest.mark.parametrize(("topic", "partition"), [("dispatch", LANES - 1), ("replies", 0), ("commands", 3)])
def test_a_parcel_for_a_partition_that_exists_is_sent(topic: str, partition: int) -> None:
    assert send(Parcel(topic, partition, "", b"x")) == [True]


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel("dispatch", LANES, "", b"x"),
        Parcel("dispatch", 2**40, "", b"x"),
        Parcel("replies", LANES, "", b"x"),
        Parcel("replies", -1, "", b"x"),
        Parcel("commands", PARTITIONS, "", b"x"),
        Parcel("replies", 0, "", bytes(RECORD_BYTES_MAX + 1)),
    ],
    ids=lambda parcel: f"{parcel.topic} {parcel.partition}",
)
def test_a_parcel_that_no_partition_takes_is_not_tried(parcel: Parcel) -> None:
    with pytest.raises(Unsendable, match="expected"):
        send(parcel)


def test_what_the_producers_settings_refuse_is_tried_again() -> None:
    """An operator can mend them."""
    assert send(Parcel("replies", 0, "", b"x"), Outlet(LogRefused("message size too large"))) == [False]


def test_a_producer_that_sends_nothing_any_more_is_no_fault_of_a_parcel() -> None:
    with pytest.raises(ClientBroken):
        send(Parcel("replies", 0, "", b"x"), Outlet(ClientBroken("lost its tail")))

"""The client goes on where the one below it does not."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError

from ftjm import client as module
from ftjm import config
from ftjm.adapters.kafka import FORGOTTEN
from ftjm.client import Client
from ftjm.core.commands import SubmitJob
from ftjm.core.model import JobSpec
from ftjm.errors import FtjmError
from ftjm.sdk.transport import KafkaTransport
from ftjm.tickets import Ticket
from integration.waiting import until


class Silent:
    """An outlet that tells of nothing that it has sent, unless it is asked to."""

    made: list[Silent]

    def __init__(self, *_: Any, **__: Any) -> None:
        self.fault: KafkaError | None = None
        self.sent: list[Any] = []
        self.broken = False
        self.refuses: KafkaError | None = None
        Silent.made.append(self)

    @property
    def forgotten(self) -> bool:
        return self.fault is not None and self.fault.code() == FORGOTTEN

    def warm(self, *_: Any) -> int:
        return 1

    def send(self, _topic: str, _value: bytes, *, delivered: Any, **_: Any) -> None:
        if self.broken:
            raise ValueError("broken")
        if self.refuses is not None:
            delivered(self.refuses, None)
            return
        self.sent.append(delivered)

    def close(self, _seconds: float) -> int:
        return len(self.sent)


class Delivered:
    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    Silent.made = []
    monkeypatch.setattr(module, "Outlet", Silent)
    return Client(config.load(bootstrap="127.0.0.1:1"), listen=False, patience_seconds=0.1)


def submit(client: Client, job_id: str) -> Ticket:
    return client.send(SubmitJob(queue="q", job_id=job_id, spec=JobSpec(command=["true"])))


def test_what_may_not_have_arrived_is_sent_again_by_the_next_outlet(client: Client) -> None:
    tickets = [submit(client, job_id) for job_id in "abc"]
    [first] = Silent.made
    first.sent[0](None, Delivered())
    first.fault = KafkaError(FORGOTTEN)
    tickets.append(submit(client, "d"))
    _, second = Silent.made
    assert len(second.sent) == 3
    first.sent[1](None, Delivered())
    assert tickets[1].acknowledged, "late, and all the same"
    for delivered in second.sent:
        delivered(None, Delivered())
    assert [(ticket.acknowledged, ticket.offset) for ticket in tickets] == [(True, 7)] * 4
    assert client.under_way == 0
    client.confirm()


def test_who_waits_for_the_log_has_it_sent_again(client: Client) -> None:
    ticket = submit(client, "a")
    Silent.made[0].fault = KafkaError(FORGOTTEN)
    with pytest.raises(FtjmError, match="no acknowledgement"):
        client.confirm()
    Silent.made[1].sent[0](None, Delivered())
    client.confirm()
    assert ticket.acknowledged


def test_what_a_new_outlet_would_not_mend_is_told(client: Client) -> None:
    submit(client, "a")
    Silent.made[0].fault = KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    with pytest.raises(FtjmError, match="0 of 1 commands are in the log"):
        client.confirm()
    assert len(Silent.made) == 1


UNKNOWN = KafkaError(KafkaError._UNKNOWN_PARTITION)


def test_what_fails_since_a_broker_does_not_know_the_topic_yet_is_sent_again(client: Client) -> None:
    """In its order, and before what comes after it. The broker was just started."""
    tickets = [submit(client, job_id) for job_id in "abc"]
    [outlet] = Silent.made
    for delivered in (outlet.sent[2], outlet.sent[1]):
        delivered(UNKNOWN, Delivered())
    outlet.refuses = UNKNOWN
    tickets.append(submit(client, "d"))
    assert len(outlet.sent) == 3
    outlet.refuses = None
    with pytest.raises(FtjmError, match="no acknowledgement"):
        client.confirm()
    assert len(outlet.sent) == 6
    for number, delivered in enumerate((outlet.sent[0], *outlet.sent[3:])):
        assert client.under_way == 4 - number
        delivered(None, Delivered())
        assert tickets[number].acknowledged
    client.confirm()


def test_what_could_not_be_handed_over_keeps_nothing_back(client: Client) -> None:
    [outlet] = Silent.made
    for _ in range(2):
        outlet.broken = True
        with pytest.raises(ValueError, match="broken"):
            submit(client, "bad")
        outlet.broken = False
        submit(client, "good")
    assert len(outlet.sent) == client.under_way == 2


def test_who_does_not_wait_is_told_that_the_topic_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender is told, and sends it again."""
    Silent.made = []
    monkeypatch.setattr(module, "Outlet", Silent)
    settings, producer = config.load(bootstrap="127.0.0.1:1"), {"message.timeout.ms": 5_000}
    client = Client(settings, listen=False, patience_seconds=0.1, producer=producer)
    ticket = submit(client, "a")
    Silent.made[0].sent[0](UNKNOWN, Delivered())
    assert ticket.failure
    with pytest.raises(FtjmError, match="0 of 1 commands are in the log"):
        client.confirm()


class NoReader:
    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is heard."""

    def read(self, seconds: float) -> list[Any]:
        time.sleep(seconds)
        return []

    def close(self) -> None:
        """Nothing is held."""


def test_a_session_that_waits_has_it_sent_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    Silent.made.clear()
    monkeypatch.setattr(module, "LaneReader", NoReader)
    transport = KafkaTransport(config.load(bootstrap="127.0.0.1:1"), 60.0)
    ticket = transport.send(SubmitJob(queue="q", job_id="a", spec=JobSpec(command=["true"])))
    Silent.made[0].fault = KafkaError(FORGOTTEN)
    waiting = threading.Thread(target=transport.confirm, args=[[ticket]])
    waiting.start()
    until(lambda: len(Silent.made) == 2 and Silent.made[1].sent, "it to be sent again")
    Silent.made[1].sent[0](None, Delivered())
    waiting.join()
    transport.close()
    assert ticket.acknowledged

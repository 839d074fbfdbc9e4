"""The command client goes on when its Kafka client fails."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from ftjm.adapters.kafka.errors import BrokersForgotten, LogError, LogRefused, TopicUnknown
from ftjm.adapters.records import Receipt
from ftjm.client import answers
from ftjm.client import command_client as module
from ftjm.client.command_client import Client
from ftjm.client.groups import GROUP_MAX
from ftjm.client.ticket import Ticket
from ftjm.core.records.commands import AwaitJob, CancelJob, RerunJob, SubmitJob
from ftjm.core.records.messages import CommandReply
from ftjm.core.state.model import JobSpec
from ftjm.runtime import config
from ftjm.runtime.errors import FtjmError
from ftjm.sdk.transport import KafkaTransport
from integration.waiting import until
from tests.client.no_answers import NoAnswers


class Silent:
    """A producer that confirms no record until the test makes it."""

    made: list[Silent]

    def __init__(self, *_: Any, **__: Any) -> None:
        self.fault: LogError | None = None
        self.sent: list[Any] = []
        self.broken = False
        self.refuses: LogError | None = None
        Silent.made.append(self)

    @property
    def forgotten(self) -> bool:
        return isinstance(self.fault, BrokersForgotten)

    def warm(self, *_: Any) -> int:
        return 1

    def send_for_receipt(self, _topic: str, *, received: Any, **_: Any) -> None:
        if self.broken:
            raise ValueError("broken")
        if self.refuses is not None:
            received(self.refuses)
            return
        self.sent.append(received)

    def close(self, _seconds: float) -> int:
        return len(self.sent)


RECEIPT = Receipt(0, 7, 0, 0.0)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    Silent.made = []
    monkeypatch.setattr(module, "ConfirmingProducer", Silent)
    return Client(config.load(bootstrap="127.0.0.1:1"), listen=False, patience_seconds=0.1)


def submit(client: Client, job_id: str) -> Ticket:
    return client.send(SubmitJob(queue="q", job_id=job_id, spec=JobSpec(command=["true"])))


def test_an_unconfirmed_command_is_sent_again_by_the_next_producer(client: Client) -> None:
    tickets = [submit(client, job_id) for job_id in "abc"]
    [first] = Silent.made
    first.sent[0](RECEIPT)
    first.fault = BrokersForgotten("the client has forgotten all brokers")
    tickets.append(submit(client, "d"))
    _, second = Silent.made
    assert len(second.sent) == 3
    first.sent[1](RECEIPT)
    assert tickets[1].acknowledged, "a late confirmation counts, too"
    for received in second.sent:
        received(RECEIPT)
    assert [(ticket.acknowledged, ticket.offset) for ticket in tickets] == [(True, 7)] * 4
    assert client.under_way == 0
    client.confirm()


def test_a_client_that_waits_for_the_log_sends_unconfirmed_commands_again(client: Client) -> None:
    ticket = submit(client, "a")
    Silent.made[0].fault = BrokersForgotten("the client has forgotten all brokers")
    with pytest.raises(FtjmError, match="no acknowledgement"):
        client.confirm()
    Silent.made[1].sent[0](RECEIPT)
    client.confirm()
    assert ticket.acknowledged


def test_an_error_that_a_new_producer_cannot_cure_is_raised(client: Client) -> None:
    submit(client, "a")
    Silent.made[0].fault = LogRefused("Cluster authorization failed")
    with pytest.raises(FtjmError, match="0 of 1 commands are in the log"):
        client.confirm()
    assert len(Silent.made) == 1


UNKNOWN = TopicUnknown("Unknown partition")


def test_a_command_is_sent_again_when_a_broker_does_not_know_the_topic_yet(client: Client) -> None:
    """The commands keep their order and precede later ones. The broker had just been started."""
    tickets = [submit(client, job_id) for job_id in "abc"]
    [producer] = Silent.made
    for received in (producer.sent[2], producer.sent[1]):
        received(UNKNOWN)
    producer.refuses = UNKNOWN
    tickets.append(submit(client, "d"))
    assert len(producer.sent) == 3
    producer.refuses = None
    with pytest.raises(FtjmError, match="no acknowledgement"):
        client.confirm()
    assert len(producer.sent) == 6
    for number, received in enumerate((producer.sent[0], *producer.sent[3:])):
        assert client.under_way == 4 - number
        received(RECEIPT)
        assert tickets[number].acknowledged
    client.confirm()


def test_a_command_that_could_not_be_handed_over_does_not_hold_up_others(client: Client) -> None:
    [producer] = Silent.made
    for _ in range(2):
        producer.broken = True
        with pytest.raises(ValueError, match="broken"):
            submit(client, "bad")
        producer.broken = False
        submit(client, "good")
    assert len(producer.sent) == client.under_way == 2


def test_a_client_that_does_not_wait_learns_that_the_topic_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender of the command learns it and sends the command again."""
    Silent.made = []
    monkeypatch.setattr(module, "ConfirmingProducer", Silent)
    settings, producer = config.load(bootstrap="127.0.0.1:1"), {"message.timeout.ms": 5_000}
    client = Client(settings, listen=False, patience_seconds=0.1, producer=producer)
    ticket = submit(client, "a")
    Silent.made[0].sent[0](UNKNOWN)
    assert ticket.failure
    with pytest.raises(FtjmError, match="0 of 1 commands are in the log"):
        client.confirm()


def test_a_client_with_a_reply_lane_sends_unconfirmed_commands_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Silent.made.clear()
    monkeypatch.setattr(answers, "LaneReader", NoAnswers)
    transport = KafkaTransport(config.load(bootstrap="127.0.0.1:1"), 60.0)
    ticket = transport.send(SubmitJob(queue="q", job_id="a", spec=JobSpec(command=["true"])))
    Silent.made[0].fault = BrokersForgotten("the client has forgotten all brokers")
    waiting = threading.Thread(target=transport.confirm, args=[[ticket]])
    waiting.start()
    until(lambda: len(Silent.made) == 2 and Silent.made[1].sent, "the command to be sent again")
    Silent.made[1].sent[0](RECEIPT)
    waiting.join()
    transport.close()
    assert ticket.acknowledged


def test_a_closed_client_says_so_at_once(client: Client) -> None:
    submit(client, "a")
    client.close()
    for call in (lambda: submit(client, "b"), client.confirm, lambda: client.receive(0)):
        with pytest.raises(FtjmError, match="expected an open client, but found one that was closed"):
            call()
    client.close()


def test_a_client_says_at_once_that_it_belongs_to_the_parent_process(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = submit(client, "a")
    parent, child = os.getpid(), os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    for call in (lambda: submit(client, "b"), client.confirm, lambda: client.receive(0), lambda: client.ask(ticket)):
        with pytest.raises(FtjmError, match=f"one that process {parent} made before it forked this process, {child}"):
            call()
    client.close()  # the parent's connections stay open


def test_a_transport_that_is_closed_or_forked_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Silent.made = []
    monkeypatch.setattr(module, "ConfirmingProducer", Silent)
    monkeypatch.setattr(answers, "LaneReader", NoAnswers)
    transport = KafkaTransport(config.load(bootstrap="127.0.0.1:1"), 60.0)
    command = SubmitJob(queue="q", job_id="a", spec=JobSpec(command=["true"]))
    ticket = transport.send(command)
    calls = (
        lambda: transport.send(command),
        lambda: transport.ask(ticket),
        lambda: transport.confirm([ticket]),
        lambda: transport.wait(lambda: False, None),
        lambda: next(transport.events("q", "a", 0)),
    )
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: 1)
        for call in calls:
            with pytest.raises(FtjmError, match="before it forked"):
                call()
    transport.close()
    for call in calls:
        with pytest.raises(FtjmError, match="one that was closed"):
            call()
    transport.close()


def reply(code: str) -> CommandReply:
    return CommandReply(
        session="", correlation="1", accepted=not code, code=code, text="", queue="q", job_id="a", run=1, state="READY"
    )


def test_only_a_rerun_that_was_carried_out_before_is_a_refusal_that_means_yes() -> None:
    rerun, cancel = RerunJob(queue="q", job_id="a", command_id="x"), CancelJob(queue="q", job_id="a")
    assert not Ticket(rerun).refused
    assert not Ticket(rerun, reply=reply("")).refused
    assert not Ticket(rerun, reply=reply("REPEATED")).refused
    assert Ticket(rerun, reply=reply("WRONG_STATE")).refused
    assert Ticket(cancel, reply=reply("REPEATED")).refused


def test_a_question_is_another_command_than_the_submission_that_it_asks_about(client: Client) -> None:
    """The submission may still have to be sent again: as a question it would never create the job."""
    spec = JobSpec(command=["x"])
    ticket = client.send(SubmitJob(queue="q", job_id="a", spec=spec))
    client.ask(ticket)
    assert ticket.awaits
    commands = [command for _, command in client._unconfirmed.values()]
    assert [type(command) for command in commands] == [SubmitJob, AwaitJob]
    assert isinstance(commands[1], AwaitJob)
    assert commands[1].spec == spec
    Silent.made[0].fault = BrokersForgotten("all brokers")
    client.mend()
    assert len(Silent.made[1].sent) == 2
    assert [type(command) for _, command in client._unconfirmed.values()] == [SubmitJob, AwaitJob]


def test_of_a_group_what_was_handed_over_before_a_failure_stays_under_way(client: Client) -> None:
    [producer] = Silent.made
    send, count = producer.send_for_receipt, 0

    def failing_third(*args: Any, **named: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise ValueError("broken")
        send(*args, **named)

    producer.send_for_receipt = failing_third  # type: ignore[method-assign]
    jobs = [SubmitJob(queue="q", job_id=str(number), spec=JobSpec(command=["true"])) for number in range(5)]
    tickets = [*map(client.ticket, jobs)]
    with pytest.raises(ValueError, match="broken"):
        client.hand_over(tickets)
    assert len(producer.sent) == client.under_way == 2
    assert [bool(ticket.failure) for ticket in tickets] == [False, False, True, True, True]
    client.hand_over([*map(client.ticket, jobs[2:])])
    assert len(producer.sent) == client.under_way == 5
    for received in producer.sent:
        received(RECEIPT)
    client.confirm()
    assert (client.acknowledged, client.under_way) == (5, 0)
    assert [ticket.acknowledged for ticket in tickets] == [True, True, False, False, False]


def jobs_in_order(count: int) -> list[SubmitJob]:
    return [SubmitJob(queue="q", job_id=str(number), spec=JobSpec(command=["true"])) for number in range(count)]


def test_a_group_waits_behind_what_has_to_be_sent_again_and_follows_it_in_order(client: Client) -> None:
    [producer] = Silent.made
    first = submit(client, "first")
    producer.refuses = UNKNOWN
    tickets = [*map(client.ticket, jobs_in_order(3))]
    client.hand_over(tickets)
    assert client.under_way == 4
    assert [ticket.failure for ticket in tickets] == ["", "", ""]
    producer.refuses = None
    client._again_at = 0.0
    client.mend()
    assert len(producer.sent) == 4
    for ticket, received in zip((first, *tickets), producer.sent, strict=True):
        assert not ticket.acknowledged
        received(RECEIPT)
        assert ticket.acknowledged
    client.confirm()


def test_while_a_topic_is_unknown_few_of_many_commands_are_encoded_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    [producer] = Silent.made
    producer.refuses = UNKNOWN
    client.hand_over([*map(client.ticket, jobs_in_order(10 * GROUP_MAX))])
    made, record = 0, client._record

    def counted(*about: Any) -> dict[str, Any]:
        nonlocal made
        made += 1
        return record(*about)

    monkeypatch.setattr(client, "_record", counted)
    client._again_at = 0.0
    client.mend()
    assert 0 < made <= GROUP_MAX
    assert client.under_way == 10 * GROUP_MAX

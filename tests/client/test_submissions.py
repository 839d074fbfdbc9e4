"""What a client sends where the cluster does not know explicit fields yet."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.records import Record
from ftjm.client import answers
from ftjm.client import command_client as module
from ftjm.client.command_client import Client
from ftjm.client.submissions import TOO_NEW, names_explicit, submission, to_send_instead
from ftjm.core.records.commands import ApplySchedule, AwaitJob, CancelJob, Command, SubmitJob
from ftjm.core.records.messages import CommandReply
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.runtime import config
from ftjm.sdk.transport import KafkaTransport
from ftjm.specs.job import parse_job
from integration.waiting import until
from tests.client.test_command_client import RECEIPT, Silent

SPEC = JobSpec(command=["true"])
EXPLICIT = SubmitJob(queue="q", job_id="a", spec=SPEC, explicit=["max_attempts"])


def reply(code: str, correlation: str = "1", session: str = "") -> CommandReply:
    return CommandReply(
        session=session,
        correlation=correlation,
        accepted=not code,
        code=code,
        text="",
        queue="q",
        job_id="a",
        run=1,
        state="",
    )


class Lane:
    """A lane in which the test puts answers."""

    made: list[Lane]

    def __init__(self, *_: Any, **__: Any) -> None:
        self.arrived: list[Record] = []
        Lane.made.append(self)

    def read(self, seconds: float) -> list[Record]:
        if not self.arrived:
            time.sleep(min(seconds, 0.01))
        found, self.arrived = self.arrived, []
        return found

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def answer(self, client: Client, code: str, correlation: str) -> None:
        value = codec.encode(reply(code, correlation, client.session))
        self.arrived.append(Record(0, 0, client.session.encode(), value, 0, []))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    Silent.made, Lane.made = [], []
    monkeypatch.setattr(module, "ConfirmingProducer", Silent)
    monkeypatch.setattr(answers, "LaneReader", Lane)
    return Client(config.load(bootstrap="127.0.0.1:1"), patience_seconds=0.1)


def commands(client: Client) -> list[Command]:
    return [command for _, command in client._unconfirmed.values()]


def test_a_job_names_what_its_user_gives_with_the_default() -> None:
    job = parse_job({"command": "true", "job_id": "a", "queue": "q", "max_attempts": 1, "priority": 60})
    assert submission(job) == msgspec.structs.replace(EXPLICIT, spec=msgspec.structs.replace(SPEC, priority=60))
    assert submission(parse_job({"command": "true", "priority": 60}), awaits=True).explicit == []


@pytest.mark.parametrize("code", sorted(TOO_NEW))
def test_what_a_cluster_does_not_know_is_sent_without_the_names(client: Client, code: str) -> None:
    ticket = client.send(EXPLICIT)
    [producer], [lane] = Silent.made, Lane.made
    producer.sent[0](RECEIPT)
    lane.answer(client, code, "1")
    assert not client.decided([ticket], 0.05)
    assert not ticket.refused
    assert commands(client) == [msgspec.structs.replace(EXPLICIT, explicit=[])]
    assert EXPLICIT.explicit, "the caller's command is as it was"
    producer.sent[1](RECEIPT)
    lane.answer(client, code, "1")  # to a copy of the first command
    client.receive(0)
    assert ticket.reply is None
    lane.answer(client, "", "2")
    assert client.decided([ticket], 1)
    assert ticket.reply is not None
    assert ticket.reply.accepted
    client.ask(ticket)
    [question] = commands(client)
    assert isinstance(question, AwaitJob)
    assert question.explicit == []


def test_another_refusal_is_the_answer(client: Client) -> None:
    for number, code in enumerate(("INVALID", "IDENTITY_TAKEN"), 1):
        ticket = client.send(msgspec.structs.replace(EXPLICIT))
        Lane.made[0].answer(client, code, str(number))
        client.receive(0)
        assert ticket.refused
    plain = client.send(SubmitJob(queue="q", job_id="a", spec=SPEC))
    Lane.made[0].answer(client, "NOT_YET_SUPPORTED", "3")
    client.receive(0)
    assert plain.refused
    assert len(commands(client)) == 3


def test_a_question_has_the_names_of_its_submission(client: Client) -> None:
    client.ask(client.send(EXPLICIT))
    question = commands(client)[1]
    assert isinstance(question, AwaitJob)
    assert question.explicit == ["max_attempts"]


def test_a_schedule_is_sent_without_the_names_too() -> None:
    spec = ScheduleSpec(SPEC, cron="@daily", explicit=["priority"])
    schedule = ApplySchedule(queue="q", name="n", spec=spec, expected_revision=7)
    found = to_send_instead(schedule, reply("NOT_YET_SUPPORTED"))
    assert found == msgspec.structs.replace(schedule, spec=ScheduleSpec(SPEC, cron="@daily"))
    assert found is not None
    assert not names_explicit(found)
    assert not names_explicit(CancelJob(queue="q", job_id="a"))


def test_a_program_that_ends_at_once_leaves_nothing_refused(client: Client) -> None:
    """Nobody waits for the decision but the client that is closed."""
    transport = KafkaTransport(config.load(bootstrap="127.0.0.1:1"), 60.0)
    producer, lane = Silent.made[1], Lane.made[1]
    transport.send(EXPLICIT)
    producer.sent[0](RECEIPT)
    closing = threading.Thread(target=transport.close)
    closing.start()
    time.sleep(0.3)
    assert closing.is_alive(), "it is not decided"
    lane.answer(transport._client, "UNKNOWN_FINGERPRINT", "1")
    until(lambda: len(producer.sent) == 2, "the command to be sent again")
    producer.sent[1](RECEIPT)
    closing.join(10)
    assert not closing.is_alive()

"""Workers that cannot reach the log: what may go on does, what may not is stopped in time, and reports are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from ftjm.clock import boot_ms
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.ports import free_base_port
from integration.links import Asked, Valve, linked_kafka
from integration.waiting import until
from integration.workers import SLACK_MS, Site, attempts_of, told


@dataclass
class Linked:
    site: Site
    link: Valve
    kafka: EmbeddedKafka


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linked]:
    folder = tmp_path_factory.mktemp("cuts")
    with (
        linked_kafka(folder, free_base_port()) as (kafka, link),
        Site.on(kafka, folder) as site,
    ):
        yield Linked(site, link, kafka)


@pytest.fixture
def linked(shared: Linked) -> Iterator[Linked]:
    shared.link.up()
    shared.link.mend()
    yield shared
    shared.site.dismiss()
    shared.link.down()


def _cut_off(linked: Linked, *, lease: float, seconds: float, forget: bool = False) -> None:
    """Cut the worker alone from the log: an attempt with `continue_for` finishes, one without is stopped."""
    site, link, queue = linked.site, linked.link, linked.site.queue()
    worker = site.hire(queue, slots=2, lease=lease, bootstrap=link.address)
    patient = site.probe(queue, "patient", lease * 2 + 1, disconnect={"continue_for": "2m"})
    hasty = site.probe(queue, "hasty", lease * 2 + 1)
    for job in ("patient", "hasty"):
        site.until_running(queue, job)
    at = boot_ms()
    link.cut(forget=forget)
    until(lambda: site.intervals(queue, "patient")[0].finished, "the patient job to finish")
    assert boot_ms() - at < seconds * 1000, "the cut was too short for this machine"
    (stopped,) = site.intervals(queue, "hasty")
    assert not stopped.finished
    told(f"lease {lease} s: cut to the stop of what may not go on", stopped.last - at)
    assert stopped.last - at < lease * 1000, "it went on past its lease"
    site.until_event(queue, "hasty", e.AttemptLost)
    time.sleep(max(0.0, seconds - (boot_ms() - at) / 1000))
    link.mend()
    mended = boot_ms()
    site.client.ended([patient], 90)
    told(f"cut of {seconds} s mended, to the outcome that it held back", boot_ms() - mended)
    assert site.until_ended(patient) == ["SUCCEEDED"]
    worker.ready(2)
    told("mended, to the next session", boot_ms() - mended)
    assert site.until_ended(hasty) == ["SUCCEEDED"]
    told("mended, to the stopped job's end", boot_ms() - mended)
    assert site.story(queue, "patient") == ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]
    assert len(site.intervals(queue, "patient")) == 1
    assert [i.finished for i in site.intervals(queue, "hasty")] == [False, True]
    assert site.view(queue, "hasty").job.failures == 0
    # What it had to say of the stopped attempt came too late.
    refused = [x for x in attempts_of(site.history(queue, "hasty"), e.CommandRejected) if x.code == "STALE_ATTEMPT"]
    assert refused
    site.assert_apart(queue, "patient", "hasty")
    site.judge((queue, "patient"), (queue, "hasty"))


def test_a_worker_that_is_cut_off(linked: Linked) -> None:
    _cut_off(linked, lease=2, seconds=12)


def test_a_worker_whose_connections_were_forgotten(linked: Linked) -> None:
    _cut_off(linked, lease=2, seconds=8, forget=True)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("forget", [False, True])
def test_a_worker_that_is_cut_off_for_a_minute(linked: Linked, *, forget: bool) -> None:
    _cut_off(linked, lease=5, seconds=60, forget=forget)


def test_a_worker_that_can_write_but_not_read(linked: Linked) -> None:
    """Its heartbeats arrive, so it would be sent work for ever: it must notice by itself that it hears nothing."""
    site, queue, lease = linked.site, linked.site.queue(), 2
    deaf = site.hire(queue, slots=1, lease=lease, bootstrap=linked.link.address)
    running = site.probe(queue, "running", 3)
    site.until_running(queue, "running")
    linked.link.shut(Asked.READ)
    at = boot_ms()
    # What ran goes on, and its report arrives; nobody says that a slot is free for what is submitted now.
    assert site.until_ended(running) == ["SUCCEEDED"]
    sent = site.probe(queue, "sent", 0.2)
    until(lambda: deaf.said("dispatch_silent"), "it to notice that it hears nothing")
    told(f"lease {lease} s: cut of reading, to the worker's noticing", boot_ms() - at)
    site.hire(queue, slots=1, lease=lease)
    assert site.until_ended(sent) == ["SUCCEEDED"]
    told("cut of reading, to the end of a job on another worker", boot_ms() - at)
    assert len(deaf.sessions()) == 1, "it offers work that it could not hear of"
    linked.link.mend()
    mended = boot_ms()
    deaf.ready(2)
    told("reading mended, to the next session", boot_ms() - mended)
    assert len(site.intervals(queue, "running")) == 1
    site.assert_apart(queue, "running", "sent")
    site.judge((queue, "running"), (queue, "sent"))


def test_a_worker_that_can_read_but_not_write(linked: Linked) -> None:
    """Its heartbeats do not arrive: its lease ends on both sides, and what it ran runs elsewhere."""
    site, queue, lease = linked.site, linked.site.queue(), 2
    dumb = site.hire(queue, slots=1, lease=lease, bootstrap=linked.link.address)
    ticket = site.probe(queue, "job", lease + 1)
    site.until_running(queue, "job")
    linked.link.shut(Asked.WRITE)
    at = boot_ms()
    other = site.hire(queue, slots=1, lease=lease, wait=False)
    site.until_event(queue, "job", e.AttemptLost)
    told(f"lease {lease} s: cut of writing, to the loss of its attempt", boot_ms() - at)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    stopped, again = site.intervals(queue, "job")
    assert (stopped.finished, again.finished) == (False, True)
    told("cut of writing, to the stop of what it ran", stopped.last - at)
    linked.link.mend()
    mended = boot_ms()
    until(lambda: len({beat.session for beat in site.beats(dumb.name)}) == 2, "its next session to be heard of")
    told("writing mended, to the next session", boot_ms() - mended)
    assert len(other.sessions()) == 1
    site.assert_apart(queue, "job")
    site.judge((queue, "job"))


def test_a_broker_that_freezes_for_everyone(linked: Linked) -> None:
    site, queue, lease = linked.site, linked.site.queue(), 2
    site.hire(queue, slots=2, lease=lease)
    patient = site.probe(queue, "patient", 4, disconnect={"continue_for": "2m"})
    hasty = site.probe(queue, "hasty", 4)
    for job in ("patient", "hasty"):
        site.until_running(queue, job)
    at = boot_ms()
    linked.kafka.pause(0)
    try:
        until(lambda: site.intervals(queue, "patient")[0].finished, "the patient job to finish")
    finally:
        linked.kafka.resume(0)
    (stopped,) = site.intervals(queue, "hasty")
    told(f"lease {lease} s: the broker's freeze to the stop of what may not go on", stopped.last - at)
    assert stopped.last - at < lease * 1000
    assert site.until_ended(patient, hasty) == ["SUCCEEDED"] * 2
    assert len(site.intervals(queue, "patient")) == 1
    site.assert_apart(queue, "patient", "hasty")
    site.judge((queue, "patient"), (queue, "hasty"))


def test_a_report_waits_for_a_short_cut_to_end(linked: Linked) -> None:
    site, queue = linked.site, linked.site.queue()
    worker = site.hire(queue, slots=1, lease=8, bootstrap=linked.link.address)
    ticket = site.probe(queue, "job", 1)
    site.until_running(queue, "job")
    linked.link.cut()
    until(lambda: site.intervals(queue, "job")[0].finished, "the job to finish")
    time.sleep(1)  # so that its report would be in the log if anything passed
    assert not [r for r, _ in site.reports(queue, "job") if hasattr(r, "ended_at")]
    linked.link.mend()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    assert site.story(queue, "job") == ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]
    assert len(worker.sessions()) == 1
    site.judge((queue, "job"))


def test_kafka_that_goes_away_is_told_of_and_waited_for(linked: Linked) -> None:
    site, queue = linked.site, linked.site.queue()
    worker = site.hire(queue, slots=1, lease=2, bootstrap=linked.link.address)
    ticket = site.probe(queue, "job", 6, disconnect={"continue_for": "1m"})
    site.until_running(queue, "job")
    linked.link.down()
    until(lambda: worker.said("kafka_unreachable"), "a word of the worker about Kafka")
    assert all("todo" in line for line in worker.said("kafka_unreachable"))
    until(lambda: site.intervals(queue, "job")[0].finished, "the job to finish")
    lines = len(worker.said("kafka_unreachable"))
    told("lines about it in 6 s", lines, "lines")
    assert lines < 20
    linked.link.up()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    worker.ready(2)
    after = site.probe(queue, "after", 0.1)
    assert site.until_ended(after) == ["SUCCEEDED"]
    assert len(site.intervals(queue, "job")) == 1
    assert [line for line in worker.complaints() if "raw" in line] == []
    site.judge((queue, "job"), (queue, "after"))


def test_a_worker_starts_without_kafka_and_waits_for_it(linked: Linked) -> None:
    site, queue = linked.site, linked.site.queue()
    linked.link.down()
    worker = site.hire(queue, slots=1, bootstrap=linked.link.address, wait=False)
    ticket = site.probe(queue, "job", 0.1)
    said = until(lambda: worker.said("kafka_not_ready"), "a word of the worker about Kafka")
    assert "topics create" in said[0]["todo"]
    linked.link.up()
    at = boot_ms()
    worker.ready()
    told("Kafka's arrival to the worker's session", boot_ms() - at)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    site.judge((queue, "job"))


def test_a_worker_that_waits_for_kafka_leaves_when_told(linked: Linked) -> None:
    linked.link.down()
    worker = linked.site.hire("nothing", bootstrap=linked.link.address, wait=False)
    until(lambda: worker.said("kafka_not_ready") or worker.said("kafka_unreachable"), "a word of the worker")
    at = boot_ms()
    worker.popen.terminate()
    assert worker.left(30) == 0
    told("SIGTERM to the end of a worker without Kafka", boot_ms() - at)
    assert boot_ms() - at < 5_000 + SLACK_MS


def test_what_kafka_refuses_for_a_while_is_said_again(linked: Linked) -> None:
    """A topic whose limit, or whose rights, somebody changed by mistake, and changed back."""
    site, queue = linked.site, linked.site.queue()
    owner, worker = site.owner, site.hire(queue, slots=2)
    with _limited(site.settings, "dispatch"):
        given = site.submit(queue, "given", ["true"])
        until(lambda: owner.said("message_refused"), "the dispatch to be refused")
    assert site.until_ended(given) == ["SUCCEEDED"]
    told_of = site.probe(queue, "told-of", 1)
    site.until_running(queue, "told-of")
    with _limited(site.settings, "commands"):
        until(lambda: worker.said("report_refused"), "the report to be refused")
    assert site.until_ended(told_of) == ["SUCCEEDED"]
    assert site.story(queue, "given").count("AttemptDispatched") == 1


@contextmanager
def _limited(settings: Settings, kind: str) -> Iterator[None]:
    """Meanwhile Kafka takes no record of any size for the topic."""
    admin = AdminClient({**settings.kafka_settings("test")})

    def limit(size: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ResourceType.TOPIC, settings.topic(kind), incremental_configs=[entry])
        for done in admin.incremental_alter_configs([topic]).values():
            done.result()

    limit(60)
    try:
        yield
    finally:
        limit(4 * 1024 * 1024)

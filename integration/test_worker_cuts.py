"""Workers that cannot reach the log: attempts that may continue do, others stop in time, and reports are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from ftjm.client.ticket import Ticket
from ftjm.core.records import events as e
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from ftjm.runtime.clock import boot_ms
from ftjm.runtime.config import Settings
from integration.links import RequestKind, Valve, linked_kafka
from integration.waiting import until
from integration.workers import UNTIL_STOPPED, Site, Worker, attempts_of, print_figure


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
    shared.site.stop_workers()
    shared.link.down()


@dataclass
class Pair:
    """Two jobs that run, each on a worker of its own: a guard that is late to stop one job is killed with all it runs.

    The one may continue without the log, the other may not.
    """

    calm: str
    """The queue of the job `patient`."""
    rash: str
    """The queue of the job `hasty`."""
    patient: Ticket
    hasty: Ticket
    worker: Worker
    """The worker of the job `hasty`."""

    @classmethod
    def on(cls, site: Site, lease: float, seconds: float, bootstrap: str = "") -> Pair:
        """Start both. `seconds`: how long the job `patient` runs."""
        calm, rash = site.queue(), site.queue()
        site.start_worker(calm, slots=1, lease=lease, bootstrap=bootstrap)
        worker = site.start_worker(rash, slots=1, lease=lease, bootstrap=bootstrap)
        patient = site.probe(calm, "patient", seconds, disconnect={"continue_for": "2m"})
        hasty = site.probe(rash, "hasty", 0.5, first=UNTIL_STOPPED)
        site.until_running(calm, "patient")
        site.until_running(rash, "hasty")
        return cls(calm, rash, patient, hasty, worker)

    def check(self, site: Site) -> None:
        """Check that the patient job ran once, and that no two attempts ran at a time."""
        assert len(site.intervals(self.calm, "patient")) == 1
        site.assert_apart(self.calm, "patient")
        site.assert_apart(self.rash, "hasty")
        site.check((self.calm, "patient"), (self.rash, "hasty"))


def _cut_off(linked: Linked, *, lease: float, seconds: float, forget: bool = False) -> None:
    """Cut the workers alone from the log: an attempt with `continue_for` finishes, one without is stopped."""
    site, link = linked.site, linked.link
    pair = Pair.on(site, lease, lease * 2 + 1, link.address)
    at = boot_ms()
    link.cut(forget=forget)
    until(lambda: site.intervals(pair.calm, "patient")[0].finished, "the patient job to finish")
    lost = site.until_event(pair.rash, "hasty", e.AttemptLost)
    stopped = site.intervals(pair.rash, "hasty")[0]
    assert not stopped.finished
    print_figure(f"lease {lease} s: cut to the stop of what may not go on", stopped.last - at)
    assert stopped.last_wall < lost.at, "it went on past its lease"
    time.sleep(max(0.0, seconds - (boot_ms() - at) / 1000))
    link.mend()
    mended = boot_ms()
    site.client.ended([pair.patient], 90)
    print_figure(f"cut of {seconds} s mended, to the outcome that it held back", boot_ms() - mended)
    assert site.until_ended(pair.patient) == ["SUCCEEDED"]
    pair.worker.ready(2)
    print_figure("mended, to the next session", boot_ms() - mended)
    assert site.until_ended(pair.hasty) == ["SUCCEEDED"]
    print_figure("mended, to the stopped job's end", boot_ms() - mended)
    assert site.event_names(pair.calm, "patient") == ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]
    assert site.intervals(pair.rash, "hasty")[-1].finished
    assert site.view(pair.rash, "hasty").job.failures == 0
    # Its report on the stopped attempt came too late.
    refused = [x for x in attempts_of(site.history(pair.rash, "hasty"), e.CommandRejected) if x.code == "STALE_ATTEMPT"]
    assert refused
    pair.check(site)


def test_a_worker_that_is_cut_off(linked: Linked) -> None:
    _cut_off(linked, lease=5, seconds=25)


def test_a_worker_whose_connections_were_forgotten(linked: Linked) -> None:
    _cut_off(linked, lease=5, seconds=22, forget=True)


@pytest.mark.long
@pytest.mark.parametrize("forget", [False, True])
def test_a_worker_that_is_cut_off_for_a_minute(linked: Linked, *, forget: bool) -> None:
    _cut_off(linked, lease=5, seconds=60, forget=forget)


def test_a_worker_that_can_write_but_not_read(linked: Linked) -> None:
    """Owners receive its heartbeats and would send it work for ever: it must notice that it receives nothing."""
    site, queue, lease = linked.site, linked.site.queue(), 3
    deaf = site.start_worker(queue, slots=1, lease=lease, bootstrap=linked.link.address)
    running = site.probe(queue, "running", 3, disconnect={"continue_for": "2m"})
    site.until_running(queue, "running")
    linked.link.shut(RequestKind.READ)
    opened = len(deaf.sessions())
    at = boot_ms()
    # The running attempt goes on and its report arrives, but the worker must not offer its slot again.
    assert site.until_ended(running) == ["SUCCEEDED"]
    sent = site.probe(queue, "sent", 0.2)
    until(lambda: deaf.log_lines("dispatch_silent"), "it to notice that it receives nothing")
    print_figure(f"lease {lease} s: cut of reading, to the worker's noticing", boot_ms() - at)
    site.start_worker(queue, slots=1, lease=60)
    assert site.until_ended(sent) == ["SUCCEEDED"]
    print_figure("cut of reading, to the end of a job on another worker", boot_ms() - at)
    assert len(deaf.sessions()) == opened, "it opened a session although it cannot receive work"
    linked.link.mend()
    mended = boot_ms()
    deaf.ready(opened + 1)
    print_figure("reading mended, to the next session", boot_ms() - mended)
    assert len(site.intervals(queue, "running")) == 1
    site.assert_apart(queue, "running", "sent")
    site.check((queue, "running"), (queue, "sent"))


def test_a_worker_that_can_read_but_not_write(linked: Linked) -> None:
    """Its heartbeats do not arrive: its lease ends on both sides, and its attempts run elsewhere."""
    site, queue, lease = linked.site, linked.site.queue(), 3
    dumb = site.start_worker(queue, slots=1, lease=lease, bootstrap=linked.link.address)
    ticket = site.probe(queue, "job", 1.0, first=UNTIL_STOPPED)
    site.until_running(queue, "job")
    linked.link.shut(RequestKind.WRITE)
    at = boot_ms()
    other = site.start_worker(queue, slots=1, lease=60, wait=False)
    site.until_event(queue, "job", e.AttemptLost)
    print_figure(f"lease {lease} s: cut of writing, to the loss of its attempt", boot_ms() - at)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    stopped, *_, again = site.intervals(queue, "job")
    assert (stopped.finished, again.finished) == (False, True)
    print_figure("cut of writing, to the stop of what it ran", stopped.last - at)
    linked.link.mend()
    mended = boot_ms()
    # A session that was opened meanwhile may have lapsed when its first heartbeats arrive: then there is a third.
    until(lambda: len({beat.session for beat in site.heartbeats(dumb.name)}) >= 2, "heartbeats of its next session")
    print_figure("writing mended, to the next session", boot_ms() - mended)
    assert len(other.sessions()) == 1
    site.assert_apart(queue, "job")
    site.check((queue, "job"))


def test_a_broker_that_freezes_for_everyone(linked: Linked) -> None:
    site, lease = linked.site, 3
    pair = Pair.on(site, lease, 5)
    at = boot_ms()
    linked.kafka.pause(0)
    try:
        until(lambda: site.intervals(pair.calm, "patient")[0].finished, "the patient job to finish")
        until(lambda: boot_ms() - site.intervals(pair.rash, "hasty")[0].last > 1_000, "the hasty job to stop", 60)
    finally:
        linked.kafka.resume(0)
    stopped = site.intervals(pair.rash, "hasty")[0]
    assert not stopped.finished
    print_figure(f"lease {lease} s: the broker's freeze to the stop of what may not go on", stopped.last - at)
    assert site.until_ended(pair.patient, pair.hasty) == ["SUCCEEDED"] * 2
    pair.check(site)


def test_a_report_waits_for_a_short_cut_to_end(linked: Linked) -> None:
    site, queue = linked.site, linked.site.queue()
    worker = site.start_worker(queue, slots=1, lease=60, bootstrap=linked.link.address)
    ticket = site.probe(queue, "job", 2)
    site.until_running(queue, "job")
    linked.link.cut()
    until(lambda: site.intervals(queue, "job")[0].finished, "the job to finish")
    time.sleep(1)  # so that its report would be in the log if any record passed
    assert not [r for r, _ in site.reports(queue, "job") if hasattr(r, "ended_at")]
    linked.link.mend()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    assert site.event_names(queue, "job") == ["JobSubmitted", "AttemptDispatched", "AttemptSucceeded"]
    assert len(worker.sessions()) == 1
    site.check((queue, "job"))


def test_a_worker_warns_of_kafka_that_is_away_and_waits_for_it(linked: Linked) -> None:
    site, queue = linked.site, linked.site.queue()
    worker = site.start_worker(queue, slots=1, lease=3, bootstrap=linked.link.address)
    ticket = site.probe(queue, "job", 6, disconnect={"continue_for": "1m"})
    site.until_running(queue, "job")
    linked.link.down()
    until(lambda: worker.log_lines("kafka_unreachable"), "a line of the worker about Kafka")
    assert all("todo" in line for line in worker.log_lines("kafka_unreachable"))
    until(lambda: site.intervals(queue, "job")[0].finished, "the job to finish")
    lines = len(worker.log_lines("kafka_unreachable"))
    print_figure("lines about it in 6 s", lines, "lines")
    assert lines < 20
    linked.link.up()
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    worker.ready(2)
    after = site.probe(queue, "after", 0.1)
    assert site.until_ended(after) == ["SUCCEEDED"]
    assert len(site.intervals(queue, "job")) == 1
    assert [line for line in worker.error_lines() if "raw" in line] == []
    site.check((queue, "job"), (queue, "after"))


def test_a_worker_starts_without_kafka_and_waits_for_it(linked: Linked) -> None:
    site, queue = linked.site, linked.site.queue()
    linked.link.down()
    worker = site.start_worker(queue, slots=1, bootstrap=linked.link.address, wait=False)
    ticket = site.probe(queue, "job", 0.1)
    lines = until(lambda: worker.log_lines("kafka_not_ready"), "a line of the worker about Kafka")
    assert "topics create" in lines[0]["todo"]
    linked.link.up()
    at = boot_ms()
    worker.ready()
    print_figure("Kafka's arrival to the worker's session", boot_ms() - at)
    assert site.until_ended(ticket) == ["SUCCEEDED"]
    site.check((queue, "job"))


def test_a_worker_that_waits_for_kafka_leaves_on_request(linked: Linked) -> None:
    linked.link.down()
    worker = linked.site.start_worker("nothing", bootstrap=linked.link.address, wait=False)
    until(lambda: worker.log_lines("kafka_not_ready") or worker.log_lines("kafka_unreachable"), "a line of the worker")
    at = boot_ms()
    worker.popen.terminate()
    assert worker.wait_for_exit() == 0
    print_figure("SIGTERM to the end of a worker without Kafka", boot_ms() - at)
    assert boot_ms() - at < 60_000


def test_a_report_that_kafka_refuses_is_sent_again(linked: Linked, tmp_path: Path) -> None:
    """The topic's limit of record sizes is changed by mistake, and changed back."""
    site, queue = linked.site, linked.site.queue()
    owner, worker = site.owner, site.start_worker(queue, slots=2, lease=60)
    with _limited(site.settings, "dispatch"):
        given = site.submit(queue, "given", ["true"])
        until(lambda: owner.log_lines("message_refused"), "the dispatch to be refused")
    assert site.until_ended(given) == ["SUCCEEDED"]
    go = tmp_path / "go"
    refused_report = site.submit(queue, "told-of", ["sh", "-c", f"until [ -e {go} ]; do sleep 0.05; done"])
    site.until_event(queue, "told-of", e.AttemptStarted)
    with _limited(site.settings, "commands"):
        go.touch()
        until(lambda: worker.log_lines("report_refused"), "the report to be refused")
    assert site.until_ended(refused_report) == ["SUCCEEDED"]
    assert site.event_names(queue, "given").count("AttemptDispatched") == 1


@contextmanager
def _limited(settings: Settings, kind: str) -> Iterator[None]:
    """Within the block Kafka takes no record of any size for the topic."""
    admin = AdminClient({**settings.kafka_settings("test")})

    def limit(size: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ResourceType.TOPIC, settings.topic(kind), incremental_configs=[entry])
        (done,) = admin.incremental_alter_configs([topic]).values()
        done.result()
        until(lambda: known() == str(size), "the change to reach the broker")

    def known() -> str:
        (found,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, settings.topic(kind))]).values()
        return str(found.result()["max.message.bytes"].value)

    limit(60)
    try:
        yield
    finally:
        limit(4 * 1024 * 1024)

"""Drills on three brokers: three hosts, each with a broker, a scheduler and a worker. See docs/runbook.md.

The last test of the file destroys the brokers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftjm.adapters.kafka import topics
from ftjm.core.records import events as e
from ftjm.lab.chaos.faults import GUARD_MS
from ftjm.lab.chaos.process_trees import kill_tree, send, stop_tree
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from ftjm.readmodel import one_shot
from ftjm.readmodel.queries import Filter
from ftjm.runtime.clock import boot_ms
from ftjm.runtime.config import Settings
from integration.drills import Ground, now_ms
from integration.harness import Process
from integration.waiting import until
from integration.workers import print_figure

HOSTS = range(3)
UNANSWERED = 50
"""Submissions, 10 of them a second: an outage of about 5 s."""


class Hosts(Ground):
    """Three hosts: the broker, the scheduler and the worker of one number fail and return together."""

    def __init__(self, kafka: EmbeddedKafka, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.kafka = kafka
        self.schedulers = [self.scheduler(f"s{n}") for n in HOSTS]
        self.workers = [self.worker(f"w{n}") for n in HOSTS]

    def of(self, host: int) -> list[Process]:
        return [self.schedulers[host], self.workers[host]]

    def lose(self, host: int) -> None:
        """Kill all processes of the host with SIGKILL."""
        self.kafka.kill_broker(host)
        for process in self.of(host):
            kill_tree(process.pid)
        for process in self.of(host):
            process.kill()

    def wipe(self, host: int) -> None:
        """Empty the disks of a host that is down: the broker's log and the scheduler's stores."""
        shutil.rmtree(self.kafka.directory / f"broker-{host}")
        shutil.rmtree(self.settings.data_dir / self.schedulers[host].name)

    def come_back(self, host: int) -> int:
        """Start all processes of the host. Return the time of the beginning, in ms."""
        began = now_ms()
        self.kafka.start_broker(host)
        print_figure(f"host {host} started, to its broker as a member", now_ms() - began)
        for process in self.of(host):
            process.start()
        return began


@pytest.fixture
def hosts(kafka3: EmbeddedKafka, cluster3: Settings, tmp_path: Path) -> Iterator[Hosts]:
    with Hosts(kafka3, cluster3, tmp_path) as found:
        found.until_owners("s0", "s1", "s2")
        yield found


@pytest.mark.long
def test_one_two_and_three_of_three_brokers_are_killed_and_started(hosts: Hosts) -> None:
    kafka = hosts.kafka
    with hosts.working() as load:
        for count in (1, 2, 3):
            load.until(10)
            killed = now_ms()
            for index in range(count):
                kafka.kill_broker(index)
            if count == 1:
                hosts.until_decided_again("one broker of three killed", killed)
            else:
                # Too few brokers are left to take a record: submissions wait, and so do schedulers and workers.
                until(lambda: len(load.tickets) - len(load.acknowledged) > UNANSWERED, "submissions to wait")
            repaired = now_ms()
            if count == len(HOSTS):
                kafka.stop()
                kafka.start()
            else:
                with ThreadPoolExecutor(count) as each:
                    list(each.map(kafka.start_broker, range(count)))
            print_figure(f"{count} of three brokers started, to all of them as members", now_ms() - repaired)
            hosts.until_decided_again(f"{count} of three brokers started", repaired)
    hosts.check()


@pytest.mark.long
def test_a_host_is_lost_and_comes_back(hosts: Hosts) -> None:
    with hosts.working() as load:
        load.until(20)
        running = hosts.submit("running", 3.0)
        hosts.until_running(running)
        lost = now_ms()
        hosts.lose(0)
        hosts.until_decided_again("a host with scheduler, worker and broker killed", lost)
        load.until(20)
        repaired = hosts.come_back(0)
        hosts.until_decided_again("that host started", repaired)
        hosts.until_owners("s0", "s1", "s2")
    hosts.check()
    print_losses(hosts, lost)


@pytest.mark.long
def test_a_host_freezes_and_wakes(hosts: Hosts) -> None:
    with hosts.working() as load:
        load.until(20)
        running = hosts.submit("running", 3.0)
        hosts.until_running(running)
        silent = now_ms()
        with frozen([*(process.pid for process in hosts.of(0)), hosts.kafka.pid(0)]):
            hosts.until_decided_again("a host with scheduler, worker and broker silent", silent)
            load.until(20)
            # The lease of its worker ends, and the worker's attempts run elsewhere.
            hosts.until_finished(running)
            woken = boot_ms()
        hosts.until_decided_again("that host woken", now_ms())
        hosts.until_owners("s0", "s1", "s2")
    hosts.check({"w0": [(woken, woken + GUARD_MS)]})
    print_losses(hosts, silent)


def test_faults_on_three_hosts_at_once_and_an_empty_host_as_replacement(hosts: Hosts) -> None:
    """One host is lost with its disks, the scheduler of the second is killed, and the worker of the third is silent."""
    with hosts.working() as load:
        load.until(20)
        running = hosts.submit("running", 3.0)
        hosts.until_running(running)
        lost = now_ms()
        with frozen([hosts.workers[2].pid]):
            hosts.schedulers[1].kill()
            hosts.lose(0)
            hosts.wipe(0)
            hosts.until_decided_again("a host lost, a scheduler killed and a worker silent", lost)
            load.until(20)
            hosts.until_finished(running)
            woken = boot_ms()
        repaired = hosts.come_back(0)
        hosts.schedulers[1].start()
        hosts.until_decided_again("an empty host in its place", repaired)
        hosts.until_owners("s0", "s1", "s2")
        until(lambda: in_sync(hosts.settings) == len(HOSTS), "the new broker to have all its replicas in sync")
        print_figure("an empty host in its place, to a broker that is in sync", now_ms() - repaired)
    hosts.check({"w2": [(woken, woken + GUARD_MS)]})
    print_losses(hosts, lost)


def test_the_quorum_is_lost_for_good_and_the_cluster_restored_elsewhere(hosts: Hosts, tmp_path: Path) -> None:
    place = str(tmp_path / "export")
    with hosts.working() as load:
        load.until(30)
        waiting = hosts.submit("waiting", 5.0)
        kept = list(load.acknowledged)
        ftjm(hosts.settings, "snapshot", "export", place)
        load.until(10)
    later = [job for job in hosts.jobs if job not in {*kept, *waiting}]
    for host in HOSTS:
        hosts.lose(host)
    shutil.rmtree(hosts.kafka.directory)

    began = now_ms()
    with EmbeddedKafka(tmp_path / "elsewhere", 1, free_base_port()) as kafka:
        changed = {"bootstrap": kafka.bootstrap, "data_dir": tmp_path / "new-data", "cluster": "restored"}
        settings = hosts.settings.model_copy(update=changed)
        (tmp_path / "new").mkdir()
        topics.create(settings)
        restoring = now_ms()
        ftjm(settings, "snapshot", "import", place)
        print_figure("the restore: ftjm snapshot import", now_ms() - restoring)
        with Ground(settings, tmp_path / "new") as ground:
            ground.submit("after", 0.05)
            ground.scheduler("a")
            ground.worker()
            ground.until_decided_again("a new Kafka, the restore and a new scheduler", began)
            succeeded = until(lambda: wholly_succeeded(settings, {*kept, *waiting}), "all exported jobs to succeed")
        print_figure(
            "acknowledged after the export, and gone with the quorum", len(later) - len(succeeded & {*later}), "jobs"
        )


# ---- helpers


@contextlib.contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Stop these processes, and all below them, for a while."""
    stopped = [process for pid in pids for process in stop_tree(pid)]
    try:
        yield
    finally:
        send(stopped, signal.SIGCONT)


def ftjm(settings: Settings, *arguments: str) -> None:
    command = [sys.executable, "-m", "ftjm", *arguments]
    environment = {**os.environ, **settings.environment()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def wholly_succeeded(settings: Settings, jobs: set[tuple[str, str]]) -> set[tuple[str, str]] | None:
    """Wait until `jobs` have succeeded. Return all jobs that have succeeded."""
    with one_shot.folded_log(settings) as (reader, _):
        listed = reader.jobs(Filter(), 1_000).jobs
        found = {(q, j) for q, _, j in (one.key.partition("/") for one in listed if one.job.state.name == "SUCCEEDED")}
    return found if jobs <= found else None


def in_sync(settings: Settings) -> int:
    """The smallest number of in-sync replicas among the partitions of the log."""
    from confluent_kafka.admin import AdminClient

    known = AdminClient(settings.kafka_settings("test")).list_topics(timeout=60).topics
    ours = [known[settings.topic(kind)] for kind in ("commands", "events", "snapshots", "dispatch")]
    return min(len(partition.isrs) for topic in ours for partition in topic.partitions.values())


def print_losses(hosts: Hosts, since_ms: int) -> None:
    """Print how many attempts were lost with a worker, and how long after its loss the last one was noticed."""
    log = hosts.log()
    times = [b.time_ms for b in log.all() for event in b.events if isinstance(event, e.AttemptLost)]
    if times:
        print_figure(
            f"{len(times)} attempts were lost with a worker; the last was noticed after", max(times) - since_ms
        )

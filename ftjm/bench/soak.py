"""A cluster that works for long: whether its memory and its files stay as they are, and its history is right.

Everything that tidies up is set to do so within minutes (retention, snapshots, trimming), so that an hour shows what
weeks would. The history is judged while it is made, since the log is trimmed behind it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TypeVar

import psutil
from confluent_kafka import KafkaException

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.bench.cluster import Cluster
from ftjm.bench.load import Load
from ftjm.bench.options import Work
from ftjm.bench.report import Figure, significant
from ftjm.checker import Entry, Judge, Kind, Report
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.errors import FtjmError

SETTINGS: Mapping[str, object] = {
    "retention_seconds": 60.0,
    "snapshot_seconds": 60.0,
    "audit_retention_seconds": 180.0,
}
JOBS_PER_SECOND = 2.0
"""For each partition: real commands, in processes of their own."""
SAMPLE_SECONDS = 5.0
SHARE = 0.2
"""The first and the last fifth of the samples behind the warm-up are compared."""
WARM_UP = 0.1
"""Of the whole time: caches fill, the JVM compiles."""
END_SECONDS_MAX = 60.0
AGAIN_SECONDS = 0.5
MIB = 1024 * 1024
BLOCK_BYTES = 512

T = TypeVar("T")


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    seconds = cluster.options.minutes * 60
    cluster.start_schedulers()
    cluster.start_workers(Work.COMMAND)
    samples = Samples()
    with Follower(cluster.settings) as follower, Load(cluster, Work.COMMAND, JOBS_PER_SECOND) as load:
        cluster.progress.step("working")
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            samples.take(cluster.processes())
            samples.take_disk(directories(cluster))
            cluster.crew.check()
            follower.check()
            cluster.progress.move(int(passed), int(seconds))
            time.sleep(min(SAMPLE_SECONDS, seconds - passed))
        load.stop()
        jobs = load.acknowledged()
        report = follower.finish(jobs)
    doubled, lost = report.kinds[Kind.DOUBLED], report.kinds[Kind.LOST]
    return {
        "minutes": cluster.options.minutes,
        "jobs": report.jobs,
        "events": report.events,
        "lost": lost,
        "doubled": doubled,
        "other_violations": sum(report.kinds.values()) - lost - doubled,
        **samples.figures(),
    }


def directories(cluster: Cluster) -> dict[str, Path]:
    """What grows on disk, by whose it is: the schedulers' stores, and our own brokers' logs."""
    found = {name: cluster.settings.data_dir / name for name in cluster.processes() if name.startswith("scheduler")}
    if not cluster.options.bootstrap:
        found |= {f"broker-{n}": cluster.folder / "kafka" / f"broker-{n}" for n in range(cluster.options.brokers)}
    return found


def used_mb(directory: Path) -> float:
    """What its files take of the disk; those that go meanwhile take none."""
    blocks = 0
    for folder, _, names in os.walk(directory):  # which passes over folders that go meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                blocks += Path(folder, name).lstat().st_blocks
    return blocks * BLOCK_BYTES / MIB


class Samples:
    """What each process holds, in memory and on disk, over time."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._disks: dict[str, list[float]] = defaultdict(list)

    def take(self, processes: Mapping[str, psutil.Process]) -> None:
        for name, process in processes.items():
            held = process.memory_info().rss / MIB
            self._taken[name].append((held, process.num_fds()))

    def take_disk(self, directories: Mapping[str, Path]) -> None:
        for name, directory in directories.items():
            self._disks[name].append(used_mb(directory))

    def figures(self) -> dict[str, Figure]:
        """Medians of the first and of the last samples, of memory and disk in MB and of file handles."""
        found: dict[str, Figure] = {}
        for name, taken in sorted(self._taken.items()):
            for which, part in _ends(taken):
                found[f"{name}_{which}_mb"] = significant(median(held for held, _ in part))
                found[f"{name}_{which}_files"] = int(median(files for _, files in part))
        for name, disks in sorted(self._disks.items()):
            for which, used in _ends(disks):
                found[f"{name}_{which}_disk_mb"] = significant(median(used))
        return found


def _ends(taken: Sequence[T]) -> tuple[tuple[str, Sequence[T]], tuple[str, Sequence[T]]]:
    """The first and the last samples behind the warm-up."""
    steady = taken[int(len(taken) * WARM_UP) :]
    some = max(1, int(len(steady) * SHARE))
    return ("first", steady[:some]), ("last", steady[-some:])


class Follower:
    """Judges events as they are committed, on a thread of its own. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._judge = Judge()
        self._ended = 0
        self._seen = time.monotonic()
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        settings = self._settings
        try:
            with Scan(settings.kafka_settings("bench"), settings.topic("events")) as scan:
                starts = dict.fromkeys(range(settings.partitions), 0)
                while not self._over.is_set():
                    try:
                        for record in scan.read(starts):
                            event: e.Event | e.BatchClosed = codec.decode(record.value)
                            self._judge.take(Entry(record.partition, record.offset, event, record.time_ms))
                            starts[record.partition] = record.offset + 1
                            self._ended += isinstance(event, e.AttemptSucceeded | e.JobFailed)
                        self._seen = time.monotonic()
                    except KafkaException:
                        # A machine that does much else keeps a broker from answering for longer than a look waits.
                        if time.monotonic() - self._seen > END_SECONDS_MAX:
                            raise
                        self._over.wait(AGAIN_SECONDS)
        except Exception as error:  # noqa: BLE001  (raised where it is asked for)
            self._failure = error

    def check(self) -> None:
        """Raise what went wrong."""
        if self._failure is not None:
            raise self._failure

    def finish(self, jobs: list[tuple[str, str]]) -> Report:
        """Wait until all `jobs` have ended, and judge. Raises FtjmError if they do not."""
        deadline = time.monotonic() + END_SECONDS_MAX
        while self._ended < len(jobs):
            self.check()
            if time.monotonic() > deadline:
                raise FtjmError(f"{len(jobs)} jobs to end", f"{self._ended} have", "look at the load of this machine")
            time.sleep(0.1)
        self._over.set()
        self._thread.join()
        return self._judge.finish(jobs)

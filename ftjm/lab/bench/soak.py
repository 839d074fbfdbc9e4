"""The suite `soak`: a cluster works for a long time; its memory and files must not grow, and its history must be right.

Retention, snapshots and trimming are set to minutes, so that an hour shows what weeks would show. The history is judged
while it is made, since the log is trimmed behind it.
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

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.records import events as e
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind
from ftjm.lab.bench.report import Figure, significant
from ftjm.lab.bench.steady_load import SteadyLoad
from ftjm.lab.checker import Judge, LogEntry, Verdict, ViolationKind
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

SETTINGS: Mapping[str, object] = {
    "retention_seconds": 60.0,
    "snapshot_seconds": 60.0,
    "audit_retention_seconds": 180.0,
}
JOBS_PER_SECOND = 2.0
"""Rate of each partition. The jobs are real commands, each a process of its own."""
SAMPLE_SECONDS = 5.0
SHARE = 0.2
"""The first and the last fifth of the samples after the warm-up are compared."""
WARM_UP = 0.1
"""Share of the whole time that is not counted: caches fill, and the JVM compiles."""
END_SECONDS_MAX = 60.0
AGAIN_SECONDS = 0.5
MIB = 1024 * 1024
BLOCK_BYTES = 512

T = TypeVar("T")


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    seconds = cluster.options.minutes * 60
    cluster.start_schedulers()
    cluster.start_workers(WorkKind.COMMAND)
    samples = Samples()
    with LiveJudge(cluster.settings) as follower, SteadyLoad(cluster, WorkKind.COMMAND, JOBS_PER_SECOND) as load:
        cluster.progress.step("waiting for the first job")
        cluster.counter.until(e.AttemptSucceeded, 1)
        cluster.progress.step("working")
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            samples.take(cluster.running_processes())
            samples.take_disk(directories(cluster))
            cluster.group.check()
            follower.check()
            cluster.progress.move(int(passed), int(seconds))
            time.sleep(min(SAMPLE_SECONDS, seconds - passed))
        load.stop()
        jobs = load.acknowledged()
        verdict = follower.finish(jobs)
    doubled, lost = verdict.kinds[ViolationKind.DOUBLED], verdict.kinds[ViolationKind.LOST]
    return {
        "minutes": cluster.options.minutes,
        "jobs": verdict.jobs,
        "events": verdict.events,
        "lost": lost,
        "doubled": doubled,
        "other_violations": sum(verdict.kinds.values()) - lost - doubled,
        **samples.figures(),
    }


def directories(cluster: BenchCluster) -> dict[str, Path]:
    """Return the directories that grow, by process: stores of schedulers, and logs of embedded brokers."""
    found = {
        name: cluster.settings.data_dir / name for name in cluster.running_processes() if name.startswith("scheduler")
    }
    if not cluster.options.bootstrap:
        found |= {f"broker-{n}": cluster.folder / "kafka" / f"broker-{n}" for n in range(cluster.options.brokers)}
    return found


def used_mb(directory: Path) -> float:
    """Return the disk space that the files of a directory take, MB.

    Files that are deleted meanwhile count as nothing.
    """
    blocks = 0
    for folder, _, names in os.walk(directory):  # os.walk skips folders that are deleted meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                blocks += Path(folder, name).lstat().st_blocks
    return blocks * BLOCK_BYTES / MIB


class Samples:
    """Samples of the memory, the open files and the disk space of each process."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._disks: dict[str, list[float]] = defaultdict(list)

    def take(self, processes: Mapping[str, psutil.Process]) -> None:
        """Sample memory and open files of these processes."""
        for name, process in processes.items():
            used = process.memory_info().rss / MIB
            self._taken[name].append((used, process.num_fds()))

    def take_disk(self, directories: Mapping[str, Path]) -> None:
        """Sample the disk space of these directories."""
        for name, directory in directories.items():
            self._disks[name].append(used_mb(directory))

    def figures(self) -> dict[str, Figure]:
        """Return the medians of the first and of the last samples: memory and disk in MB, and number of open files."""
        found: dict[str, Figure] = {}
        for name, taken in sorted(self._taken.items()):
            for which, part in _first_and_last(taken):
                found[f"{name}_{which}_mb"] = significant(median(used for used, _ in part))
                found[f"{name}_{which}_files"] = int(median(files for _, files in part))
        for name, disks in sorted(self._disks.items()):
            for which, used in _first_and_last(disks):
                found[f"{name}_{which}_disk_mb"] = significant(median(used))
        return found


def _first_and_last(taken: Sequence[T]) -> tuple[tuple[str, Sequence[T]], tuple[str, Sequence[T]]]:
    """Return the first and the last samples after the warm-up."""
    steady = taken[int(len(taken) * WARM_UP) :]
    some = max(1, int(len(steady) * SHARE))
    return ("first", steady[:some]), ("last", steady[-some:])


class LiveJudge:
    """Judges events as they are committed, in a thread of its own. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._judge = Judge()
        self._ended = 0
        self._seen = time.monotonic()
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)

    def __enter__(self) -> LiveJudge:
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
                            self._judge.take(LogEntry(record.partition, record.offset, event, record.time_ms))
                            starts[record.partition] = record.offset + 1
                            self._ended += isinstance(event, e.AttemptSucceeded | e.JobFailed)
                        self._seen = time.monotonic()
                    except LogError:
                        # On a busy machine, a broker may not answer within the time of one read.
                        if time.monotonic() - self._seen > END_SECONDS_MAX:
                            raise
                        self._over.wait(AGAIN_SECONDS)
        except Exception as error:  # noqa: BLE001  (raised by `check`)
            self._failure = error

    def check(self) -> None:
        """Raise the error that ended the thread, if one did."""
        if self._failure is not None:
            raise self._failure

    def finish(self, jobs: list[tuple[str, str]]) -> Verdict:
        """Wait until all `jobs` have ended, and return the verdict.

        Raises:
            FtjmError: some jobs did not end in time.
        """
        deadline = time.monotonic() + END_SECONDS_MAX
        while self._ended < len(jobs):
            self.check()
            if time.monotonic() > deadline:
                raise FtjmError(
                    f"{len(jobs)} jobs to end", f"{self._ended} have", "find out what keeps this machine busy"
                )
            time.sleep(0.1)
        self._over.set()
        self._thread.join()
        return self._judge.finish(jobs)

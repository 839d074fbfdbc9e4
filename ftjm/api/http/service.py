"""The shared parts of one API process: the projection, presence, the bridge for commands, threads for reading.

Handlers run on asyncio's loop. Everything that blocks runs on threads: SQLite on a few readers with a connection each,
Kafka on two others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.patience import QUIET
from ftjm.adapters.kafka.point_reader import PointReader
from ftjm.api.http.announcer import Announcer
from ftjm.api.http.command_bridge import CommandBridge
from ftjm.api.http.problems import ProblemError, unavailable, unknown_job
from ftjm.core.names import is_name
from ftjm.history.jobs import Recorded
from ftjm.readmodel.follower import ProjectionFollower, ProjectionStatus
from ftjm.readmodel.presence import PresenceListener
from ftjm.readmodel.queries import Reader, StoredJob
from ftjm.readmodel.tables import connect, submission_place
from ftjm.runtime.config import Settings

Answer = TypeVar("Answer")

READERS = 4
"""Threads that read the projection."""
CHECKERS = 2
"""Threads that read and check large bodies: on the event loop, one of 1 MB would keep all other requests waiting."""
LOG_READERS = 2
"""Threads that ask Kafka; further requests wait for one of them."""
CHECKED_HERE_BYTES = 4 * 1024
"""A body of this size is checked within a millisecond or two, and a thread would not be faster."""
AFTER_SECONDS_MAX = 5.0
"""How long a read waits for the command that it must see."""


class Service:
    """One API process, without its HTTP."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Create the service, on the event loop.

        Args:
            folder: the folder of the projection.
        """
        self.settings = settings
        self.draining = asyncio.Event()
        """An event that is set when the process is about to stop."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._path = folder / "projection.db"
        self.follower = ProjectionFollower(settings, self._path, self._projection_changed)
        self.listener = PresenceListener(settings)
        self.commands = CommandBridge(settings)
        self._announcer = Announcer(settings)
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._checkers = ThreadPoolExecutor(CHECKERS, thread_name_prefix="checker")
        self._log_readers = ThreadPoolExecutor(LOG_READERS, thread_name_prefix="log-reader")
        self._point_readers: SimpleQueue[PointReader] = SimpleQueue()

    def start(self) -> None:
        """Start all threads."""
        for part in (self.follower, self.listener, self.commands, self._announcer):
            part.start()

    def stop(self) -> None:
        """Stop all threads, and wait for their ends."""
        for part in (self._announcer, self.commands, self.listener, self.follower):
            part.stop()
        self._readers.shutdown()
        self._checkers.shutdown()
        self._log_readers.shutdown()
        while not self._point_readers.empty():
            self._point_readers.get().close()

    @property
    def status(self) -> ProjectionStatus:
        """The state of the projection: its age, and whether it continues."""
        return self.follower.status

    @property
    def why_not_ready(self) -> str:
        """The reason why requests should go to another instance; empty if this one is ready.

        A Kafka that does not answer is no reason: another instance could not do better.
        """
        status = self.status
        if self.draining.is_set():
            return "it is about to stop"
        if status.fault:
            return status.fault
        if not status.caught_up:
            return "it has not read the log to its end yet"
        return "" if self.commands.is_connected else "it cannot send commands yet"

    # -- reading

    async def read(self, query: Callable[[Reader], Answer]) -> Answer:
        """Run a query on the projection, on a thread that has a connection of its own."""
        return await self._loop.run_in_executor(self._readers, self._query, query)

    def _query(self, query: Callable[[Reader], Answer]) -> Answer:
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = Reader(connect(self._path, read_only=True))
        return query(reader)

    async def check(self, size: int, work: Callable[[], Answer]) -> Answer:
        """Read or check a body of `size` bytes: a small one here and now, a large one on a thread."""
        if size <= CHECKED_HERE_BYTES:
            return work()
        return await self._loop.run_in_executor(self._checkers, work)

    async def ask_kafka(self, request: Callable[[], Answer]) -> Answer:
        """Run a function that asks the brokers, on a thread. Raises ProblemError if Kafka does not answer."""
        try:
            return await self._loop.run_in_executor(self._log_readers, request)
        except LogError as error:
            detail = f"expected Kafka to answer, but {error}; try again"
            raise unavailable(detail) from error

    async def job(self, queue: str, job_id: str) -> StoredJob:
        """Read a job. Raises ProblemError if there is none."""
        if is_name(queue) and is_name(job_id):
            found = await self.read(lambda reader: reader.job(queue, job_id))
            if found is not None:
                return found
        raise unknown_job(f"{queue}/{job_id}")

    async def events(self, found: StoredJob, offsets: Sequence[int]) -> list[Recorded]:
        """Read events of a job by their offsets; those that the log no longer has are missing from the result.

        The newest events are in memory; others are read from Kafka. Raises ProblemError if it does not answer.
        """
        partition, _ = submission_place(found.listed.id)
        values = self.follower.recent.find(partition, offsets)
        if missing := [offset for offset in offsets if offset not in values]:
            values |= await self.ask_kafka(lambda: self._read_points(partition, missing))
        return [Recorded(partition, offset, codec.decode(values[offset])) for offset in offsets if offset in values]

    def _read_points(self, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        try:
            reader = self._point_readers.get_nowait()
        except Empty:
            kafka = QUIET | self.settings.kafka_settings("api")
            reader = PointReader(kafka, self.settings.topic("events"))
        try:
            found = reader.read(partition, offsets)
        except BaseException:
            reader.close()  # a new one may know a broker that answers
            raise
        self._point_readers.put(reader)
        return found

    async def presence_is_settled(self) -> None:
        """Wait until a heartbeat of every process has arrived; only an API that was just started has to wait."""
        await asyncio.sleep(self.listener.settles_in_seconds)

    # -- waiting until a command is applied

    def _projection_changed(self) -> None:
        """Called from the projection's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_waiting)

    def _wake_waiting(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until_applied(self, token: str) -> None:
        """Wait until a command is decided and reads see what it changed.

        Args:
            token: the command's place in the log, `PARTITION-OFFSET`.

        Raises:
            ProblemError: there is no such command, or it takes longer than `AFTER_SECONDS_MAX`.
        """
        partition, offset = map(int, token.split("-"))
        if offset >= self.follower.command_ends.get(partition, 0):
            await self._require_command(partition, offset)
        deadline = self._loop.time() + AFTER_SECONDS_MAX
        while True:
            changed = self._changed
            position = self.follower.positions.get(partition)
            if position is not None and position.next_command > offset:
                return
            left = deadline - self._loop.time()
            try:
                await asyncio.wait_for(changed.wait(), max(0.0, left))
            except TimeoutError:
                detail = (
                    f"expected command {token} to be decided and applied here within {AFTER_SECONDS_MAX:g} s, but it "
                    f"is not; try again, and see /api/v1/partitions for an owner of partition {partition}"
                )
                raise unavailable(detail, code="NOT_REACHED") from None

    async def _require_command(self, partition: int, offset: int) -> None:
        """Raise ProblemError if the log has no such command, so that no request waits for one that cannot come."""
        count, topic = self.follower.partitions, self.settings.topic("commands")
        if not count:
            raise unavailable("expected Kafka to answer, but it has not answered since the API was started; try again")
        ends = await self.ask_kafka(lambda: self.follower.observer.ends(topic, count, committed=False))
        if offset >= ends.get(partition, 0):
            detail = (
                f"expected the token of a command, but the log has no command {partition}-{offset}; copy the token "
                f"from the answer to the command"
            )
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail, code="NO_SUCH_COMMAND")

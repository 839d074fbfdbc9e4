"""What the handlers of one API process share: the projection, who was heard, the desk, and threads for reading."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from confluent_kafka import KafkaException

from ftjm.adapters import codec
from ftjm.adapters.kafka_points import PointReader
from ftjm.api import problems
from ftjm.api.desk import Desk
from ftjm.api.following import Following, Freshness
from ftjm.api.presence import Listener
from ftjm.api.problems import ProblemError
from ftjm.api.queries import Found, Reader
from ftjm.api.tables import connect, place_of
from ftjm.config import Settings
from ftjm.core.names import is_name
from ftjm.jobhistory import Recorded
from ftjm.patience import QUIET

Answer = TypeVar("Answer")

READERS = 4
AFTER_SECONDS = 5.0
"""How long a read waits for the decision that it must see."""
RECORDS_AT_ONCE = 2
"""Readers of the log that are kept; more requests wait for one."""


class Service:
    """One API process, without its HTTP."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.draining = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._path = folder / "projection.db"
        self.following = Following(settings, self._path, self._tell)
        self.listener = Listener(settings)
        self.desk = Desk(settings)
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._log_pool = ThreadPoolExecutor(RECORDS_AT_ONCE, thread_name_prefix="log-reader")
        self._points: SimpleQueue[PointReader] = SimpleQueue()

    def start(self) -> None:
        for part in (self.following, self.listener, self.desk):
            part.start()

    def stop(self) -> None:
        """End all threads. Blocks."""
        for part in (self.desk, self.listener, self.following):
            part.stop()
        self._pool.shutdown()
        self._log_pool.shutdown()
        while not self._points.empty():
            self._points.get().close()

    @property
    def freshness(self) -> Freshness:
        return self.following.freshness

    @property
    def why_not_ready(self) -> str:
        """Why requests should go elsewhere; empty if they need not."""
        known = self.freshness
        if self.draining.is_set():
            return "it is about to stop"
        if known.fault:
            return known.fault
        if not known.caught_up:
            return "it has not reached the end of the log yet"
        return "" if self.desk.open else "it cannot send commands yet"

    # -- reading

    async def read(self, query: Callable[[Reader], Answer]) -> Answer:
        """Ask the projection, on a thread that has a connection of its own."""
        return await self._loop.run_in_executor(self._pool, self._ask, query)

    def _ask(self, query: Callable[[Reader], Answer]) -> Answer:
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = Reader(connect(self._path, read_only=True))
        return query(reader)

    async def aside(self, question: Callable[[], Answer]) -> Answer:
        """Something else that blocks, such as a question to the brokers. Raises ProblemError where Kafka is away."""
        try:
            return await self._loop.run_in_executor(self._log_pool, question)
        except KafkaException as error:
            raise problems.away(f"the log does not answer: {error.args[0].str()}") from error

    async def job(self, queue: str, job_id: str) -> Found:
        """A job. Raises ProblemError if there is none."""
        name = f"{queue}/{job_id}"
        found = (
            await self.read(lambda reader: reader.job(queue, job_id)) if is_name(queue) and is_name(job_id) else None
        )
        if found is None:
            raise problems.no_such_job(name)
        return found

    async def records(self, found: Found, offsets: Sequence[int]) -> list[Recorded]:
        """Events of a job, by the log; those that it no longer has are missing.

        What is not among the newest is asked of Kafka. Raises ProblemError where that is away.
        """
        partition, _ = place_of(found.listed.id)
        values = self.following.recent.find(partition, offsets)
        if missing := [offset for offset in offsets if offset not in values]:
            values |= await self.aside(lambda: self._point(partition, missing))
        return [Recorded(partition, offset, codec.decode(values[offset])) for offset in offsets if offset in values]

    def _point(self, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        try:
            reader = self._points.get_nowait()
        except Empty:
            kafka = QUIET | self.settings.kafka_settings("api")
            reader = PointReader(kafka, self.settings.topic("events"))
        try:
            found = reader.read(partition, offsets)
        except BaseException:
            reader.close()  # another one may know of a broker that answers
            raise
        self._points.put(reader)
        return found

    async def heard_everyone(self) -> None:
        """Wait, where this process has just begun to listen, until who is there has been heard."""
        await asyncio.sleep(self.listener.settles_in_seconds)

    # -- waiting for what was decided

    def _tell(self) -> None:
        """From the projection's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._pulse)

    def _pulse(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def reached(self, token: str) -> None:
        """Wait until the command of `token` was decided and can be read. Raises ProblemError if it takes too long."""
        partition, offset = map(int, token.split("-"))
        if offset >= self.following.command_ends.get(partition, 0):
            await self._require_command(partition, offset)
        deadline = self._loop.time() + AFTER_SECONDS
        while True:
            news = self._news
            at = self.following.positions.get(partition)
            if at is not None and at.next_command > offset:
                return
            left = deadline - self._loop.time()
            try:
                await asyncio.wait_for(news.wait(), max(0.0, left))
            except TimeoutError:
                text = f"command {token} was not decided within {AFTER_SECONDS:g} s, or is not seen here yet"
                raise problems.away(text, code="NOT_REACHED") from None

    async def _require_command(self, partition: int, offset: int) -> None:
        """That there is such a command: nobody need wait for one that there is not."""
        count, topic = self.following.partitions, self.settings.topic("commands")
        if not count:
            raise problems.away("no Kafka has answered yet")
        ends = await self.aside(lambda: self.following.observer.ends(topic, count, committed=False))
        if offset >= ends.get(partition, 0):
            text = f"expected the token of a command, but the log has no command {partition}-{offset}"
            raise ProblemError(HTTPStatus.BAD_REQUEST, text, code="NO_SUCH_COMMAND")

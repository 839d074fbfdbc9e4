"""Makes and reads the files of attempts for the guard, in a process that may hang in the guard's place.

The guard keeps the deadlines of all attempts, so it must not touch a file: the disk of the attempts' directories may
stop answering, and a job may put anything into its directory. A helper process, forked from the guard, does what
`attempts/file_requests.py` can do, one request after the other. If it leaves a request unanswered for `ANSWER_MS`, or
dies, the guard kills it. The request that it was at then gets an answer that says so. The others go to `SPREAD` new
helpers, so that files which hang delay the ends of other attempts, and do no more to them.
"""

import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.attempt_files import Found, Look, Make
from ftjm.worker.attempts.file_requests import FileRequest, carry_out
from ftjm.worker.attempts.launch import close_all_but
from ftjm.worker.attempts.linux_processes import kill
from ftjm.worker.attempts.protocol import Disconnected, FrameChannel
from ftjm.worker.executors.ports import ExecutorHost

ANSWER_MS = 5_000
"""How long reading the files of one attempt may take."""
SPREAD = 8
"""Among so many helpers the questions are divided that a helper has left unanswered."""


class Question(NamedTuple):
    """A request that waits for its answer."""

    request: FileRequest
    answer: Callable[[Found], None]


class Helper:
    """One life of a process that looks at files."""

    def __init__(self) -> None:
        """Fork it. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.pid = os.fork()
            except OSError:
                ours.close()
                raise
            if self.pid == 0:
                _serve(theirs)
        self.channel: FrameChannel[FileRequest, Found] = FrameChannel(ours, Found)
        self.fileno = self.channel.fileno
        self.waiting: dict[int, Question] = {}
        """What it has not answered, oldest first."""
        self.answer_by = 0
        """When it must have answered the oldest question, CLOCK_BOOTTIME ms."""

    def ask(self, question: Question) -> None:
        """Send a question."""
        if not self.waiting:
            self.answer_by = boot_ms() + ANSWER_MS
        self.waiting[question.request.number] = question
        # Its death is noticed where its answers are read.
        with suppress(Disconnected):
            self.channel.send(question.request)

    def answers(self) -> list[tuple[Question, Found]]:
        """The answers that have arrived. Raises Disconnected if it has died."""
        self.channel.flush()
        found = [(self.waiting.pop(answer.number), answer) for answer in self.channel.receive()]
        self.answer_by = boot_ms() + ANSWER_MS
        return found

    def end(self) -> None:
        """Kill it. The guard waits for it as for all its children."""
        self.channel.close()
        kill(self.pid, signal.SIGKILL)


def _serve(connection: socket.socket) -> NoReturn:
    """Be the process: answer questions until the guard has gone."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # The guard is known to have died when its connections are closed: here, too.
        close_all_but(0, 1, 2, connection.fileno())
        channel: FrameChannel[Found, FileRequest] = FrameChannel(connection, FileRequest)
        while True:
            select.select([channel], [], [])
            for request in channel.receive():
                channel.send(carry_out(request))
                while channel.wants_write:
                    # The next request may hang, and what is known must not be lost with this process.
                    select.select([], [channel], [])
                    channel.flush()
    finally:
        os._exit(0)


class FileReader:
    """Answers requests about the files of attempts."""

    def __init__(self, host: ExecutorHost, base: Path) -> None:
        """Start no process yet.

        Args:
            host: The guard, which waits for what helpers send.
            base: Attempts get their directories in it.
        """
        self._host, self._base = host, base
        self._directories = 0
        self._clean: list[str] = []
        """Directories of attempts that have ended which are as new."""
        self._unused: list[Path] = []
        """Directories that `directory` has returned, and that no attempt has used: they do not exist."""
        self._ready: set[str] = set()
        """Those of them that `directory` has returned, and that are not made yet."""
        self._number = 0
        self._helpers: list[Helper] = []
        """The last one gets new questions."""

    def ask(self, request: FileRequest, answer: Callable[[Found], None]) -> None:
        """Look at the files of an attempt, or make them.

        Args:
            request: What to do. Its number is set here.
            answer: Called in any case, now or later, with what was found.
        """
        if isinstance(request, Make) and request.directory in self._ready:
            self._ready.discard(request.directory)
            if not request.checkpoint:
                answer(Found(request.number))
                return
        elif isinstance(request, Look) and request.ended:
            self._ready.discard(request.directory)
        self._number += 1
        request.number = self._number
        question = Question(request, answer)
        if self._helpers:
            self._helpers[-1].ask(question)
        else:
            self._ask_another([question])

    def directory(self) -> Path:
        """A directory for a new attempt, which is as new or does not exist yet."""
        if self._clean:
            self._ready.add(self._clean[-1])
            return Path(self._clean.pop())
        if self._unused:
            return self._unused.pop()
        self._directories += 1
        return self._base / str(self._directories)

    def take_back(self, directory: Path) -> str:
        """Take back the directory of an attempt that never ran. Returns its path if it must be removed."""
        path = str(directory)
        if path not in self._ready:
            return path
        self._ready.discard(path)
        self._clean.append(path)
        return ""

    def take_back_unused(self, directory: Path) -> None:
        """Take back a directory that no attempt has used."""
        if self.take_back(directory):
            self._unused.append(directory)

    @property
    def is_busy(self) -> bool:
        """Whether a question waits for its answer."""
        return any(helper.waiting for helper in self._helpers)

    def owns(self, pid: int) -> bool:
        """Whether the process is a helper."""
        return any(helper.pid == pid for helper in self._helpers)

    def enforce(self, now: int) -> None:
        """Replace a helper that hangs; `now` is CLOCK_BOOTTIME ms."""
        for helper in list(self._helpers):
            if helper.waiting and now >= helper.answer_by:
                self._replace(helper, f"that took longer than {ANSWER_MS // 1000} s")

    def _serve(self, helper: Helper, _mask: int) -> None:
        try:
            answers = helper.answers()
        except Disconnected:
            self._replace(helper, "that ended the process that reads them")
            return
        if not helper.waiting and helper is not self._helpers[-1]:
            self._end(helper)
        for question, found in answers:
            if found.clean:
                self._clean.append(question.request.directory)
            question.answer(found)

    def _replace(self, helper: Helper, why: str) -> None:
        self._end(helper)
        waiting = list(helper.waiting.values())
        others = waiting[1:]
        for first in range(min(SPREAD, len(others))):
            self._ask_another(others[first::SPREAD])
        for culprit in waiting[:1]:
            _give_up(culprit, why)

    def _ask_another(self, questions: Sequence[Question]) -> None:
        try:
            helper = Helper()
        except OSError as error:
            for question in questions:
                _give_up(question, f"no process can be started for it ({error.strerror})")
            return
        self._helpers.append(helper)
        self._host.watch(helper, partial(self._serve, helper))
        for question in questions:
            helper.ask(question)

    def _end(self, helper: Helper) -> None:
        self._host.unwatch(helper)
        self._helpers.remove(helper)
        helper.end()


def _give_up(question: Question, why: str) -> None:
    request = question.request
    does = "read" if isinstance(request, Look) else "reach"
    todo = "look at the worker's disk and memory"
    text = f"expected to {does} the attempt's files in {request.directory}, but {why}; {todo}"
    found = Found(number=request.number, faults=[text])
    if not isinstance(request, Look) or request.result_limit >= 0:
        found.refusal = text
    if isinstance(request, Look):
        found.seen = request.seen
        if request.ended:
            found.scratch = request.directory
    question.answer(found)

"""The end of an attempt in its process, and the end of the process: what an ordinary end of a program does.

A task process ends by `os._exit`. An ordinary end would take apart all that the zygote has imported, which takes long,
and would run what the apps have registered for the end of the zygote.

**The end of an attempt** (`end_attempt`). The process is kept, so only what belongs to the attempt is done: what it has
registered with `atexit` is run, and what is in the buffers of open files is written. Files stay open, since a library
may keep one for the next attempt, as it keeps a connection to a database. Only compressed files are closed: before
that, they are no files that others can read.

**The end of the process** (`end`) does that as well. Before, it waits for threads, and after it, it runs what modules
have registered with `atexit` when a task imported them, and closes the files.
"""

import atexit
import gc
import io
import operator
import os
import signal
import stat
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from ftjm.worker.executors.python.perform import FAILED, write_error

OPEN_FILES_MAX = 64
"""A process in which attempts have left more descriptors open is not kept."""
ENDING_SECONDS = (0.001, 0.002, 0.005)
"""How long a child may take to end after its task. A new process would take longer."""
_WAITS_FOR = os.WEXITED | os.WNOHANG
_IMPORT = "<frozen importlib._bootstrap>"
_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
_COMPRESSED = ("gzip", "bz2", "lzma")
_inherited: list[io.IOBase] = []
"""The files that the interpreter and the apps have opened at import, as far as they are written."""
_left_open: set[weakref.ref[io.IOBase]] = set()
"""Files that earlier attempts have left open."""
_file = operator.itemgetter(stat.ST_DEV, stat.ST_INO)
_of_modules: list[Callable[[], object]] = []
"""What modules have registered for the end of the process while a task imported them."""
_register = atexit.register


class Descriptors:
    """Descriptors of this process: which are open, and whether the standard ones are what they were."""

    def __init__(self, *own: int) -> None:
        """Note the standard descriptors, and those of ours."""
        self._own = (0, 1, 2, *own)
        self._files = self._found()
        self._lowest = self._last = self.lowest_free()

    def lowest_free(self) -> int:
        """The lowest number that is free: it rises with each descriptor that is left open. Raises OSError."""
        fd = os.dup(0)
        os.close(fd)
        return fd

    def have_changed(self) -> bool:
        """Whether others are open than at the last call. Raises OSError."""
        before, self._last = self._last, self.lowest_free()
        return self._last != before

    def fault(self) -> str:
        """Why the process cannot be used again, as far as its descriptors go; empty if it can."""
        try:
            if self._found() != self._files:
                return "it has replaced descriptors of its process"
        except OSError:
            return "it has closed descriptors of its process"
        if self._last - self._lowest > OPEN_FILES_MAX:
            return f"it has left more than {OPEN_FILES_MAX} descriptors open"
        return ""

    def _found(self) -> list[object]:
        return [*map(_file, map(os.fstat, self._own))]


def note_open_files() -> None:
    """Note the files that are open in the zygote, whose forks inherit them with empty buffers."""
    _inherited[:] = (file for file in _files(gc.get_objects()) if not _is_never_written(file))
    _flush(_inherited)


def forget_inherited_exits() -> None:
    """Run at the end only what attempts register, and nothing that was registered in the zygote."""
    atexit._clear()
    for one in list(_finalizers().values()):
        one.atexit = False
    # It would register a function by which no finalizer is called any more.
    finalize: Any = weakref.finalize
    finalize._registered_with_atexit = True
    atexit.register = _register_for_attempt
    if processes := sys.modules.get("multiprocessing.util"):
        _of_modules.append(processes._exit_function)


def _register_for_attempt(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Stand for `atexit.register`: what a module registers at its import is for the end of the process."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            _of_modules.append(lambda: function(*args, **kwargs))
            return function
        frame = frame.f_back  # type: ignore[assignment]
    return _register(function, *args, **kwargs)


def threads_left() -> str:
    """Why the process cannot be used again, as far as threads go; empty if it can. Daemons may go on."""
    if threading.active_count() == 1:
        return ""
    is_left = sum(not thread.daemon for thread in threading.enumerate()) > 1
    return "it has left threads that are no daemons" if is_left else ""


def children_left() -> str:
    """Why the process cannot be used again, as far as its child processes go; empty if it can.

    A child whose output the task has read to its end may still be ending.
    """
    try:
        for pause in ENDING_SECONDS:
            while os.waitid(os.P_ALL, 0, _WAITS_FOR):
                pass
            time.sleep(pause)
        while os.waitid(os.P_ALL, 0, _WAITS_FOR):
            pass
    except ChildProcessError:
        return ""
    return "it has left processes behind"


def end_attempt(descriptors: Descriptors) -> None:
    """End an attempt in a process that is kept. What raises is written to standard errors."""
    if atexit._ncallbacks():
        _take(atexit._run_exitfuncs)
    if _finalizers():
        _take(_run_finalizers)
    if "logging" in sys.modules:
        _take(_flush_logging)
    try:
        is_changed = descriptors.have_changed()
    except OSError:
        is_changed = True
    if is_changed:
        _take(_find_files)
    if _left_open:
        _flush([file for reference in list(_left_open) if (file := reference()) is not None])
    _flush(_inherited)
    _flush((sys.stdout, sys.stderr))


def end(status: int) -> NoReturn:
    """End this process.

    Args:
        status: Its exit status; negative for the signal by which it ends.
    """
    try:
        shutdown: Any = threading._shutdown  # type: ignore[attr-defined]
        for step in (shutdown, atexit._run_exitfuncs, _run_finalizers, _end_modules, _end_logging, _close_files):
            _take(step)
    finally:
        if status < 0:
            signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(FAILED if status < 0 else status)


def _take(step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException:  # noqa: BLE001  (the other steps are taken all the same)
        write_error(traceback.format_exc())


def _finalizers() -> dict[Any, Any]:
    finalize: Any = weakref.finalize
    return finalize._registry  # type: ignore[no-any-return]


def _run_finalizers() -> None:
    """Call the finalizers (`weakref.finalize`) of living objects, the newest first."""
    pending = [(info.index, finalizer) for finalizer, info in list(_finalizers().items()) if info.atexit]
    for _, finalizer in sorted(pending, key=lambda one: one[0], reverse=True):
        _take(finalizer)


def _end_modules() -> None:
    while _of_modules:
        _take(_of_modules.pop())


def _flush_logging() -> None:
    for reference in sys.modules["logging"]._handlerList:
        handler = reference()
        if handler is not None:
            with suppress(Exception):
                handler.flush()


def _end_logging() -> None:
    if logging := sys.modules.get("logging"):
        logging.shutdown()


def _find_files() -> None:
    """Note the files that the attempt has left open. Compressed ones are closed."""
    # The collector was frozen in the zygote, so these are objects that were made since.
    files = _files(gc.get_objects())
    # Text goes to a compressed file first, and then to where that is stored.
    _call_all(file.flush for file in files if issubclass(type(file), io.TextIOWrapper))
    _call_all(file.close for file in files if type(file).__module__ in _COMPRESSED)
    for file in files:
        if issubclass(type(file), _BUFFERED) and not file.closed:
            _left_open.add(weakref.ref(file, _left_open.discard))


def _close_files() -> None:
    files = _files(gc.get_objects())
    streams = [sys.stdout, sys.stderr]
    # A file is closed before the file that it writes to: text before its buffer, a compressed file before its target.
    texts = [file for file in files if isinstance(file, io.TextIOBase)]
    wrappers = [file for file in files if type(file) not in (io.BufferedWriter, io.BufferedRandom, io.FileIO)]
    _call_all(file.close for file in (*texts, *wrappers) if file not in streams)
    _flush([*files, *_inherited, *streams])


def _files(objects: Iterable[object]) -> list[io.IOBase]:
    # `isinstance` would call code of the objects.
    return [one for one in objects if issubclass(type(one), io.IOBase)]  # type: ignore[misc]


def _is_never_written(file: io.IOBase) -> bool:
    """Whether it is a file of which nothing can be in a buffer, or the standard input."""
    if type(file) is io.TextIOWrapper:
        with suppress(ValueError):  # it has no buffer any more
            return type(file.buffer) is io.BufferedReader
    return type(file) in (io.FileIO, io.BufferedReader, io.BytesIO, io.StringIO)


def _flush(files: Iterable[Any]) -> None:
    try:
        for file in files:
            file.flush()
    except Exception:  # noqa: BLE001  (one has been closed or replaced: the others are flushed all the same)
        _call_all(partial(_flush_one, file) for file in files)


def _flush_one(file: Any) -> None:
    file.flush()


def _call_all(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        with suppress(Exception):
            function()

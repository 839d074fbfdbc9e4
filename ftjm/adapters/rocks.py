"""The store on RocksDB: one database a partition, one column family, no write-ahead log of its own.

The log is the write-ahead log. With one column family a flush is atomic, so that after a hard exit rows and
position agree: the store is then behind the log, and folds the rest.
"""

import shutil
import threading
import time
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from weakref import WeakSet

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from ftjm import logs
from ftjm.core.state import Changes
from ftjm.engine.ports import StoreFailed
from ftjm.errors import FtjmError

log = logs.get(__name__)

FLUSH_SECONDS = 30.0
"""A hard exit costs the folding of at most what came in this time, whether the store was its owner's or a standby's."""
VERIFY_ROWS = 1_000
"""Read at a stretch: 0.4 ms."""
CACHE_BYTES = 64 * 1024 * 1024
UNCACHE = {"uncache_aggressiveness": "1000"}
"""Blocks leave the cache with their file. RocksDB keeps them otherwise until others want the room: a process grew for
hours, by far more than its stores hold."""
CACHE = Cache(CACHE_BYTES)
"""One for all stores of the process, indexes and filters included: each its own would be 32 MB a partition."""


def _options() -> Options:
    tables = BlockBasedOptions()
    tables.set_block_cache(CACHE)
    tables.set_cache_index_and_filter_blocks(True)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(tables)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(3)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_open_files(64)
    options.set_max_background_jobs(2)
    return options


def _opened(path: Path, read_only: bool) -> Rdict:
    access = AccessType.read_only() if read_only else AccessType.read_write()
    db = Rdict(str(path), _options(), access_type=access)
    try:
        if not read_only:
            db.set_options(UNCACHE)
    except BaseException:
        db.close()
        raise
    return db


class DamagedStore(StoreFailed):
    """The files are no sound database: the store has to be made anew from the log."""


def _failure(error: Exception) -> StoreFailed:
    """rocksdict raises plain Exception for all that RocksDB says. A file that is gone is damage like any other."""
    text = str(error)
    damaged = "Corruption" in text or "No such file" in text
    return (DamagedStore if damaged else StoreFailed)(text)


class RocksStore:
    """Owns the database and every iterator on it: a handle that outlives `close` would keep its lock."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises DamagedStore, and FtjmError if another process has it open or the directory cannot be used."""
        self.path = path
        self._read_only = read_only
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
        try:
            self._db = _opened(path, read_only)
        except Exception as error:
            if isinstance(failure := _failure(error), DamagedStore) and path.is_dir():
                raise failure from error
            todo = "stop the process that has it open, or look at the directory's permissions"
            if "No space left" in str(error):
                todo = "make room on the disk"
            raise FtjmError(f"to open the store {path}", str(error), todo) from error
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        self._held = threading.Lock()
        """A checkpoint is made on another thread, and must not meet a close."""
        self._scans: WeakSet[Generator[tuple[bytes, bytes], None, None]] = WeakSet()
        self._write_options = WriteOptions()
        # A property, although the package's stub calls it a method.
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]

    def get(self, key: bytes) -> bytes | None:
        try:
            found: bytes | None = self._db.get(key)
        except Exception as error:
            raise _failure(error) from error
        return found

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        scan = self._rows(start, end)
        self._scans.add(scan)
        return scan

    def _rows(self, start: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        rows = self._db.iter(options)
        rows.seek(start)
        while rows.valid():
            yield rows.key(), rows.value()
            rows.next()
        try:
            # Rows behind a damaged block look like rows that are not there.
            rows.status()
        except Exception as error:
            raise _failure(error) from error

    def verify(self) -> None:
        """Read every block, so that RocksDB compares its checksum. Raises DamagedStore, StoreFailed."""
        options = ReadOptions()
        options.fill_cache(False)  # type: ignore[call-arg]  # its stub lacks the argument
        rows = self._db.iter(options)
        rows.seek_to_first()
        for number in count(1):
            if not rows.valid():
                break
            rows.next()
            if number % VERIFY_ROWS == 0:
                time.sleep(0)  # others want the interpreter, too
        try:
            rows.status()
        except Exception as error:
            raise _failure(error) from error

    def write(self, changes: Changes) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._db.write(batch, self._write_options)
            if time.monotonic() > self._flush_at:
                self._flush_at = time.monotonic() + FLUSH_SECONDS
                self._db.flush(False)
        except Exception as error:
            raise _failure(error) from error

    def flush(self) -> None:
        """Make what was written outlive a hard exit."""
        try:
            self._db.flush()
        except Exception as error:
            raise _failure(error) from error

    def checkpoint(self, directory: Path) -> None:
        """The store as it is now, as files in a directory that must not be there yet, by hard links. Any thread.

        Making a checkpoint holds the interpreter, but what was flushed before, which does not, it need not write.
        Raises DamagedStore, StoreFailed.
        """
        with self._held:
            try:
                self._db.flush()
                # Nothing holds it longer: it would keep the database's lock.
                Checkpoint(self._db).create_checkpoint(str(directory))
            except Exception as error:
                raise _failure(error) from error

    def clear(self) -> None:
        """Delete everything and begin anew."""
        with self._held:
            self._end_scans()
            self._db.close()
        shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        self._db = _opened(self.path, read_only=False)

    def close(self) -> None:
        """Let go of the files, whatever they can still take: rows that are not flushed are in the log."""
        with self._held:
            self._end_scans()
            for act in (self._db.close,) if self._read_only else (self._db.flush, self._db.close):
                try:
                    act()
                except Exception as error:  # noqa: BLE001  (rocksdict raises plain Exception: a full disk, for one)
                    log.warning("store_not_flushed", store=str(self.path), error=str(error), todo="make room")

    def _end_scans(self) -> None:
        for scan in list(self._scans):
            scan.close()

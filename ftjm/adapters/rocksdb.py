"""The store on RocksDB: one database for each partition, with one column family and no write-ahead log.

The partition's log is the write-ahead log. With one column family a flush is atomic, so rows and position agree after a
hard exit: the store is then behind the log, and folds the missing events again.
"""

import shutil
import threading
import time
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from weakref import ref

from rocksdict import (
    AccessType,
    BlockBasedIndexType,
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

from ftjm.core.state.rows import Changes
from ftjm.engine.ports import StoreFailed
from ftjm.runtime import logs, private_files
from ftjm.runtime.errors import FtjmError

log = logs.get(__name__)

FLUSH_SECONDS = 30.0
"""Time between flushes. After a hard exit, at most the events of this time are folded again."""
SCANS_MAX = 100
"""Number of scans at which those that have ended are forgotten."""
VERIFY_ROWS = 1_000
"""Rows that `verify` reads before it yields to other threads: 0.4 ms."""
CACHE_BYTES = 64 * 1024 * 1024
"""Size of the block cache."""
UNCACHE = {"uncache_aggressiveness": "1000"}
"""Blocks leave the cache when their file is deleted. By default RocksDB keeps them until their room is needed: a
process then grew for hours, by far more than its stores hold."""
FILTER_BITS = 10
"""Bits for each row in a file's filter, which tells that the file lacks a row. No file has a job that is submitted."""
CACHE = Cache(CACHE_BYTES)
"""One cache for all stores of the process, indexes and filters included. One for each store would take 32 MB each."""


def _options() -> Options:
    tables = BlockBasedOptions()
    tables.set_block_cache(CACHE)
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_bloom_filter(FILTER_BITS, False)
    # Indexes and filters are made of small blocks. One for a whole file is larger than a shard of the cache (a 64th of
    # it), and would be read again for each row.
    tables.set_index_type(BlockBasedIndexType.two_level_index_search())
    tables.set_partition_filters(True)
    tables.set_metadata_block_size(4096)
    tables.set_pin_top_level_index_and_filter(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
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
    """The files are damaged: the store has to be rebuilt from a snapshot or the log."""


def _failure(error: Exception) -> StoreFailed:
    """Distinguish damage from other failures by RocksDB's text: rocksdict raises plain Exception for all. A missing
    file is damage, too."""
    text = str(error)
    damaged = "Corruption" in text or "No such file" in text
    return (DamagedStore if damaged else StoreFailed)(text)


class RocksStore:
    """One partition's rows in a RocksDB database.

    It owns the database and all iterators on it: a handle that outlives `close` would keep the database's lock.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the store, or make an empty one.

        Args:
            path: its directory.
            read_only: open it beside a process that writes it. Rows that were not flushed are not seen.

        Raises:
            DamagedStore: the files are damaged.
            FtjmError: another process has it open, or the directory cannot be used.
        """
        self.path = path
        self._read_only = read_only
        if not read_only:
            private_files.make_directory(path)
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
        """A lock that is held while another thread makes a checkpoint of the database, or while it is being closed."""
        self._scans: list[ref[Generator[tuple[bytes, bytes], None, None]]] = []
        """Scans that may not have ended. (A `WeakSet` takes as long to add to as the scan itself.)"""
        self._scans_max = SCANS_MAX
        """The length at which ended ones are dropped from the list."""
        self._write_options = WriteOptions()
        # It is a property, although the package's stub declares a method.
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if there is no such row. Raises StoreFailed."""
        try:
            found: bytes | None = self._db.get(key)
        except Exception as error:
            raise _failure(error) from error
        return found

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows with start <= key < end, in the order of their keys. Raises StoreFailed."""
        scan = self._rows(start, end)
        if len(self._scans) >= self._scans_max:
            self._scans = [each for each in self._scans if each() is not None]
            # Placement keeps a scan for each queue that waits: the list must not be searched at each of thousands.
            self._scans_max = max(SCANS_MAX, 2 * len(self._scans))
        self._scans.append(ref(scan))
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
            # Without this check, rows behind a damaged block would seem to be absent.
            rows.status()
        except Exception as error:
            raise _failure(error) from error

    def verify(self) -> None:
        """Read every block of rows, so that RocksDB compares its checksum. Filters are not read: they hold no row.

        Raises:
            DamagedStore: a block is damaged.
            StoreFailed: the store cannot be read.
        """
        options = ReadOptions()
        options.fill_cache(False)  # type: ignore[call-arg]  # its stub lacks the argument
        rows = self._db.iter(options)
        rows.seek_to_first()
        for number in count(1):
            if not rows.valid():
                break
            rows.next()
            if number % VERIFY_ROWS == 0:
                time.sleep(0)  # let other threads run
        try:
            rows.status()
        except Exception as error:
            raise _failure(error) from error

    def write(self, changes: Changes) -> None:
        """Write and delete rows in one atomic step; a value of None deletes the row. Raises StoreFailed.

        Every `FLUSH_SECONDS`, it also starts to write the rows in memory to files.
        """
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
        """Write all rows to disk, so that they outlive a hard exit."""
        try:
            self._db.flush()
        except Exception as error:
            raise _failure(error) from error

    def checkpoint(self, directory: Path) -> None:
        """Make a copy of the store as it is now, by hard links. Any thread may call this.

        Making a checkpoint holds the interpreter, and flushing does not. So the store is flushed first, and little is
        left to write for the checkpoint.

        Args:
            directory: the directory to write to; it must not exist.

        Raises:
            DamagedStore: the files are damaged.
            StoreFailed: the checkpoint cannot be written.
        """
        with self._held:
            try:
                self._db.flush()
                # No reference to the checkpoint is kept: it would keep the database's lock.
                Checkpoint(self._db).create_checkpoint(str(directory))
            except Exception as error:
                raise _failure(error) from error

    def clear(self) -> None:
        """Delete all rows."""
        with self._held:
            self._end_scans()
            self._db.close()
        shutil.rmtree(self.path)
        private_files.make_directory(self.path)
        self._db = _opened(self.path, read_only=False)

    def close(self) -> None:
        """Close the files. A failure to flush is only logged: rows that were not flushed are in the log."""
        with self._held:
            self._end_scans()
            for act in (self._db.close,) if self._read_only else (self._db.flush, self._db.close):
                try:
                    act()
                except Exception as error:  # noqa: BLE001  (rocksdict raises plain Exception: a full disk, for one)
                    log.warning("store_not_flushed", store=str(self.path), error=str(error), todo="make room")

    def _end_scans(self) -> None:
        for each in self._scans:
            if (scan := each()) is not None:
                scan.close()
        self._scans.clear()

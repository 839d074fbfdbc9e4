"""The store on RocksDB: one database a partition, one column family, no write-ahead log of its own.

The log is the write-ahead log. With one column family a flush is atomic, so that after a hard exit rows and
position agree: the store is then behind the log, and folds the rest.
"""

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from weakref import WeakSet

from rocksdict import AccessType, DBCompressionType, Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from ftjm.core.state import Changes
from ftjm.errors import FtjmError


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(3)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_open_files(64)
    options.set_max_background_jobs(2)
    return options


class DamagedStore(Exception):
    """The files are no sound database: the store has to be made anew from the log."""


class RocksStore:
    """Owns the database and every iterator on it: a handle that outlives `close` would keep its lock."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises DamagedStore, and FtjmError if another process has it open or the directory cannot be used."""
        self.path = path
        self._read_only = read_only
        access = AccessType.read_only() if read_only else AccessType.read_write()
        if not read_only:
            path.mkdir(parents=True, exist_ok=True)
        try:
            self._db = Rdict(str(path), _options(), access_type=access)
        except Exception as error:  # rocksdict raises plain Exception for all that RocksDB says
            if "Corruption" in str(error):
                raise DamagedStore(str(error)) from error
            raise FtjmError(
                expected=f"to open the store {path}",
                found=str(error),
                todo="stop the process that has it open, or look at the directory's permissions",
            ) from error
        self._scans: WeakSet[Generator[tuple[bytes, bytes], None, None]] = WeakSet()
        self._write_options = WriteOptions()
        # A property, although the package's stub calls it a method.
        self._write_options.disable_wal = True  # type: ignore[method-assign,assignment]

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._db.get(key)
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

    def write(self, changes: Changes) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._db.write(batch, self._write_options)

    def flush(self) -> None:
        """Make what was written outlive a hard exit."""
        self._db.flush()

    def clear(self) -> None:
        """Delete everything and begin anew."""
        self._end_scans()
        self._db.close()
        shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        self._db = Rdict(str(self.path), _options())

    def close(self) -> None:
        if not self._read_only:
            self._db.flush()
        self._end_scans()
        self._db.close()

    def _end_scans(self) -> None:
        for scan in list(self._scans):
            scan.close()

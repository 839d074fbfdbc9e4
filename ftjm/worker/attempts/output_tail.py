"""The end of what an attempt writes to its standard output or errors, within a limit of memory."""

import os
from collections import deque

_CHUNK_BYTES = 1 << 16
_PIPE_BYTES_MAX = 1 << 20
"""No unprivileged pipe holds more. So a process that keeps writing cannot keep the guard reading forever."""


class OutputTail:
    """The last `limit_bytes` bytes that came through a pipe, and the number of bytes before them."""

    def __init__(self, fd: int, limit_bytes: int) -> None:
        """Take over `fd`, the reading end of the pipe, and make it non-blocking."""
        os.set_blocking(fd, False)
        self.fd = fd
        self._limit_bytes = limit_bytes
        self._chunks: deque[bytes] = deque()
        self._kept_bytes = 0
        self._cut_bytes = 0

    def read(self) -> bool:
        """Read one chunk from the pipe.

        Returns:
            False once every writing end is closed and all is read.
        """
        try:
            chunk = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        self._chunks.append(chunk)
        self._kept_bytes += len(chunk)
        while self._kept_bytes - len(self._chunks[0]) >= self._limit_bytes:
            dropped = len(self._chunks.popleft())
            self._kept_bytes -= dropped
            self._cut_bytes += dropped
        return True

    def drain(self) -> None:
        """Read the bytes that are in the pipe now. Other processes may still hold its writing end."""
        for _ in range(_PIPE_BYTES_MAX // _CHUNK_BYTES):
            before = self._kept_bytes + self._cut_bytes
            if not self.read() or self._kept_bytes + self._cut_bytes == before:
                return

    def result(self) -> tuple[bytes, int]:
        """The tail, and the number of bytes that were cut off before it. Both are forgotten here."""
        if not self._chunks:
            return b"", 0
        whole = b"".join(self._chunks)
        tail = whole[max(0, len(whole) - self._limit_bytes) :]
        cut = self._cut_bytes + len(whole) - len(tail)
        self.clear()
        return tail, cut

    def clear(self) -> None:
        """Forget what was read so far."""
        if not self._chunks:
            return
        self._chunks.clear()
        self._kept_bytes = self._cut_bytes = 0

    def fileno(self) -> int:
        """The reading end."""
        return self.fd

    def close(self) -> None:
        """Close the reading end."""
        os.close(self.fd)

"""Avro's integers, which also are lengths and counts of items: zigzag, 7 bits in each byte, the low bits first.

The functions that `compiled` generates call these where an integer takes more than one byte.
"""

from __future__ import annotations

REMEMBERED_MAX = 4_096
"""Integers whose bytes are remembered. Large ones are mostly times, and those of one batch are the same."""
SMALL = tuple((n >> 1) ^ -(n & 1) for n in range(128))
"""The integers that Avro writes in one byte, by that byte."""


def read_long(d: bytes, i: int) -> tuple[int, int]:
    """Read an integer at `i`; returns it and the offset behind it.

    Raises:
        IndexError: the bytes end before it does.
        ValueError: it has more than 64 bits.
    """
    n = d[i]
    if n < 128:
        return SMALL[n], i + 1
    more = d[i + 1]
    if more < 128:
        n += (more << 7) - 128
        return (n >> 1) ^ -(n & 1), i + 2
    # Times as ms since the Unix epoch have six bytes.
    value = _times.get(d[i : i + 6])
    if value is not None:
        return value, i + 6
    end, shift = i + 1, 7
    n &= 127
    while shift < 70:
        more = d[end]
        end += 1
        n |= (more & 127) << shift
        if more < 128:
            break
        shift += 7
    if n >> 64 or shift == 70:
        raise ValueError("expected an integer of at most 64 bits")
    value = (n >> 1) ^ -(n & 1)
    if end - i == 6:
        if len(_times) >= REMEMBERED_MAX:
            _times.clear()
        _times[d[i:end]] = value
    return value, end


_times: dict[bytes, int] = {}
known_time = _times.get
"""Returns the integer that these six bytes are, if it was read before; else None."""


def read_size(d: bytes, i: int) -> tuple[int, int]:
    """Read a length at `i`. Raises ValueError for a negative one, with which a reader could go back and never end."""
    n, i = read_long(d, i)
    if n < 0:
        raise ValueError(f"expected a length, but found {n}")
    return n, i


def read_block(d: bytes, i: int) -> tuple[int, int]:
    """Read the head of a block: how many items it has, and where they begin.

    A negative count is followed by the size of the items in bytes, which is not needed here.
    """
    n, i = read_long(d, i)
    if n < 0:
        _, i = read_size(d, i)
        return -n, i
    return n, i


class Longs(dict[int, bytes]):
    """The bytes of integers, which are made when they are first asked for."""

    def __missing__(self, value: int) -> bytes:
        if not -(2**63) <= value < 2**63:
            raise OverflowError(f"expected an integer of at most 64 bits, but found {value}")
        n, made = (value << 1) ^ (value >> 63), bytearray()
        while n > 127:
            made.append(n & 127 | 128)
            n >>= 7
        made.append(n)
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[value] = bytes(made)
        return self[value]


LONGS = Longs()

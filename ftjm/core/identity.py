"""Names, identities, and where a key lives."""

from functools import lru_cache
from hashlib import blake2b

import msgspec

from ftjm.core.model import JobSpec
from ftjm.core.names import is_name

DEFAULT_QUEUE = "default"

_encode = msgspec.msgpack.Encoder(order="sorted").encode


def parse_job(text: str) -> tuple[str, str]:
    """Split `queue/job_id`; a bare id means the queue `default`.

    Raises:
        ValueError: if either part is not a name.
    """
    queue, slash, job_id = text.partition("/")
    if not slash:
        queue, job_id = DEFAULT_QUEUE, text
    for what, name in (("queue", queue), ("job id", job_id)):
        if not is_name(name):
            raise ValueError(
                f"expected a job as QUEUE/ID, each part 1 to 128 of A-Z a-z 0-9 . _ - starting with a letter or "
                f"a digit, but the {what} is {name!r}"
            )
    return queue, job_id


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 of Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`), signed there,
    unsigned here."""
    length, m = len(data), 0x5BD1E995
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ k >> 24) * m & 0xFFFFFFFF
        h = h * m & 0xFFFFFFFF ^ k
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


@lru_cache(maxsize=1_024)
def partition_for(key: str, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives `key`."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def content_hash(spec: JobSpec) -> bytes:
    """16 bytes that tell whether two submissions ask for the same: of the fields as the user gave them, with
    delays kept relative, so that submitting again later is still the same."""
    return blake2b(_encode(spec), digest_size=16).digest()
